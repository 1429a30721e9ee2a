"""Ray without processes: workers live in this process, and a test decides which are lost and when."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from inference.batch.distributed import driver
from inference.batch.distributed.actor import Actor
from inference.batch.distributed.cluster import Cluster
from inference.batch.distributed.share import Share

_numbers = itertools.count()


class RayError(Exception):
    """Base of Ray's errors."""


class RayTaskError(RayError):
    """Failure in a method of a worker."""


class _Errors:
    RayError = RayError
    RayTaskError = RayTaskError


class _Call:
    """Call of a method, carried out when its result is asked for."""

    def __init__(self, worker: "Worker", name: str, arguments: Sequence[Any]) -> None:
        self.worker, self.name, self._arguments = worker, name, arguments
        self.number = next(_numbers)

    def result(self) -> Any:
        if self.worker.lost:
            raise RayError("The actor died")
        return self.worker.call(self.name, self._arguments)


class _Method:
    def __init__(self, worker: "Worker", name: str) -> None:
        self._worker, self._name = worker, name

    def options(self, **_: Any) -> "_Method":
        return self

    def remote(self, *arguments: Any) -> _Call:
        call = _Call(self._worker, self._name, arguments)
        if self._name in ("stop", "abandon"):
            call.result()
        return call


class Worker:
    """Handle of a worker.

    Args:
        number: Number of the worker, from 0.
        actor: What it does.
        before: Called with the number, the method and its arguments before each call; may raise.
        after: The same, after each call.
    """

    def __init__(self, number: int, actor: Actor, before: Callable[..., None], after: Callable[..., None]) -> None:
        self.number, self._actor, self._before, self._after = number, actor, before, after
        self.lost = self.killed = False
        self.called: list[str] = []

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        self.called.append(name)
        self._before(self, name, *arguments)
        result = getattr(self._actor, name)(*arguments)
        self._after(self, name, *arguments)
        return result

    def __getattr__(self, name: str) -> _Method:
        return _Method(self, name)


class FakeRay:
    """Part of the module `ray` that the driver uses."""

    exceptions = _Errors

    def wait(self, calls: list[_Call], num_returns: int = 1, timeout: float = 0) -> tuple[list[_Call], list[_Call]]:
        calls = sorted(calls, key=lambda call: call.number)  # the first to be asked is the first to answer
        return calls[:num_returns], calls[num_returns:]

    def get(self, call: _Call, timeout: float | None = None) -> Any:
        return call.result()

    def kill(self, worker: Worker) -> None:
        worker.lost = worker.killed = True


def nothing(*_: Any) -> None:
    """Do nothing."""


def install(
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[..., None] = nothing,
    after: Callable[..., None] = nothing,
    needed: Callable[[int], Sequence[str]] | None = None,
) -> list[Worker]:
    """Have the command use this Ray; return the list that all workers are added to.

    Args:
        monkeypatch: Undoes it.
        before: See `Worker`.
        after: See `Worker`.
        needed: Returns files that the worker of this number must see, beside those of the command.
    """
    workers: list[Worker] = []
    numbers = itertools.count()

    @contextlib.contextmanager
    def open_cluster(settings: Any, options: Any, files: Sequence[Path]) -> Iterator[Cluster]:
        def new_worker() -> Worker:
            number = next(numbers)
            more = [] if needed is None else needed(number)
            worker = Worker(number, Actor(str(Path.cwd()), [*map(str, files), *more]), before, after)
            workers.append(worker)
            return worker

        number = settings.workers or 1
        yield Cluster(FakeRay(), Share(number, 1, 0, number), new_worker)

    monkeypatch.setattr(driver, "open_cluster", open_cluster)
    return workers

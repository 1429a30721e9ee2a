"""Driver of a batch on Ray: hands images to workers, replaces workers that are lost, and takes their outcomes."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from inference.batch.attempt import Attempt
from inference.batch.distributed.actor import CONTROL, Place
from inference.batch.distributed.cluster import Cluster, open_cluster
from inference.batch.distributed.options import RayOptions
from inference.batch.journal import DONE, FAILED
from inference.batch.progress import BatchProgress
from inference.batch.queue import Queue, Task
from inference.batch.worker import Outcome
from inference.common.errors import UserError, first_line
from inference.common.files import clear_temporaries_of
from inference.common.paths import is_address, user_path
from inference.common.signals import StopHandler, raise_stopped
from inference.model.choose import choose_model
from inference.options import Options

STOP_SECONDS = 20.0
"""Time in which workers end their images after a stop signal; then they are killed."""
_POLL_SECONDS = 0.2
_SHOW_SECONDS = 1.0
_MOST_FAILED_STARTS = 3
_WAITING_SECONDS = 30.0  # after which it is said that no worker has started


@dataclass(frozen=True)
class Work:
    """Work of a batch, and where its outcomes go.

    Attributes:
        queue: Images that wait.
        attempt: Returns the attempt for an image.
        started: Called before an attempt writes its first file.
        record: Called with each outcome.
        files: Returns the paths of all files of an image.
        bar: Progress.
        local: True if the folder of the maps is one that each worker must see.
    """

    queue: Queue
    attempt: Callable[[Task], Attempt]
    started: Callable[[Task], None]
    record: Callable[[Attempt, Outcome], None]
    files: Callable[[Task], Sequence[Path]]
    bar: BatchProgress
    local: bool = True


@dataclass
class _Slot:
    """Worker, and what it does.

    Attributes:
        actor: Handle of the worker.
        answer: Reference to the result of the method that it was sent; None if it is idle.
        doing: That method.
        place: Its place; None until it has started.
        attempt: The attempt; None if it has no image.
        progress: Reference to the progress that was asked for.
    """

    actor: Any
    answer: Any = None
    doing: Literal["place", "prepare", "run"] = "place"
    place: Place | None = None
    attempt: Attempt | None = None
    progress: Any = None


def map_on_ray(settings: RayOptions, options: Options, journal: Path, work: Work) -> None:
    """Map the images of a batch on Ray.

    Args:
        settings: Options of Ray.
        options: Options of the maps.
        journal: Journal of the batch, which lies in the folder of the maps.
        work: The images.

    Raises:
        UserError: Ray can't be used, no worker can start, or the model can't be loaded.
    """
    if not len(work.queue):
        return
    needed = [*([journal] if work.local else []), *_files_read(options)]
    with open_cluster(settings, options, needed) as cluster, StopHandler(raise_stopped) as handler:
        if cluster.share.room < cluster.share.workers:
            work.bar.say(
                f"--ray: the cluster has room for {cluster.share.room:,} of {cluster.share.workers:,} workers with "
                f"{cluster.share.threads} CPUs and {cluster.share.gpus:g} GPUs each; others start when it has more"
            )
        crew = _Workers(cluster, work, min(cluster.share.workers, len(work.queue)))
        try:
            crew.map_all()
        except KeyboardInterrupt:
            crew.stop()
            if handler.number is not None:  # Ray replaces the error
                raise_stopped(handler.number)
            raise
        finally:
            crew.kill()


def _files_read(options: Options) -> list[Path]:
    """Return the local files that mapping an image reads beside the image."""
    model = choose_model(backend=options.backend) if options.model is None else options.model
    given = {"--model": model, "--card": options.card, "--erase": options.erase, "--clip": options.clip}
    given["--sites"] = options.sites
    # What follows a bar is the name of a layer.
    texts = {option: str(value).partition("|")[0] for option, value in given.items() if value is not None}
    return [user_path(text, option) for option, text in texts.items() if not is_address(text)]


class _Workers:
    """All workers of a batch."""

    def __init__(self, cluster: Cluster, work: Work, number: int) -> None:
        self._cluster, self._work, self._ray = cluster, work, cluster.ray
        self._failed_starts = 0
        self._slots: list[_Slot] = []
        for _ in range(number):
            self._add()

    def map_all(self) -> None:
        """Map all images."""
        shown = began = time.monotonic()
        silent = True
        while len(self._work.queue) or any(slot.attempt is not None for slot in self._slots):
            for slot in self._slots:
                if slot.answer is None and slot.place is not None and (task := self._work.queue.take()) is not None:
                    self._prepare(slot, task)
            self._advance()
            if time.monotonic() > shown + _SHOW_SECONDS:
                self._show()
                shown = time.monotonic()
            if silent and shown > began + _WAITING_SECONDS:
                silent = False
                if all(slot.place is None for slot in self._slots):
                    self._work.bar.say("--ray: waiting for the first worker (the cluster may be busy)")

    def stop(self) -> None:
        """Have the workers abandon their images; images that are done nevertheless are recorded."""
        busy = [slot for slot in self._slots if slot.doing == "run" and slot.answer is not None]
        for slot in busy:
            with contextlib.suppress(Exception):  # a lost worker has stopped
                slot.actor.stop.options(concurrency_group=CONTROL).remote()
        end = time.monotonic() + STOP_SECONDS
        for slot in busy:
            try:
                outcome = self._ray.get(slot.answer, timeout=max(0.0, end - time.monotonic()))
            except Exception:  # lost, or not in time
                continue
            if isinstance(outcome, Outcome) and outcome.state == DONE and slot.attempt is not None:
                self._work.record(slot.attempt, outcome)
                slot.attempt = None

    def kill(self) -> None:
        """End all workers."""
        for slot in self._slots:
            self._kill(slot)
        self._slots = []

    def _add(self) -> None:
        actor = self._cluster.new_worker()
        self._slots.append(_Slot(actor, actor.place.remote()))

    def _prepare(self, slot: _Slot, task: Task) -> None:
        attempt = self._work.attempt(task)
        attempt.job = replace(attempt.job, options=self._cluster.share.options(attempt.job.options))
        slot.attempt = attempt
        slot.doing, slot.answer = "prepare", slot.actor.prepare.remote(slot.attempt.job)

    def _advance(self) -> None:
        """Wait for the next answers for a moment, and act on them."""
        answers = {slot.answer: slot for slot in self._slots if slot.answer is not None}
        if not answers:
            time.sleep(_POLL_SECONDS)
            return
        ready, _ = self._ray.wait(list(answers), num_returns=1, timeout=_POLL_SECONDS)
        for answer in ready:
            slot = answers[answer]
            try:
                found = self._ray.get(answer)
            except self._ray.exceptions.RayTaskError:  # an internal error in a method of `Actor`
                raise
            except self._ray.exceptions.RayError as error:
                self._replace(slot, error)
                continue
            slot.answer = None
            self._take(slot, found)

    def _take(self, slot: _Slot, found: Any) -> None:
        """Take an answer, and go on with the image."""
        if isinstance(found, UserError):
            raise found
        if isinstance(found, Place):
            self._failed_starts = 0
            if found.problem:
                self._leave_out(slot, found)
            else:
                slot.place = found
            return
        assert slot.attempt is not None
        if found is None:
            self._work.started(slot.attempt.task)
            slot.doing, slot.answer = "run", slot.actor.run.remote(slot.attempt.job)
            return
        attempt, slot.attempt, slot.progress = slot.attempt, None, None
        self._work.record(attempt, found)

    def _leave_out(self, slot: _Slot, place: Place) -> None:
        """Do without a worker that can't see what it needs."""
        self._slots.remove(slot)
        self._kill(slot)
        problem = f"--ray: node {place.node}: {place.problem}"
        if not self._slots:
            raise UserError(problem)
        self._work.bar.say(f"{problem}; its worker is left out")

    def _replace(self, slot: _Slot, error: Exception) -> None:
        """Start a worker in place of one that was lost, and record its image as failed; it may be tried again."""
        self._slots.remove(slot)
        self._kill(slot)
        if slot.place is None:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise UserError(f"--ray: workers can't start: {_said(error)}")
        self._add()
        if slot.attempt is not None:
            reason = (
                f"{slot.attempt.job.source}: the Ray worker that mapped it was lost (killed, out of memory, or its "
                "node is gone)"
            )
            attempt = slot.attempt
            if slot.doing == "run":  # it may have written its files, which are the batch's own
                attempt.task = replace(attempt.task, overwrite=True)
            self._work.record(attempt, Outcome(FAILED, reason, may_pass=True))

    def _kill(self, slot: _Slot) -> None:
        """End a worker, and remove the unfinished files of its image."""
        with contextlib.suppress(Exception):  # it is gone
            self._ray.kill(slot.actor)
        if slot.attempt is not None and slot.place is not None:
            for path in self._work.files(slot.attempt.task):
                clear_temporaries_of(path, slot.place.node, slot.place.process)

    def _show(self) -> None:
        """Show the progress that was asked for a while ago, and ask again."""
        for slot in self._slots:
            if slot.doing != "run" or slot.attempt is None:
                continue
            if slot.progress is not None:
                ready, _ = self._ray.wait([slot.progress], timeout=0)
                if not ready:
                    continue
                with contextlib.suppress(self._ray.exceptions.RayError):  # `_advance` notices
                    self._work.bar.show(slot.attempt.task.item.source, *self._ray.get(slot.progress))
            slot.progress = slot.actor.progress.options(concurrency_group=CONTROL).remote()


def _said(error: Exception) -> str:
    """Return the last line of an error of Ray, which says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)

"""Lock of a folder in a bucket: two batches at a time, killed ones, other machines, and a lock that is taken over."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.batch.bucket import lock as module
from inference.batch.bucket.lock import Lock, machine
from inference.batch.bucket.store import Store
from inference.batch.bucket.upload import store_of
from inference.common.errors import UserError
from tests.inference.batch.survey import refused

from .stores import MODEL, OUT, make_world, store, to_bucket, written

BUSY = "s3://bucket/2026/maps: another batch writes to this folder"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    world = make_world(tmp_path, monkeypatch, 2)
    with store(world, monkeypatch):
        yield world


def hold(process: int, where: str | None = None) -> Store:
    """Write the lock of a process on this or another machine; return the store that has written it."""
    other = Store("bucket", "2026/maps")
    state = {"node": "other", "process": process, "machine": machine() if where is None else where}
    other.put("batch.lock", json.dumps(state).encode(), {})
    return other


def ended() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_is_removed(world: Path) -> None:
    with Lock(store_of("bucket", "2026/maps"), print):
        assert (written(world) / "batch.lock").exists()
    assert not (written(world) / "batch.lock").exists()


def test_a_running_process_of_this_machine(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold(os.getppid())
    said = refused(capsys, "in", OUT, *MODEL)
    assert said == f'{BUSY}: process {os.getppid()} on "other" (wait until it is done, or choose another OUT_DIR)'
    assert [path.name for path in written(world).iterdir()] == ["batch.lock"]


def test_two_batches_of_one_process(world: Path) -> None:
    with Lock(store_of("bucket", "2026/maps"), print), pytest.raises(UserError, match=f"{BUSY}: this process"):
        Lock(store_of("bucket", "2026/maps"), print).__enter__()


def test_a_process_that_has_ended(world: Path) -> None:
    hold(ended())
    assert to_bucket() == 0
    assert not (written(world) / "batch.lock").exists()


@pytest.mark.parametrize(
    "content",
    [b'{"process": "x", "machine": 1}', *(pytest.param(text, marks=pytest.mark.slow) for text in (b"", b"[]"))],
)
def test_a_lock_that_says_nothing_is_one_of_another_machine(
    world: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "STALE_SECONDS", -10.0)
    Store("bucket", "2026/maps").put("batch.lock", content, {})
    assert to_bucket() == 0


def test_another_machine_that_is_gone(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "STALE_SECONDS", 1.5)  # the times of a server are whole seconds
    hold(1, "elsewhere")
    assert to_bucket() == 0
    assert 'process 1 on "other" has written here' in capsys.readouterr().err


def test_another_machine_that_renews_its_lock(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(1, "elsewhere")
    looks, read = [0], Store.read

    def reading(self: Store, name: str) -> Any:
        looks[0] += name == "batch.lock"
        if looks[0] == 3:
            looks[0] += 1
            hold(2, "elsewhere")
        return read(self, name)

    monkeypatch.setattr(Store, "read", reading)
    assert to_bucket() == 2
    assert f'{BUSY}: process 2 on "other"' in capsys.readouterr().err.splitlines()[-1]


def test_of_two_that_wait_one_wins(world: Path) -> None:
    first, second = Store("bucket", "2026/maps"), Store("bucket", "2026/maps")
    assert first.read("batch.lock") is second.read("batch.lock") is None
    barrier, held, errors = threading.Barrier(2), [], []

    def take(at: Store) -> None:
        lock = Lock(at, print)
        barrier.wait()
        try:
            lock._take()
            held.append(at)
        except UserError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=take, args=[each]) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(errors)) == (1, 1)
    assert errors[0].startswith(BUSY)


def test_it_is_renewed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.02)
    at = store_of("bucket", "2026/maps")
    with Lock(at, print) as lock:
        seen = set()
        while len(seen) < 4:
            found = at.read("batch.lock")
            assert found is not None
            seen.add(json.loads(found.content)["renewals"])
        lock.check()


def test_a_batch_whose_lock_was_taken_stops(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    from inference.batch.worker import Worker

    run_one, lost = Worker.run, threading.Event()
    renew = Lock._renew

    def renewing(self: Lock) -> None:
        renew(self)
        lost.set()

    def running(self: Worker, *arguments: Any) -> Any:
        hold(7, "elsewhere")
        assert lost.wait(10)
        return run_one(self, *arguments)

    monkeypatch.setattr(Lock, "_renew", renewing)
    monkeypatch.setattr(Worker, "run", running)
    assert to_bucket() == 2
    assert f"{BUSY}: another command, which has taken over" in capsys.readouterr().err
    assert json.loads((written(world) / "batch.lock").read_bytes())["process"] == 7, "it isn't ours to remove"
    assert (written(world) / "batch.jsonl").read_bytes() == b"", "nor is the journal ours to write"

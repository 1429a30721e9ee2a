"""A batch on Ray, with workers in this process: outcomes, lost workers, bad nodes, and stop signals."""

import os
import platform
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inference.batch import queue
from inference.batch import worker as batch_worker
from inference.batch.distributed.actor import Actor
from inference.batch.job import Job, Outcome
from inference.batch.journal import FAILED
from inference.options import Options
from inference.plan import Plan
from tests.inference.batch.survey import contents, journal, refused, run, write_failing, write_survey
from tests.inference.commands import leftovers

from .fake_ray import FakeRay, RayError, Worker, install


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the survey `in` and the model `m.onnx`; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.0)
    write_survey(tmp_path / "in")
    return tmp_path


def lose(
    times: int, name: str, monkeypatch: pytest.MonkeyPatch, *, done: bool = False, left_files: Sequence[Path] = ()
) -> list[Worker]:
    """Install a Ray that loses workers in their first calls of a method, before or after they have done it.

    They leave files behind.
    """
    left = [times]

    def hook(worker: Worker, method: str, *_: Any) -> None:
        if method == name and left[0]:
            left[0] -= 1
            worker.lost = True
            for path in left_files:
                path.write_bytes(b"left by the lost worker")
            raise RayError("The actor died unexpectedly")

    return install(monkeypatch, after=hook) if done else install(monkeypatch, before=hook)


def on_ray(*more: str) -> int:
    return run("in", "out", "--model", "m.onnx", "--ray", "--workers", "2", *more)


def test_files_are_those_of_one_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_failing(world / "in", plain=0)
    workers = install(monkeypatch)
    assert run("in", "plain", "--model", "m.onnx", "--polygons", ".gpkg") == 4
    assert on_ray("--polygons", ".gpkg") == 4
    assert contents(world / "out") == contents(world / "plain")
    assert Counter(line["state"] for line in journal(world / "out")) == {"started": 4, "done": 4, "failed": 2}
    assert [line["state"] for line in journal(world / "out")][:2] == ["started", "started"]
    reasons = [{line["output"]: line["reason"] for line in journal(world / at)} for at in ("out", "plain")]
    assert reasons[0] == reasons[1]
    assert all("run" in worker.called and worker.killed for worker in workers)
    assert on_ray("--polygons", ".gpkg") == 4  # the failed ones alone
    assert len(journal(world / "out")) == 12


def test_the_next_image_is_opened_meanwhile(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = {f"m{at}.tif": threading.Event() for at in range(4)}
    prepare, map_one, given, times = batch_worker.Worker.prepare, batch_worker.Worker.run, {}, Counter[str]()

    def prepared(self: batch_worker.Worker, job: Job) -> Plan | Outcome:
        plan = prepare(self, job)
        times[job.target.name] += 1
        opened[job.target.name].set()
        return plan

    def mapped(self: batch_worker.Worker, job: Job, *rest: Any) -> Outcome:
        if (following := given[job.target.name]) is not None:
            assert opened[following.target.name].wait(30)
        return map_one(self, job, *rest)

    def note(_: Worker, method: str, *arguments: Any) -> None:
        if method == "run":
            given[arguments[0].target.name] = arguments[1]

    monkeypatch.setattr(batch_worker.Worker, "prepare", prepared)
    monkeypatch.setattr(batch_worker.Worker, "run", mapped)
    install(monkeypatch, before=note)
    assert on_ray() == 0
    foreseen = [None if job is None else job.target.name for job in given.values()]
    assert foreseen == ["m1.tif", "m3.tif", None, None], "each worker has one of its own"
    assert times == dict.fromkeys(opened, 1), "none is opened twice"


def test_an_image_that_another_worker_has_opened(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker is busy to the end: the second one maps all others."""
    workers = install(monkeypatch)
    wait = FakeRay.wait

    def slow(self: FakeRay, calls: list[Any], *rest: Any, **more: Any) -> Any:
        others = [call for call in calls if (call.worker.number, call.name) != (0, "run")]
        return wait(self, others or calls, *rest, **more)

    monkeypatch.setattr(FakeRay, "wait", slow)
    assert on_ray() == 0
    assert [Counter(worker.called)["run"] for worker in workers] == [1, 3]
    assert run("in", "plain", "--model", "m.onnx") == 0
    assert contents(world / "out") == contents(world / "plain")


@pytest.mark.parametrize("done", [False, True], ids=["before its map is written", "after it"])
def test_an_image_of_a_lost_worker_is_mapped_again(world: Path, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    temporary = world / "out" / "cove0" / f"m0.tif.{platform.node()}-{os.getpid()}.writing"
    workers = lose(1, "run", monkeypatch, done=done, left_files=[temporary])
    assert on_ray() == 0
    monkeypatch.undo()
    monkeypatch.chdir(world)
    assert run("in", "plain", "--model", "m.onnx") == 0
    assert contents(world / "out") == contents(world / "plain")
    assert len(workers) == 3
    (lost,) = [line for line in journal(world / "out") if line["state"] == "failed"]
    assert "in/cove0/m0.tif: the Ray worker that mapped it was lost" in lost["reason"]
    assert [line["attempt"] for line in journal(world / "out") if line["output"] == "cove0/m0.tif"] == [1, 1, 2, 2]


def test_a_lost_worker_leaves_no_temporary_file(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = world / "out" / "cove0"
    node, process = platform.node(), os.getpid()
    gone = [f"m0.tif.{node}-{process}.writing", f"m0.tif.{node}-{process}.cog.writing.msk"]
    kept = [f"m2.tif.{node}x-{process}.writing", f"m0.tif.{node}-1.writing"]  # of living processes
    lose(1, "run", monkeypatch, left_files=[folder / name for name in (*gone, *kept)])
    assert on_ray("--retries", "0") == 4
    assert leftovers(folder) == sorted(kept)


def test_an_image_that_kills_each_worker_fails(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(worker: Worker, method: str, *arguments: Any) -> None:
        if method == "run" and arguments[0].source.endswith("m3.tif"):
            raise RayError("out of memory")

    install(monkeypatch, before=hook)
    assert on_ray() == 4
    states = Counter(line["state"] for line in journal(world / "out") if line["output"] == "cove1/m3.tif")
    assert states == {"started": 3, "failed": 3}


def test_workers_that_never_start(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = lose(99, "place", monkeypatch)
    said = refused(capsys, "in", "out", "--model", "m.onnx", "--ray", "--workers", "2")
    assert said == "--ray: workers can't start: The actor died unexpectedly"
    assert all(worker.killed for worker in workers)


def test_a_node_without_the_files_is_left_out(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = install(monkeypatch, needed=lambda number: ["/no/model.onnx"] if number == 0 else [])
    assert on_ray() == 0
    said = capsys.readouterr().err
    assert f"--ray: node {platform.node()}: /no/model.onnx isn't there (all nodes must see it" in said
    assert workers[0].called == ["place"]
    install(monkeypatch, needed=lambda _: ["/no/model.onnx"])
    said = refused(capsys, "in", "out2", "--model", "m.onnx", "--ray")
    assert "/no/model.onnx isn't there" in said.splitlines()[-1]


def test_an_image_that_a_worker_cannot_see(world: Path) -> None:
    actor = Actor(str(world), [])
    found = actor.prepare(Job("in/none.tif", world / "none.tif", Options(model="m.onnx")))
    assert isinstance(found, Outcome)
    assert (found.state, found.may_pass) == (FAILED, True)
    assert (
        f"in/none.tif: can't be read as an image: no such file (on node {platform.node()}; all nodes must see it"
        in found.reason
    )


def test_a_model_that_cannot_be_loaded_ends_the_batch(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from inference.common.errors import UserError
    from inference.predict import Mapper

    def load(*_: Any) -> None:
        raise UserError("m.onnx: can't be loaded")

    workers = install(monkeypatch)
    monkeypatch.setattr(Mapper, "load", load)
    assert refused(capsys, "in", "out", "--model", "m.onnx", "--ray") == "m.onnx: can't be loaded"
    assert all(worker.killed for worker in workers)


def test_stopped_in_the_middle(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def hook(worker: Worker, method: str, *_: Any) -> None:
        if method == "run":
            runs.append(worker)
            if len(runs) == 2:
                raise KeyboardInterrupt

    workers = install(monkeypatch, before=hook)
    assert on_ray() == 130
    assert all(worker.killed for worker in workers)
    states = {line["output"]: line["state"] for line in journal(world / "out")}
    done = [name for name, state in states.items() if state == "done"]
    assert 1 <= len(done) < 4
    before = len(journal(world / "out"))
    assert on_ray() == 0
    again = journal(world / "out")[before:]
    assert not {line["output"] for line in again} & set(done)
    assert leftovers(world / "out" / "cove0") == []


def test_a_stopped_worker_abandons_its_image(world: Path) -> None:
    actor = Actor(str(world), [])
    job = Job("in/cove0/m0.tif", world / "o.tif", Options(model="m.onnx"))
    assert actor.prepare(job) is None
    actor.stop()
    found = actor.run(job)
    assert isinstance(found, Outcome)
    assert found.state == FAILED
    assert not (world / "o.tif").exists()
    assert leftovers(world) == []

"""A batch on Ray into a bucket, with workers in this process: each uploads its maps, also from another machine."""

import itertools
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from inference.batch import queue, worker
from inference.batch.distributed import actor
from inference.batch.job import Job
from inference.common.errors import UserError
from tests.conftest import write_raster
from tests.inference.batch.survey import contents, journal, pixels, run, write_failing, write_survey
from tests.object_store import serve

from .fake_ray import RayError, Worker, install

OUT = "s3://bucket/maps"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with the survey `in`, the model `m.onnx`, and maps of one process in `plain`; a bucket."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.0)
    for name in ("work", "store/bucket"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "work"))
    write_survey(tmp_path / "in")
    assert run("in", "plain", "--model", "m.onnx", "--polygons", ".gpkg") == 0
    with serve(tmp_path / "store") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


def on_ray(*more: str) -> int:
    return run("in", OUT, "--model", "m.onnx", "--polygons", ".gpkg", "--ray", "--workers", "2", *more)


def check(world: Path) -> None:
    assert contents(world / "store" / "bucket" / "maps") == contents(world / "plain")
    assert list((world / "work").iterdir()) == []


def test_files_are_those_of_one_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert on_ray() == 0
    check(world)


def test_no_mosaic_is_split(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The workers have no folder in common that row bands could lie in."""
    for name in ("cove0/m0.tif", "cove1/m1.tif"):
        write_raster(world / "in" / name, pixels(9, side=400), nodata=0)
    workers = install(monkeypatch)
    capsys.readouterr()
    assert on_ray("--split-px", "2000") == 0
    assert capsys.readouterr().err.splitlines() == [
        "in/cove0/m0.tif: is mapped by one worker, like all mosaics of more than 2,000 pixels (--split-px): row bands "
        "need a folder that all workers see, and OUT_DIR is in a bucket"
    ]
    assert on_ray("--split-px", "160_000", "--overwrite") == 0
    assert capsys.readouterr().err == ""
    assert not any("predict" in worker.called for worker in workers)
    assert list((world / "work").iterdir()) == []


def test_workers_of_another_machine(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the command isn't there, so that each worker makes its own, which it keeps for an image."""
    placed, make_folders, folders = actor.Actor._placed, worker._make_folders, set()

    def slow(job: Job) -> None:
        make_folders(job)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.3)  # longer than the other image takes

    monkeypatch.setattr(worker, "_make_folders", slow)

    def elsewhere(self: actor.Actor, job: Job) -> Job:
        assert job.upload is not None
        found = placed(self, job.below(world / "remote" / job.upload.folder.name))
        assert found.upload is not None
        folders.add(found.upload.folder)
        return found

    monkeypatch.setattr(actor.Actor, "_placed", elsewhere)
    numbers = itertools.count()
    monkeypatch.setattr(actor, "temporary_path", lambda path: world / "node" / f"{path.name}.{next(numbers)}")
    monkeypatch.setattr(actor, "clear_temporaries", lambda *_: None)  # all workers are this process here
    (world / "node").mkdir()
    write_failing(world / "in", damaged=0, plain=0)
    install(monkeypatch)
    assert on_ray() == 4
    assert run("in", "plain", "--model", "m.onnx", "--polygons", ".gpkg") == 4
    check(world)
    assert len(folders) == 2
    assert {line["attempt"] for line in journal(world / "store" / "bucket" / "maps")} == {1}
    assert not any(folder.exists() for folder in folders)
    assert not (world / "remote").exists()


@pytest.mark.parametrize(
    "done",
    [pytest.param(False, id="before its map is uploaded", marks=pytest.mark.slow), pytest.param(True, id="after it")],
)
def test_an_image_of_a_lost_worker_is_mapped_again(world: Path, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    left = [1]

    def lose(worker: Worker, method: str, *_: Any) -> None:
        if method == "run" and left[0]:
            left[0] -= 1
            worker.lost = True
            raise RayError("The actor died unexpectedly")

    install(monkeypatch, **{"after" if done else "before": lose})
    assert on_ray() == 0
    check(world)


def test_a_node_that_cannot_upload(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: str) -> None:
        raise UserError("s3://bucket: writing to it needs boto3")

    monkeypatch.setattr(actor, "store_of", refuse)
    install(monkeypatch)
    assert on_ray() == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("node ")
    assert last.endswith(": s3://bucket: writing to it needs boto3")
    shutil.rmtree(world / "store" / "bucket" / "maps")
    assert list((world / "work").iterdir()) == []

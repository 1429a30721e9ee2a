"""Mosaics that several workers of Ray share, with workers in this process: files, lost workers, failures, and stops."""

import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference.batch import queue
from inference.batch.distributed.actor import BandJob
from inference.batch.distributed.split import MOST_LOST, SplitImage
from inference.batch.job import Job, Outcome
from inference.batch.journal import FAILED
from inference.options import Options
from inference.plan import make_plan
from tests.conftest import write_raster
from tests.inference.batch.survey import contents, journal, pixels, run, write_survey
from tests.inference.networks import card, write_onnx

from .fake_ray import RayError, Worker, install

SPLIT = ("--split-px", "50_000")
LARGE = "cove0/large.tif"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a survey `in` of two small mosaics and a large one, its maps in `plain`, and the model `m.onnx`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.0)
    write_survey(tmp_path / "in", 2)
    write_raster(tmp_path / "in" / LARGE, pixels(9, side=400), nodata=0)
    assert run("in", "plain", "--model", "m.onnx") == 0
    return tmp_path


def on_ray(*more: str) -> int:
    return run("in", "out", "--model", "m.onnx", "--ray", "--workers", "3", *SPLIT, *more)


def check(world: Path) -> None:
    """Check that the maps are those of one process, and that nothing else is there."""
    assert contents(world / "out") == contents(world / "plain")


def done_lines(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last lines of a journal about the maps, without what differs from run to run."""
    return {
        line["output"]: {key: value for key, value in line.items() if key not in ("time", "seconds")}
        for line in journal(folder)
        if line["state"] == "done"
    }


def calls(workers: list[Worker]) -> Counter[str]:
    return Counter(name for worker in workers for name in worker.called if name in ("predict", "join", "run"))


def losing(name: str, times: int, band: int | None = None) -> Callable[..., None]:
    """Return a hook that loses workers in their first calls of a method, perhaps for one band alone."""
    left = [times]

    def hook(worker: Worker, method: str, *arguments: Any) -> None:
        job = arguments[0] if arguments else None
        chosen = band is None or (isinstance(job, BandJob) and job.path.name == str(band))
        if method == name and left[0] and chosen:
            left[0] -= 1
            worker.lost = True
            raise RayError("The actor died unexpectedly")

    return hook


def test_files_are_those_of_one_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--polygons", ".gpkg", "--probabilities", "_p.tif", "--tta")
    assert run("in", "plain", "--model", "m.onnx", "--overwrite", *options) == 0
    workers = install(monkeypatch)
    assert on_ray(*options) == 0
    check(world)
    assert calls(workers) == {"predict": 3, "join": 1, "run": 2}
    assert sum("predict" in worker.called for worker in workers) > 1
    lines = journal(world / "out")
    assert Counter(line["state"] for line in lines) == {"started": 3, "done": 3}
    done = [done_lines(world / at) for at in ("out", "plain")]
    assert done[0] == done[1]


def test_one_mosaic_has_all_workers(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(world / "in" / "cove1")
    (world / "in" / "cove0" / "m0.tif").unlink()
    workers = install(monkeypatch)
    assert on_ray() == 0
    assert len(workers) == 3
    assert (world / "out" / LARGE).read_bytes() == (world / "plain" / LARGE).read_bytes()


@pytest.mark.parametrize("more", [("--split-px", "0"), ("--split-px", "160_000"), ("--workers", "1")])
def test_not_split(world: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, str]) -> None:
    workers = install(monkeypatch)
    assert on_ray(*more) == 0
    assert calls(workers) == {"run": 3}
    check(world)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("band", [0, 1])
def test_a_lost_worker_repeats_its_band_alone(
    world: Path, monkeypatch: pytest.MonkeyPatch, when: str, band: int
) -> None:
    workers = install(monkeypatch, **{when: losing("predict", 1, band)})
    assert on_ray() == 0
    assert calls(workers) == {"predict": 4, "join": 1, "run": 2}
    assert not [line for line in journal(world / "out") if line["state"] == "failed"]
    check(world)


@pytest.mark.parametrize("after", [False, True], ids=["before its map is written", "after it"])
def test_a_lost_join_is_repeated(world: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    hook = losing("join", 1)
    workers = install(monkeypatch, after=hook) if after else install(monkeypatch, before=hook)
    assert on_ray() == 0
    assert calls(workers) == {"predict": 3, "join": 2, "run": 2}
    check(world)


@pytest.mark.parametrize(("name", "band"), [("predict", 1), ("join", None)])
def test_a_mosaic_that_kills_each_worker_fails(
    world: Path, monkeypatch: pytest.MonkeyPatch, name: str, band: int | None
) -> None:
    workers = install(monkeypatch, before=losing(name, 99, band))
    assert on_ray("--retries", "1") == 4
    lines = [line for line in journal(world / "out") if line["output"] == LARGE]
    assert [line["state"] for line in lines] == ["started", "failed"] * 2
    assert "the Ray worker that mapped it was lost" in lines[-1]["reason"]
    assert len([worker for worker in workers if name in worker.called and worker.lost]) >= 2 * MOST_LOST
    assert not list(world.rglob("*writing*"))
    install(monkeypatch)
    assert on_ray() == 0
    check(world)


def test_a_damaged_mosaic_fails_for_the_reason_of_one_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_raster(world / "in" / LARGE, pixels(9, side=400), nodata=0, compress="deflate")
    content = source.read_bytes()
    middle = len(content) // 2
    source.write_bytes(content[:middle] + bytes(20_000) + content[middle + 20_000 :])
    assert run("in", "plain", "--model", "m.onnx", "--overwrite", "--threads", "1") == 4
    install(monkeypatch)
    assert on_ray() == 4
    reasons = [{line["reason"] for line in journal(world / at) if line["state"] == "failed"} for at in ("out", "plain")]
    assert reasons[0] == reasons[1]
    assert "can't be read from row" in reasons[0].pop()
    assert not list(world.rglob("*writing*"))


def test_a_model_whose_card_is_wrong(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx(world / "m.onnx", card(), end="probabilities")
    workers = install(monkeypatch)
    assert on_ray() == 4
    reasons = {line["output"]: line["reason"] for line in journal(world / "out")}
    assert "they are probabilities already" in reasons[LARGE]
    assert run("in", "plain2", "--model", "m.onnx") == 4
    assert {line["output"]: line["reason"] for line in journal(world / "plain2")} == reasons
    assert calls(workers)["join"] == 0


def test_a_disk_without_room_for_bands(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from inference.batch.distributed import split

    workers = install(monkeypatch)
    monkeypatch.setattr(split, "band_bytes", lambda _: 2**60)
    assert on_ray() == 0
    assert "large.tif: is mapped by one worker: its row bands need up to 1,073,741,824.0 GiB" in capsys.readouterr().err
    assert calls(workers) == {"run": 3}
    check(world)


@pytest.mark.parametrize("name", ["predict", "join"])
def test_stopped_in_the_middle(world: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    met = []

    def hook(worker: Worker, method: str, *_: Any) -> None:
        if method == name:
            met.append(worker)
            if len(met) == (2 if name == "predict" else 1):
                raise KeyboardInterrupt

    install(monkeypatch, before=hook)
    assert on_ray() == 130
    assert not list(world.rglob("*writing*"))
    assert not (world / "out" / LARGE).exists()
    install(monkeypatch)
    assert on_ray() == 0
    check(world)


def test_files_of_a_killed_command_are_removed(world: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = world / "out" / f"{LARGE}.bands.{platform.node()}-{ended.pid}.writing"
    folder.mkdir(parents=True)
    (folder / "0").touch()
    unfinished = world / "out" / "cove0" / f"m0.tif.{platform.node()}-{ended.pid}.writing"
    unfinished.touch()
    assert run("in", "out", "--model", "m.onnx") == 0
    check(world)
    assert not folder.exists()
    assert not unfinished.exists()


@pytest.mark.parametrize("normalization", ["min_max", "min_max_per_channel"])
def test_the_range_is_measured_once(world: Path, monkeypatch: pytest.MonkeyPatch, normalization: str) -> None:
    write_onnx(world / "m.onnx", card(normalization=normalization))
    assert run("in", "plain2", "--model", "m.onnx") == 0
    workers = install(monkeypatch)
    from inference import predict

    measured = []
    value_range = predict.value_range
    monkeypatch.setattr(predict, "value_range", lambda *given: measured.append(1) or value_range(*given))
    assert on_ray() == 0
    assert contents(world / "out") == contents(world / "plain2")
    assert (len(measured), calls(workers)["join"]) == (3, 1)
    notices = [
        {line["output"]: line["notices"] for line in journal(world / at) if line["state"] == "done"}
        for at in ("out", "plain2")
    ]
    assert notices[0] == notices[1]


def test_the_reason_is_that_of_the_topmost_band(world: Path) -> None:
    plan = make_plan(world / "in" / LARGE, world / "o.tif", Options(model=world / "m.onnx"))
    job = Job(LARGE, world / "o.tif", plan.options)
    split = SplitImage(SimpleNamespace(job=job), plan, 3)  # type: ignore[arg-type]
    jobs = [split.take() for _ in range(len(split))]
    top, middle, bottom = (job for job in jobs if job is not None)
    assert split.take() is None
    assert split.fail(middle, Outcome(FAILED, "middle")) == [bottom.number]
    assert split.lose(top, "lost", "node", 1) == []
    split.fail(bottom, Outcome(FAILED, "abandoned"))
    assert not split.failed  # the topmost one may still have another reason
    assert split.take() == top
    assert split.fail(top, Outcome(FAILED, "top")) == []
    assert split.failed
    assert split.failure == Outcome(FAILED, "top")

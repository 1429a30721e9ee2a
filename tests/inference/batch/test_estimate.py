"""Estimate of a batch before it is started: what would be mapped, how long that takes, and how large it is."""

from pathlib import Path
from typing import Any

import pytest

from inference.batch import estimate, progress
from tests.conftest import write_raster

from .survey import contents, journal, pixels, refused, run, write_failing, write_survey


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the survey `in` and the model `m.onnx`; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_survey(tmp_path / "in")
    return tmp_path


def test_dry_run(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_failing(world / "in", plain=0)
    before = contents(world)
    assert run("in", "out", "--model", "m.onnx", "--dry-run") == 0
    out = capsys.readouterr().out
    for text in (
        "images: 4 to map, 2 can't be mapped",
        "has 2 bands, the model needs band 3",
        "pixels: 0.0 Mpx, 16 tiles",
        "(measured on a few tiles)",
        "to read: 0.0 MiB",
        "are free",
        "nothing was written",
    ):
        assert text in out
    assert contents(world) == before
    assert not (world / "out").exists()
    assert run("in", "out", "--model", "m.onnx") == 4
    write_raster(world / "in" / "late.tif", pixels(8))
    capsys.readouterr()
    assert run("in", "out", "--model", "m.onnx", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "images: 1 to map, 4 done before, 2 can't be mapped" in out
    assert "(at the speed of the maps that are done)" in out
    assert "probably 0.0 MiB" in out
    assert "was made with" in refused(capsys, "in", "out", "--model", "m.onnx", "--tta", "--dry-run")


def test_sizes_as_text() -> None:
    assert [estimate._size(count) for count in (0, 5 * 2**20, 3 * 2**30)] == ["0.0 MiB", "5.0 MiB", "3.0 GiB"]
    assert [progress.duration(seconds) for seconds in (5, 90, 7500)] == ["5 s", "2 min", "2 h 05 min"]


@pytest.mark.parametrize(
    ("more", "threads", "says"),
    [
        ([], None, "8 min (measured on a few tiles)"),
        (["--ray"], None, "8 min for one worker (measured on a few tiles; --workers N gives the time of N)"),
        (["--ray", "--workers", "1"], 8, "8 min with 1 worker (measured on a few tiles)"),
        (["--ray", "--workers", "2"], 4, "4 min with 2 workers (measured on a few tiles; that of one worker, by 2)"),
        (["--ray", "--workers", "9"], 1, "2 min with 8 workers (measured on a few tiles; as long as the largest"),
        (
            ["--ray", "--workers", "8", "--split-px", "1000"],
            1,
            "1 min with 8 workers (measured on a few tiles; that",
        ),
        (["--ray", "--workers", "4", "--threads", "4"], 4, "4 min with 2 workers (measured"),
        (["--ray", "h:1", "--workers", "4"], None, "2 min with 4 workers (measured on a few tiles; that of one worker"),
    ],
)
def test_the_time_of_several_workers(
    more: list[str],
    threads: int | None,
    says: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = []

    def half_a_minute(_: Any, workers: estimate.PlannedWorkers | None) -> float:
        measured.append(None if workers is None else workers.threads)
        return 30.0

    monkeypatch.setattr(estimate, "_seconds_a_tile", half_a_minute)
    monkeypatch.setattr(estimate, "cores", lambda: 8)
    assert run("in", "out", "--model", "m.onnx", "--dry-run", *more) == 0
    assert f"\ntime: about {says}" in capsys.readouterr().out
    assert measured == [threads]


def test_the_time_of_several_workers_by_what_is_done(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "out", "--model", "m.onnx") == 0
    seconds = sum(line.get("seconds", 0) for line in journal(world / "out"))
    for at in range(2):
        write_raster(world / "in" / f"late{at}.tif", pixels(at, side=4000), nodata=0)
    expected = progress.duration(seconds / (4 * 40**2) * 2 * 4000**2 / 2)
    capsys.readouterr()
    assert run("in", "out", "--model", "m.onnx", "--dry-run", "--ray", "h:1", "--workers", "2") == 0
    said = f"time: about {expected} with 2 workers (at the speed of the maps that are done; that of one worker, by 2)"
    assert said in capsys.readouterr().out

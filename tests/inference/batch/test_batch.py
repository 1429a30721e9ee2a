"""A batch through the command: its maps and files, failures, and what a second start does."""

import csv
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio

from inference import predict
from inference.batch import queue, worker
from inference.batch.journal import Journal
from inference.common.errors import UserError
from inference.model.backends import open_backend
from inference.options import Options
from inference.plan import Plan
from tests.conftest import write_raster
from tests.inference.commands import leftovers
from tests.inference.networks import card, write_onnx

from .survey import contents, journal, pixels, refused, run, write_failing, write_survey


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the survey `in` and the model `m.onnx`; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_survey(tmp_path / "in")
    return tmp_path


def states(folder: Path) -> dict[str, str]:
    return {line["output"]: line["state"] for line in journal(folder)}


def test_maps_are_those_of_single_commands(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(world / "in")
    assert run("in", "out", "--model", "m.onnx", "--threshold", "0.4") == 0
    out = capsys.readouterr().out
    assert "images: 4 done" in out
    assert contents(world / "in") == before
    for at in range(4):
        name = f"cove{at % 2}/m{at}.tif"
        assert run(f"in/{name}", "one.tif", "--model", "m.onnx", "--threshold", "0.4", "--overwrite") == 0
        assert (world / "out" / name).read_bytes() == (world / "one.tif").read_bytes()
    lines = journal(world / "out")
    assert [line["state"] for line in lines] == ["started", "done"] * 4
    first = lines[1]
    assert first["image"] == str(world / "in" / "cove0" / "m0.tif")
    assert (first["model"], first["revision"], first["pixels"]) == ("tiny", "20260101", 1600)
    assert sum(first["class_pixels"].values()) == 1600
    assert sum(first["areas"].values()) == pytest.approx(16, rel=0.01)
    assert first["settings"] == {"threshold": 0.4}
    assert leftovers(world / "out") == []


def test_files_about_all_maps(world: Path) -> None:
    write_failing(world / "in")
    assert run("in", "out", "--model", "m.onnx") == 4
    with (world / "out" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["output"] for row in rows] == sorted(row["output"] for row in rows)
    by_state = {state: [row for row in rows if row["state"] == state] for state in ("done", "failed")}
    assert (len(by_state["done"]), len(by_state["failed"])) == (5, 2)
    assert [row["kelp1_m2"] != "" for row in by_state["done"]] == [True] * 4 + [False]
    for row in by_state["done"][:4]:
        with rasterio.open(world / "out" / row["output"]) as file:
            assert int(row["kelp1_pixels"]) == (file.read(1) == 1).sum()
    index = pyogrio.read_dataframe(world / "out" / "index.gpkg", layer="images")
    assert list(index["output"]) == [row["output"] for row in rows]
    assert index.crs.to_epsg() == 4326
    placed = {row.output: row.geometry is not None for row in index.itertuples()}
    assert [name for name, found in placed.items() if not found] == ["damaged0.tif", "plain0.tif"]
    areas = index.to_crs(32609).area
    np.testing.assert_allclose(areas[list(placed.values())], 16, rtol=1e-3)
    styles = pyogrio.read_dataframe(world / "out" / "index.gpkg", layer="layer_styles", read_geometry=False)
    assert '"failed"' in styles["styleQML"][0]
    with rasterio.open(world / "out" / "index.vrt") as vrt:
        assert (vrt.shape, vrt.bounds.left) == ((40, 160), 5e5)
        for at in range(4):
            with rasterio.open(world / "out" / f"cove{at % 2}" / f"m{at}.tif") as file:
                np.testing.assert_array_equal(vrt.read(1)[:, 40 * at : 40 * at + 40], file.read(1))


def test_failures_are_listed_and_not_repeated_in_vain(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_failing(world / "in", damaged=2, narrow=3)
    assert run("in", "out", "--model", "m.onnx") == 4
    said = capsys.readouterr()
    assert "images: 5 done, 5 failed" in said.out
    assert "       3  has 2 bands, the model needs band 3" in said.out
    assert "narrow0.tif and 2 more" in said.out
    assert "Traceback" not in said.err
    tries = [line for line in journal(world / "out") if line["output"] == "narrow0.tif"]
    assert [(line["state"], line["attempt"]) for line in tries] == [("failed", 1)]
    assert run("in", "out", "--model", "m.onnx") == 4
    assert "images: 5 done before, 5 failed" in capsys.readouterr().out


def test_a_second_start_does_what_is_not_done(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "out", "--model", "m.onnx") == 0
    before, lines = contents(world / "out"), len(journal(world / "out"))
    (world / "out" / "cove1" / "m3.tif").unlink()
    write_raster(world / "in" / "late.tif", pixels(9), origin=(6e5, 5.8e6))
    os.chdir(world / "in")
    assert run(".", world / "out", "--model", world / "m.onnx") == 0
    assert "images: 2 done, 3 done before" in capsys.readouterr().out
    assert [line["output"] for line in journal(world / "out")[lines:]] == ["cove1/m3.tif"] * 2 + ["late.tif"] * 2
    after = contents(world / "out")
    assert {name: after[name] for name in before if name.endswith("m3.tif")} == {"cove1/m3.tif": before["cove1/m3.tif"]}


def test_another_model_or_option_is_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "out", "--model", "m.onnx") == 0
    before = (world / "out" / "batch.jsonl").read_bytes(), contents(world / "out")
    write_onnx(world / "other.onnx", card(revision="20270101"))
    said = refused(capsys, "in", "out", "--model", "other.onnx")
    assert 'cove0/m0.tif was made with another model, "tiny 20260101"' in said
    said = refused(capsys, "in", "out", "--model", "m.onnx", "--threshold", "0.7")
    assert 'was made with --threshold not given (now "0.7")' in said
    write_raster(world / "in" / "cove0" / "m0.tif", pixels(77, side=50), nodata=0)
    assert "m0.tif was made of another file than" in refused(capsys, "in", "out", "--model", "m.onnx")
    assert before == ((world / "out" / "batch.jsonl").read_bytes(), contents(world / "out"))
    lines = len(journal(world / "out"))
    assert run("in", "out", "--model", "m.onnx", "--overwrite") == 0
    assert [line["output"] for line in journal(world / "out")[lines:]] == ["cove0/m0.tif"] * 2
    assert run("in", "out", "--model", "other.onnx", "--overwrite") == 0
    assert {line["revision"] for line in journal(world / "out")[-8:] if line["state"] == "done"} == {"20270101"}
    lines = len(journal(world / "out"))
    assert run("in", "out", "--model", "other.onnx", "--overwrite") == 0
    assert len(journal(world / "out")) == lines, "what is done with the same settings stays"


def test_threads_and_place_of_the_model_may_change(world: Path) -> None:
    assert run("in", "out", "--model", "m.onnx") == 0
    (world / "m.onnx").rename(world / "n.onnx")
    lines = len(journal(world / "out"))
    assert run("in", "out", "--model", "n.onnx", "--threads", "2", "--batch-size", "3") == 0
    assert len(journal(world / "out")) == lines


def test_files_that_are_not_of_the_batch_stay(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "out" / "cove0").mkdir(parents=True)
    (world / "out" / "cove0" / "m0.tif").write_bytes(b"precious")
    (world / "out" / "cove0" / "m2.gpkg").write_bytes(b"precious")
    assert run("in", "out", "--model", "m.onnx", "--polygons", ".gpkg") == 0
    out = capsys.readouterr().out
    assert "images: 2 done, 2 skipped" in out
    assert "its file exists already and was not made by this batch" in out
    assert (world / "out" / "cove0" / "m0.tif").read_bytes() == b"precious"
    assert run("in", "out", "--model", "m.onnx", "--polygons", ".gpkg") == 0
    assert [line["output"] for line in journal(world / "out") if line["state"] == "skipped"] == [
        "cove0/m0.tif",
        "cove0/m2.tif",
    ]
    assert run("in", "out", "--model", "m.onnx", "--polygons", ".gpkg", "--overwrite") == 0
    assert set(states(world / "out").values()) == {"done"}
    (world / "other").mkdir()
    (world / "other" / "summary.csv").write_bytes(b"precious")
    assert "other/summary.csv: exists already and is of no batch" in refused(capsys, "in", "other", "--model", "m.onnx")


def test_a_killed_attempt_is_made_again(world: Path) -> None:
    assert run("in", "out", "--model", "m.onnx") == 0
    before = contents(world / "out")
    text = (world / "out" / "batch.jsonl").read_text().splitlines(keepends=True)
    # As it is after the map has its name, before the journal says so, with a line that was cut short.
    (world / "out" / "batch.jsonl").write_text("".join(text[:7]) + text[7][:50])
    assert run("in", "out", "--model", "m.onnx") == 0
    assert contents(world / "out") == before
    expected = [*(["started", "done"] * 3), "started", "started", "done"]
    assert [line["state"] for line in journal(world / "out")] == expected


def test_two_batches_in_one_folder(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "out").mkdir()
    with Journal(world / "out" / "batch.jsonl"):
        said = refused(capsys, "in", "out", "--model", "m.onnx")
    assert said == "out: another batch writes to this folder (wait until it is done, or choose another OUT_DIR)"
    assert run("in", "out", "--model", "m.onnx") == 0


def test_retries(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real, failures = worker.make_plan, {"m1.tif": 1, "m2.tif": 9}

    def failing(source: str, target: Path, options: Options, **more: Any) -> Plan:
        if failures.get(target.name, 0):
            failures[target.name] -= 1
            raise UserError(f"{target}: can't be written: No space left on device (0 MiB are free in its folder)")
        return real(source, target, options, **more)

    monkeypatch.setattr(worker, "make_plan", failing)
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.0)
    assert run("in", "out", "--model", "m.onnx") == 4
    tries = [(line["output"][-6:], line["state"], line["attempt"]) for line in journal(world / "out")]
    assert [line for line in tries if line[1] != "started"] == [
        ("m0.tif", "done", 1),
        ("m2.tif", "failed", 1),
        ("m1.tif", "failed", 1),
        ("m3.tif", "done", 1),
        ("m2.tif", "failed", 2),
        ("m1.tif", "done", 2),
        ("m2.tif", "failed", 3),
    ]
    assert "(attempt 1, to be tried again)" in capsys.readouterr().err
    failures["m2.tif"] = 1
    assert run("in", "out", "--model", "m.onnx", "--retries", "0") == 4
    assert run("in", "out", "--model", "m.onnx", "--retries", "0") == 0


def test_an_internal_error_does_not_stop_the_rest(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = worker.make_plan

    def failing(source: str, target: Path, options: Options, **more: Any) -> Plan:
        if target.name == "m1.tif":
            raise ZeroDivisionError("division by zero")
        return real(source, target, options, **more)

    monkeypatch.setattr(worker, "make_plan", failing)
    assert run("in", "out", "--model", "m.onnx") == 4
    said = capsys.readouterr()
    assert "images: 3 done, 1 failed" in said.out
    assert "internal error: ZeroDivisionError: division by zero" in said.out
    assert "Traceback" in said.err, "so that it can be reported"


def test_a_model_that_cannot_be_loaded_stops_the_batch(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_onnx(world / "wrong.onnx", None, channels=3)
    (world / "c.json").write_text(card().dumps())
    assert "its card promises" in refused(capsys, "in", "out", "--model", "wrong.onnx", "--card", "c.json")
    assert journal(world / "out") == []


def test_an_option_that_fits_no_image_stops_the_batch(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "out", "--model", "m.onnx", "--resample") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "--resample: the card names no ground sample distance, so there is nothing to go by (leave it out)"
    assert run("in", "out", "--model", "m.onnx", "--nodata", "999") == 2
    write_raster(world / "in" / "a.tif", pixels(0).astype(np.uint16))
    assert run("in", "other", "--model", "m.onnx", "--nodata", "999", "--max-pixel-value", "255") == 4
    assert states(world / "other")["a.tif"] == "done"


def test_the_next_image_is_opened_meanwhile_and_the_model_loaded_once(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = {f"m{at}.tif": threading.Event() for at in range(4)}
    following = {"m0.tif": "m2.tif", "m2.tif": "m1.tif", "m1.tif": "m3.tif"}
    prepare, attempt, loaded = worker.Worker.prepare, worker.Worker.run, []

    def prepared(self: worker.Worker, job: worker.Job) -> Plan | worker.Outcome:
        plan = prepare(self, job)
        opened[job.target.name].set()
        return plan

    def mapped(self: worker.Worker, job: worker.Job, *rest: Any) -> worker.Outcome:
        if job.target.name in following:
            assert opened[following[job.target.name]].wait(30)
        return attempt(self, job, *rest)

    def opening(*arguments: Any) -> Any:
        loaded.append(arguments)
        return open_backend(*arguments)

    monkeypatch.setattr(worker.Worker, "prepare", prepared)
    monkeypatch.setattr(worker.Worker, "run", mapped)
    monkeypatch.setattr(predict, "open_backend", opening)
    assert run("in", "out", "--model", "m.onnx") == 0
    assert len(loaded) == 1


def test_a_file_system_without_locks(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert run("in", "out", "--model", "m.onnx") == 0
    assert "its file system has no locks; start one batch at a time" in capsys.readouterr().out


def test_sites_and_dates(world: Path) -> None:
    Path("list.csv").write_text("image,site,date\nin/cove0/m0.tif,Cove,2026-07-01\nin/cove1/m1.tif,,\n")
    assert run("list.csv", "out", "--model", "m.onnx", "--date", "2025-01-01") == 0
    rows = list(csv.DictReader((world / "out" / "summary.csv").read_text().splitlines()))
    assert [(row["site"], row["date"]) for row in rows] == [("Cove", "2026-07-01"), ("", "2025-01-01")]
    with rasterio.open(world / "out" / "in" / "cove0" / "m0.tif") as file:
        assert file.tags()["DATE"] == "2026-07-01"


def damage(folder: Path, line: Any) -> None:
    (folder / "batch.jsonl").write_text(f"{line}\n")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "batch.jsonl:1: isn't valid JSON"),
        ("[" * 100_000, "batch.jsonl:1: isn't valid JSON"),
        ("7", "batch.jsonl:1: is no line of a journal"),
        ('{"image": "a", "output": 3, "state": "done"}', "batch.jsonl:1: output: is missing or no text"),
        ('{"image": "a", "output": "a", "state": "x"}', "batch.jsonl:1: state: unknown (allowed: started, done"),
    ],
)
def test_a_damaged_journal(line: str, says: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "out").mkdir()
    damage(world / "out", line)
    said = refused(capsys, "in", "out", "--model", "m.onnx")
    assert says in said
    assert "(restore it, or choose another OUT_DIR)" in said or "allowed" in said
    assert list((world / "out").iterdir()) == [world / "out" / "batch.jsonl"]


def test_values_of_another_type_in_a_journal(world: Path) -> None:
    (world / "out").mkdir()
    damage(
        world / "out",
        '{"image": "a", "output": "a.tif", "state": "done", "pixels": "x", "areas": 3, "transform": [1], "height": -1, '
        '"crs": "nonsense", "class_pixels": {"kelp": NaN}, "file": 4, "settings": 5, "options": 1}',
    )
    assert run("in", "out", "--model", "m.onnx") == 0
    assert "a,a.tif,done" in (world / "out" / "summary.csv").read_text()

"""Inputs and options that the evaluation command refuses."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from eval.test_new_model import main
from tests.conftest import write_dataset, write_raster
from tests.inference.networks import card, write_onnx


def broken(kind: str, folder: Path) -> Path:
    sizes = {"test": [(40, 40)]}
    if kind == "empty":
        for part in ("x", "y"):
            (folder / "test" / part).mkdir(parents=True)
        return folder
    if kind == "missing":
        return folder / "nowhere"
    write_dataset(folder, sizes, bands=5 if kind == "bands" else 3)
    label = folder / "test" / "y" / "s0_label.tif"
    if kind in {"unlabelled", "values"}:
        write_raster(label, np.full((40, 40), 2 if kind == "unlabelled" else 7, np.uint8))
    if kind == "size":
        write_raster(label, np.zeros((40, 41), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "no GeoTIFF in it"),
        ("missing", "--data: a folder"),
        ("unlabelled", "no pixel is labelled"),
        ("bands", "has 5 bands, .* takes 3"),
        ("values", "label value 7 at row 0, column 0 is no class"),
        ("size", "is 41x40 pixels, its image is 40x40"),
    ],
)
def test_invalid_data(kind: str, said: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = broken(kind, tmp_path / "data")
    assert main([str(model), "--data", str(folder), "--out", str(tmp_path / "out")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("evaluating")]
    assert all(re.search(said, line) for line in lines), lines
    assert len(lines) == (2 if kind == "empty" else 1)
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.onnx"], "no such file"),
        (["a=1"], "overrides a config, but none was given"),
        (["MODEL", "data_module.data_dir=/data/kelp"], "overrides a config, but none was given"),
        (["kelp_dice=0.91.onnx"], "kelp_dice=0.91.onnx: no such file"),
        (["a.onnx", "b.onnx"], "only one MODEL is allowed"),
        (["MODEL", "--group", "("], "is not a regular expression"),
        (["MODEL", "--group", "zzz"], "isn't found in s0"),
        (["MODEL", "--bands", "0"], "numbers from 1, separated by commas"),
        (["MODEL", "--bands", "1,2"], "names 2 bands"),
        (["MODEL", "--ignore-index", "1"], "0 to 1 are classes"),
        (["MODEL", "--boundary-pixels", "0"], "above 0"),
        (["MODEL", "--boundary-metres", "1e9"], "--boundary-metres: 1e+09 (allowed: above 0, up to 1000)"),
        (["MODEL", "--ignore-index", "9" * 1000], "more characters"),
        (["MODEL", "--baseline-card", "x.json"], "there is no --baseline"),
    ],
)
def test_invalid_arguments(
    arguments: list[str], said: str, data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(model) if word == "MODEL" else word for word in arguments]
    try:
        code = main([*words, "--data", str(data), "--out", str(tmp_path / "out")])
    except SystemExit as end:
        code = int(end.code or 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("evaluating")]
    assert code == 2
    assert len(lines) == 1
    assert said in lines[0]


def test_images_of_another_type_are_refused_before_any_is_mapped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40)] * 4})
    for name in ("s2", "s3"):
        write_raster(data / "test" / "x" / f"{name}.tif", np.ones((3, 40, 40), np.uint16))
    monkeypatch.setattr("eval.evaluate.predict_split", None)
    assert main([str(model), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "evaluating" not in line]
    assert line.startswith(f"{data}/test/x/s2.tif: is uint16, the model was trained on uint8")
    assert line.endswith("(1 more image likewise)")
    assert not (tmp_path / "out").exists()


def test_images_without_a_valid_pixel(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40)]}, change=lambda i, y: (i * 0, y), nodata=0)
    arguments = [str(model), "--data", str(data), "--no-threshold", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert f"{data}/test/x: no pixel is both valid in its image and labelled" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--nodata", "none"]) == 0


def test_a_georeference_that_the_earth_does_not_have(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40), (44, 40)]}, crs="EPSG:4326")
    assert main([str(model), "--data", str(data), "--no-threshold", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    (notice,) = [line for line in said.err.splitlines() if line.startswith("notice: ")]
    assert f"{data}/test/x/s0.tif: its georeference is wrong: the Earth has no place at x 500" in notice
    assert "(1 more image likewise)" in notice
    assert "ground areas are unknown" in said.out
    assert "2 images are not georeferenced, or wrongly" in said.out
    found = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
    assert found["true_area/kelp1"] is None
    assert not [name for name in found if "@0.5 m" in name]


def test_a_baseline_of_other_classes(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_onnx(tmp_path / "other.onnx", card(classes=3))
    assert main([str(model), "--data", str(data), "--baseline", str(other), "--out", str(tmp_path / "o")]) == 2
    assert "can't be compared" in capsys.readouterr().err


def test_a_baseline_whose_classes_are_in_another_order(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["background", "macro", "nereo"]
    for name, order in (("a", names), ("b", ["background", "nereo", "macro"]), ("c", ["background", "big", "bull"])):
        write_onnx(tmp_path / f"{name}.onnx", card(classes=3, class_names=order, ignore_index=255))
    arguments = [str(tmp_path / "a.onnx"), "--data", str(data), "--out", str(tmp_path / "out"), "--no-threshold"]
    assert main([*arguments, "--baseline", str(tmp_path / "b.onnx")]) == 2
    assert "background, nereo, macro" in capsys.readouterr().err
    assert main([*arguments, "--baseline", str(tmp_path / "c.onnx")]) == 0
    assert "called background, big, bull; they are taken for background, macro, nereo" in capsys.readouterr().err


def test_only_maps_of_an_earlier_evaluation_are_removed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40)]})
    drawn = write_raster(tmp_path / "out" / "masks" / "drawn.tif", np.ones((4, 4), np.uint8))
    arguments = [str(model), "--data", str(data), "--out", str(tmp_path / "out"), "--no-threshold"]
    assert main(arguments) == 2
    assert (
        f"{drawn}: is not a map of an earlier evaluation, and is kept (choose another --out)" in capsys.readouterr().err
    )
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["drawn.tif"]
    drawn.unlink()
    assert [main(arguments), main(arguments)] == [0, 0]


def test_a_refused_evaluation_leaves_the_earlier_report_or_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second image is damaged: the first, of this model and of the baseline, is mapped before it is found."""
    data = write_dataset(tmp_path / "data", {"test": [(40, 40), (50, 40)]})
    out = tmp_path / "runs" / "judged"
    more = ["--data", str(data), "--out", str(out), "--no-threshold", "--overwrite"]
    damaged = data / "test" / "x" / "s1.tif"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    assert main([str(model), *more, "--baseline", str(model)]) == 2
    assert f"{damaged}: can't be read from row 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

    damaged.write_bytes(whole)
    assert main([str(model), *more, "--baseline", str(model)]) == 0
    report = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path.parent.name for path in report} == {"judged", "masks", "baseline-masks", "panels"}
    damaged.write_bytes(whole[: len(whole) // 2])
    assert main([str(model), *more]) == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == report

    damaged.write_bytes(whole)
    left = out / "report.elsewhere-1.writing" / "masks"
    left.mkdir(parents=True)
    for folder in (left, left.parent):
        os.utime(folder, (0, 0))
    assert main([str(model), *more]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "masks", "panels", "per_image.csv", "report.html", "scores.json",
    ]  # fmt: skip


def test_a_report_replaces_nothing_that_must_stay(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40)]})
    out = tmp_path / "out"
    (out / "panels").mkdir(parents=True)
    own = write_raster(out / "panels" / "own.png", np.ones((4, 4), np.uint8), driver="PNG")
    card_file = out / "scores.json"
    card_file.write_text(card(ignore_index=2).dumps())
    arguments = [str(model), "--data", str(data), "--out", str(out), "--no-threshold", "--overwrite"]
    assert main([*arguments, "--card", str(card_file)]) == 2
    assert f"{card_file}: is the model's card (choose another --out)" in capsys.readouterr().err
    assert card_file.read_text() == card(ignore_index=2).dumps()

    (out / "masks").write_text("a file")
    assert main(arguments) == 2
    assert f"{out}/masks: is not a folder, and is kept" in capsys.readouterr().err
    (out / "masks").unlink()

    elsewhere = tmp_path / "elsewhere.html"
    elsewhere.write_text("old")
    (out / "report.html").symlink_to(elsewhere)
    assert main(arguments) == 0
    assert (out / "report.html").is_symlink()
    assert elsewhere.read_text().startswith("<!DOCTYPE html>")
    statistics = out / "masks" / "s0.tif.aux.xml"  # of the map that is replaced; QGIS writes it
    statistics.write_text("<PAMDataset/>")
    assert main(arguments) == 0
    assert own.exists()
    assert not statistics.exists()


def test_a_report_does_not_replace_a_read_only_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40)]})
    kept = tmp_path / "scores.json"
    kept.write_text("{}")
    kept.chmod(0o444)
    assert main([str(model), "--data", str(data), "--out", str(tmp_path)]) == 2
    assert f"{kept}: is read-only" in capsys.readouterr().err
    assert kept.read_text() == "{}"

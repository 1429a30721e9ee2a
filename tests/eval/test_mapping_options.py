"""Options of mapping in an evaluation, and reports that are not replaced silently."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from eval.scoring.counts import Distance
from eval.test_new_model import main
from inference.inference import main as map_mosaic


def test_maps_are_those_of_the_command_with_the_same_options(data: Path, model: Path, tmp_path: Path) -> None:
    options = ["--threshold", "0.3", "--tile-size", "32", "--overlap", "0", "--window", "none", "--nodata", "none"]
    out = tmp_path / "out"
    assert main([str(model), "--data", str(data), "--out", str(out), "--no-threshold", *options]) == 0
    image = sorted((data / "test" / "x").glob("*.tif"))[0]
    target = tmp_path / "map.tif"
    assert map_mosaic([str(image), str(target), "--model", str(model), *options]) == 0
    with rasterio.open(target) as one, rasterio.open(out / "masks" / image.name) as other:
        np.testing.assert_array_equal(one.read(), other.read())
        np.testing.assert_array_equal(one.dataset_mask(), other.dataset_mask())
    found = json.loads((out / "scores.json").read_text())
    assert found["mapping"]["threshold"] == 0.3


def test_a_report_of_another_evaluation_stays(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(model), "--data", str(data), "--out", str(tmp_path), "--no-threshold"]
    assert main(arguments) == 0
    before = (tmp_path / "scores.json").read_text()
    for more, said in (
        (["--threshold", "0.9"], "options of mapping was none, is {'threshold': 0.9}"),
        (["--baseline", str(model)], "--baseline was none, is "),
        (["--split", "val"], "--split was test, is val"),
    ):
        capsys.readouterr()
        assert main([*arguments, *more]) == 2
        assert said in capsys.readouterr().err
        assert (tmp_path / "scores.json").read_text() == before
        assert (tmp_path / "report.html").exists()
    assert main([*arguments, "--threshold", "2"]) == 2
    assert (tmp_path / "scores.json").read_text() == before
    assert main([*arguments, "--threshold", "0.9", "--overwrite"]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["mapping"] == {"threshold": 0.9}


def test_a_threshold_chosen_on_the_scored_pixels_is_said_to_be(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(model), "--data", str(data), "--out", str(tmp_path), "--split", "val"]) == 0
    assert "on the same pixels" in capsys.readouterr().out


def test_no_boundary_score_below_a_pixel() -> None:
    half = Distance(0.5, "m")
    assert half.pixels(5) is None
    assert half.pixels(0.0004) is None  # more than a thousand pixels would be read beyond each part of an image
    assert half.pixels(0.5002) == pytest.approx(1, abs=1e-3)
    assert half.pixels(0.1) == pytest.approx(5)

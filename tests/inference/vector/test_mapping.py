"""Polygons, sites and styles that are written with a map: the same as those of the finished map."""

import csv
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from inference.polygons import main as polygons
from tests.conftest import write_raster
from tests.inference.commands import ROOT, leftovers, run, texture
from tests.inference.networks import card, write_onnx
from tests.inference.vector.maps import read_polygons


@pytest.fixture(params=[0, None], ids=["background", "no background"])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a mosaic with invalid pixels, a model of three classes, and sites."""
    pixels = texture(300, 260)
    pixels[:, 100:140, 30:90] = 0
    mosaic = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    model = write_onnx(tmp_path / "m.onnx", card(classes=3, background_index=request.param))
    with rasterio.open(mosaic) as src:
        crs, left, bottom, right, top = src.crs, *src.bounds
    x, y = np.linspace(left, right, 4), np.linspace(bottom, top, 4)
    shapes = [shapely.box(x[0], y[0], x[2], y[3]), shapely.Point(x[2], y[1]).buffer((x[1] - x[0]) / 1.5)]
    sites = tmp_path / "sites.gpkg"
    geopandas.GeoDataFrame({"site": ["A", "B"]}, geometry=shapes, crs=crs).to_file(sites)
    return mosaic, model, sites


def test_what_comes_with_a_map_is_that_of_the_map(
    mapped: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mosaic, model, sites = mapped
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    options = ["--min-area", "0.02", "--fill-holes", "0.03", "--sites", sites, "--qgis-style", "--date", "2026-07-31"]
    floats = one / "p.tif"
    files = ["--polygons", one / "m.gpkg", "--table", one / "s.csv", "--probabilities", floats]
    assert run(mosaic, one / "m.tif", "--model", model, *files, *options) == 0
    out = capsys.readouterr().out
    for text in (
        "polygons: ",
        "dropped: ",
        "filled: ",
        "sites: 2 (",
        *(f"wrote: {one / name}" for name in ("m.gpkg", "s.csv", "m.qml")),
    ):
        assert text in out
    (other / "m.tif").write_bytes((one / "m.tif").read_bytes())
    again = [other / "m.tif", other / "m.gpkg", "--table", other / "s.csv", "--probabilities", floats, *options]
    assert polygons([str(word) for word in again]) == 0
    for name in ("m.gpkg", "s.csv", "m.qml"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    found = read_polygons(one / "m.gpkg")
    assert found["mean_probability"].between(1 / 3, 1).all()
    assert (found["lowest_probability"] <= found["mean_probability"]).all()
    assert set(found["date"]) == {"2026-07-31"}
    assert set(found["image"]) == {"in.tif"}
    rows = list(csv.DictReader((one / "s.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["site"] for row in rows] == ["A", "B"]
    assert float(rows[0]["invalid_m2"]) > 0
    assert leftovers(one) == leftovers(other) == []


def test_polygons_without_probabilities_file_know_the_probabilities(
    mapped: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    mosaic, model, _ = mapped
    assert run(mosaic, tmp_path / "m.tif", "--model", model, "--polygons", tmp_path / "m.fgb") == 0
    assert read_polygons(tmp_path / "m.fgb")["mean_probability"].notna().all()


def test_a_map_of_a_model_without_background_has_polygons_of_all_classes(tmp_path: Path) -> None:
    mosaic = write_raster(tmp_path / "in.tif", texture(90, 80))
    model = write_onnx(tmp_path / "m.onnx", card(classes=3, background_index=None))
    assert run(mosaic, tmp_path / "m.tif", "--model", model, "--polygons", tmp_path / "m.gpkg") == 0
    found = read_polygons(tmp_path / "m.gpkg")
    assert found["pixels"].sum() == 90 * 80
    assert set(found["class"]) == {0, 1, 2}


def test_polygons_run_as_a_file_and_as_a_module(tmp_path: Path) -> None:
    from tests.inference.vector.maps import patches, write_map

    path = write_map(tmp_path / "m.tif", patches(40, 50, 2, 0))
    for folder, command in (
        (ROOT / "inference", [sys.executable, "polygons.py"]),
        (ROOT, [sys.executable, "-m", "inference.polygons"]),
    ):
        done = subprocess.run(
            [*command, path, tmp_path / "m.gpkg", "--overwrite"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "wrote: " in done.stdout

"""A mosaic that is mapped in row bands: the files are those of one process, byte for byte."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from inference.common.errors import UserError
from inference.common.signals import Cancelled
from inference.options import WINDOW_NAMES, Options
from inference.output.summary import Summary
from inference.plan import Plan, make_plan
from inference.predict import Mapper, predict, with_range
from inference.split.split import PredictedBand, join_bands, predict_band
from inference.tiles import strips
from inference.tiles.row_bands import row_band
from tests.conftest import write_raster
from tests.inference.commands import leftovers
from tests.inference.networks import card, write_onnx

TILE = 16


def predicted(plan: Plan, folder: Path, cuts: Sequence[int]) -> list[PredictedBand]:
    """Predict the bands between rows of tiles, from the last to the first, each with a model of its own."""
    edges = [0, *cuts, len(plan.rows)]
    found = []
    for number in reversed(range(len(edges) - 1)):
        band = row_band(plan.rows, edges[number], edges[number + 1])
        found.append(predict_band(plan, Mapper().load(plan), band, folder / str(number)))
    return found[::-1]


def split(source: Path, target: Path, cuts: Sequence[int], **options: Any) -> Summary:
    """Map a mosaic in bands that are cut at rows of tiles."""
    plan = with_range(make_plan(source, target, Options(**options)))
    folder = target.parent / "bands"
    folder.mkdir()
    summary = join_bands(plan, predicted(replace(plan, vector=None), folder, cuts))
    assert leftovers(target.parent) + leftovers(folder) == []
    return summary


def compare(folder: Path, source: Path, cuts: Sequence[int], files: dict[str, str], **options: Any) -> Summary:
    """Check that all files, notices and numbers are those of one process; return the summary of that."""
    (folder / "plain").mkdir(parents=True)
    (folder / "split").mkdir()
    found = []
    for name in ("plain", "split"):
        paths = {option: folder / name / file for option, file in files.items()}
        both = {"threads": 1, **options, **paths}
        target = folder / name / "o.tif"
        found.append(predict(source, target, **both) if name == "plain" else split(source, target, cuts, **both))
    for file in ("o.tif", *files.values()):
        assert (folder / "split" / file).read_bytes() == (folder / "plain" / file).read_bytes(), file
    one, other = (replace(each, seconds=0.0, paths=[], lines=[]) for each in found)
    assert str(one) == str(other)
    assert (one.notices, one.tiles, one.skipped, one.classes) == (
        other.notices,
        other.tiles,
        other.skipped,
        other.classes,
    )
    return found[0]


@pytest.fixture(autouse=True)
def thin_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small mosaics have several strips."""
    monkeypatch.setattr(strips, "STRIP", 16)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, float | None], Path]:
    """Models with a 3 x 3 convolution, by the number of classes and the ground sample distance."""
    folder = tmp_path_factory.mktemp("models")
    return {
        (classes, gsd): write_onnx(
            folder / f"{classes}-{gsd}.onnx",
            card(classes=classes, tile_size=TILE, ground_sample_distance=gsd),
            kernel=3,
        )
        for classes in (2, 3)
        for gsd in (None, 0.04, 0.17)
    }


def mosaic(path: Path, height: int, width: int, seed: int, empty: float) -> Path:
    """Write a mosaic with blocks of noise and of nodata, the latter with a probability."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 256, (3, height, width)).astype(np.uint8)
    gone = np.kron(rng.random((-(-height // 13), -(-width // 13))) < empty, np.ones((13, 13)))[:height, :width] > 0
    pixels[:, gone] = 0
    return write_raster(path, pixels, nodata=0, tiled=True, blockxsize=16, blockysize=16)


def number(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bands_of_any_mosaic(
    models: dict[tuple[int, float | None], Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    draw, folder = data.draw, tmp_path_factory.mktemp("map")
    source = mosaic(
        folder / "m.tif", draw(number(2, 130)), draw(number(1, 60)), draw(number(0, 99)), draw(st.floats(0, 0.9))
    )
    classes, gsd = draw(st.sampled_from([2, 3])), draw(st.sampled_from([None, 0.04, 0.17]))
    options: dict[str, Any] = {
        "model": models[classes, gsd],
        "tile_size": draw(st.sampled_from([7, 16, 24])),
        "overlap": draw(st.sampled_from([0.0, 0.1, 0.5, 0.8])),
        "window": draw(st.sampled_from(WINDOW_NAMES)),
        "tta": draw(st.booleans()),
        "resample": gsd is not None and draw(st.booleans()),
        "batch_size": draw(number(1, 3)),
        "nodata": draw(st.sampled_from([None, "none", 7])),
        "cog": False,
    }
    rows = len(make_plan(source, folder / "none.tif", Options(**options)).rows)
    cuts = sorted(draw(st.sets(number(1, rows - 1), max_size=3))) if rows > 1 else []
    files = {"probabilities": "p.tif", "polygons": "p.geojson"}
    compare(folder, source, cuts, files, **options)


def test_files_about_a_map(tmp_path: Path, models: dict[tuple[int, float | None], Path]) -> None:
    source = mosaic(tmp_path / "m.tif", 150, 90, 1, 0.7)
    files = {"probabilities": "p.tif", "polygons": "p.gpkg", "table": "t.csv"}
    box = {"type": "Polygon", "coordinates": [[[5e5, 5.8e6], [500009, 5.8e6], [500009, 5799988], [5e5, 5.8e6]]]}
    feature = {"type": "Feature", "properties": {"name": "cove"}, "geometry": box}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32609"}}
    (tmp_path / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    options = {"sites": tmp_path / "s.geojson", "min_area": 0.05, "qgis_style": True}
    summary = compare(tmp_path, source, [5, 9], files, model=models[3, None], **options)
    assert summary.skipped
    assert (tmp_path / "split" / "o.qml").read_bytes() == (tmp_path / "plain" / "o.qml").read_bytes()


@pytest.mark.parametrize("normalization", ["min_max", "min_max_per_channel"])
def test_the_range_is_that_of_the_whole_mosaic(tmp_path: Path, normalization: str) -> None:
    made = card(tile_size=TILE, normalization=normalization)
    source = mosaic(tmp_path / "m.tif", 90, 40, 1, 0.2)
    summary = compare(tmp_path, source, [4], {}, model=write_onnx(tmp_path / "m.onnx", made))
    assert "measured in an extra pass" in "".join(summary.notices)


def test_undeclared_nodata_and_alpha_bands_are_noticed(
    tmp_path: Path, models: dict[tuple[int, float | None], Path]
) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (4, 120, 50)).astype(np.uint8)
    pixels[:3, :40, :20] = 255
    colours = ("red", "green", "blue", "alpha")
    source = write_raster(tmp_path / "m.tif", pixels, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(source, "r+") as file:
        file.colorinterp = [ColorInterp[colour] for colour in colours]
    summary = compare(tmp_path, source, [3, 6, 9], {}, model=models[2, None])
    assert "255" in "".join(summary.notices)
    assert "is marked as alpha" in "".join(summary.notices)


def said(act: Any) -> str:
    with pytest.raises(UserError) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("width", [20, 72, 400], ids=["few tiles", "enough in two bands", "enough in one band"])
def test_probabilities_declared_as_logits(tmp_path: Path, width: int) -> None:
    """The message has the range of all bands where no band has enough tiles."""
    model = write_onnx(tmp_path / "m.onnx", card(tile_size=TILE), end="probabilities")
    source = mosaic(tmp_path / "m.tif", 120, width, 1, 0.0)
    message = said(lambda: predict(source, tmp_path / "o.tif", model=model))
    assert "they are probabilities already" in message
    assert said(lambda: split(source, tmp_path / "o.tif", [5, 8], model=model)) == message
    plan = make_plan(source, tmp_path / "o.tif", Options(model=model))
    if width == 20:
        bands = predicted(plan, tmp_path, [5, 8])  # a tile that two bands predict is counted once
        assert sum(found.tiles for band in bands for found in band.ranges) == len(plan.rows) * len(plan.cols)


def test_damaged_bands(tmp_path: Path, models: dict[tuple[int, float | None], Path]) -> None:
    plan = make_plan(mosaic(tmp_path / "m.tif", 90, 40, 1, 0.0), tmp_path / "o.tif", Options(model=models[2, None]))
    bands = predicted(plan, tmp_path, [4])
    content = bands[1].path.read_bytes()
    bands[1].path.write_bytes(content[:-1])
    assert said(lambda: join_bands(plan, bands)) == f"{tmp_path}/1: is cut short (the disk or the network failed)"
    bands[1].path.unlink()
    assert f"{tmp_path}/1: can't be read: No such file" in said(lambda: join_bands(plan, bands))
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "o.tif").exists()


def test_a_band_that_is_abandoned_leaves_no_file(tmp_path: Path, models: dict[tuple[int, float | None], Path]) -> None:
    plan = make_plan(mosaic(tmp_path / "m.tif", 90, 40, 1, 0.0), tmp_path / "o.tif", Options(model=models[2, None]))

    def show(done: int, tiles: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        predict_band(plan, Mapper().load(plan), row_band(plan.rows, 2, 5), tmp_path / "0", show)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif"]

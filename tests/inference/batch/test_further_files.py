"""Files beside the maps of a batch, its progress, and one map of all maps."""

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio import Affine

from inference.batch import progress
from inference.batch.entries import Entry
from inference.batch.mosaic import Unfit, make_mosaic
from inference.batch.reasons import Reasons
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx
from tests.inference.vector.maps import write_polygons

from .survey import contents, journal, pixels, run, write_survey


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the survey `in` and the model `m.onnx`; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_survey(tmp_path / "in")
    return tmp_path


def test_polygons_probabilities_sites_and_styles(world: Path) -> None:
    # On the first two mosaics.
    outline = shapely.box(5e5 + 1, 5.8e6 - 3, 5e5 + 6, 5.8e6 - 1)
    far = shapely.box(6e5, 5.8e6 - 3, 6e5 + 6, 5.8e6 - 1)
    write_polygons(world / "s.gpkg", [outline, far], transform=None, site=["cove", "far"])
    arguments = ["--polygons", "shapes/{name}.fgb", "--probabilities", "_p.tif", "--min-area", "0.05", "--qgis-style"]
    sites = ["--sites", "s.gpkg", "--table", ".csv"]
    assert run("in", "out", "--model", "m.onnx", *arguments, *sites) == 0
    files = set(contents(world / "out"))
    names = [f"cove{at % 2}/m{at}" for at in range(4)]
    expected = {f"{name}{ending}" for name in names for ending in (".tif", "_p.tif", ".qml")}
    expected |= {f"shapes/{name}.fgb" for name in names} | {"cove0/m0.csv", "cove1/m1.csv"}
    assert files == expected | {"summary.csv", "index.gpkg", "index.vrt", "sites.csv"}
    with (world / "out" / "cove0" / "m0.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["outside_m2"]) == pytest.approx(4, rel=0.01)
    with (world / "out" / "sites.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["map"], row["site"]) for row in rows] == [("cove0/m0.tif", "cove"), ("cove1/m1.tif", "cove")]
    assert rows[0] == {"map": "cove0/m0.tif"} | row
    assert sum(float(row["kelp1_m2"]) + float(row["background_m2"]) for row in rows) == pytest.approx(10, rel=0.01)
    before = contents(world / "out")
    (world / "out" / "shapes" / "cove1" / "m3.fgb").unlink()
    lines = len(journal(world / "out"))
    assert run("in", "out", "--model", "m.onnx", *arguments, *sites) == 0
    assert [line["output"] for line in journal(world / "out")[lines:]] == ["cove1/m3.tif"] * 2, (
        "all files must be there"
    )
    assert contents(world / "out") == before
    assert run("in/cove0/m0.tif", "one.tif", "--model", "m.onnx", "--polygons", "one.fgb", "--min-area", "0.05") == 0
    one, other = (pyogrio.read_dataframe(path) for path in ("one.fgb", "out/shapes/cove0/m0.fgb"))
    assert one.equals(other)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_for_all_pixels(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress.BatchProgress(["in/cove0/m0.tif", "in/cove1/m1.tif"]) as bar:
        bar._sizes.join()
        bar._bar.mininterval = 0
        bar.show("in/cove0/m0.tif", 1, 2)
        bar.finish("in/cove0/m0.tif", 1600)
        bar.show("in/cove1/m1.tif", 1, 4)
        bar.say("a failure")
    text = shown.getvalue()
    assert "1/2 in/cove0/m0.tif:  25%" in text
    assert "2/2 in/cove1/m1.tif:  62%" in text
    assert "3.20kpx" in text.replace("3.20k", "3.20kpx")
    assert "a failure\n" in text


def test_a_line_elsewhere(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.BatchProgress(["in/cove0/m0.tif", "in/cove1/m1.tif"]) as bar:
        bar._sizes.join()
        bar.show("in/cove0/m0.tif", 1, 2)
        assert capsys.readouterr().err == "", "nothing in the first half minute"
        bar._due = 0.0
        bar.show("in/cove0/m0.tif", 1, 2)
        bar.show("in/cove0/m0.tif", 1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mapping: image 1 of 2, 0.0 of 0.0 Mpx, ")
    assert line.endswith(" left: in/cove0/m0.tif")


def test_sizes_that_are_not_known_count_as_the_mean(world: Path) -> None:
    write_raster(world / "in" / "wide.tif", np.ones((3, 40, 120), np.uint8))
    sizes = progress.Sizes(["in/cove0/m0.tif", "in/wide.tif", "gone.tif"])
    assert sizes.total == 0
    sizes.add("in/cove0/m0.tif", 1600)
    assert sizes.total == 4800
    sizes.run()
    assert sizes.total == 1600 + 4800


def test_reasons_are_counted_without_the_names() -> None:
    reasons = Reasons()
    for name in ("a.tif", "b.tif"):
        reasons.add(name, f"{name}: has 2 bands ({name} is bad)")
    reasons.add("c.tif", "c.tif: is cut short")
    assert reasons.table("failed") == [
        "failed:",
        "       2  has 2 bands (IMAGE is bad): a.tif and 1 more",
        "       1  is cut short: c.tif",
    ]
    for at in range(40):
        reasons.add(f"{at}.tif", f"reason {at * 'x'}")
    table = reasons.table("failed")
    assert len(table) == 22
    assert table[-1] == "      22  22 other reasons (see batch.jsonl)"


def entry(**changes: object) -> Entry:
    values: dict[str, object] = {
        "image": "a",
        "output": "a.tif",
        "state": "done",
        "class_pixels": {"background": 1, "kelp": 2},
        "height": 10,
        "width": 20,
        "crs": "EPSG:32609",
        "transform": Affine(0.1, 0, 5e5, 0, -0.1, 5.8e6),
        "background": 0,
    }
    return Entry(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crs": "EPSG:32610"}, r"the maps have 2 coordinate reference systems \(EPSG:32609, EPSG:32610\)"),
        ({"transform": Affine(0.1, 0.1, 5e5, 0.1, -0.1, 5.8e6)}, "the grids of some maps are turned"),
        ({"transform": Affine(0.1, 0, 5e5, 0, 0.1, 5.8e6)}, "the grids of some maps are mirrored"),
        ({"class_pixels": {"background": 1, "mussels": 2}}, "the maps have different classes"),
        ({"transform": Affine(0.1, 0, 9e9, 0, -0.1, 5.8e6)}, "together the maps are 89,995,000,020 x 10 pixels"),
        ({"height": 0}, "the journal doesn't state the size of all maps"),
    ],
)
def test_maps_that_do_not_fit_together(changes: dict[str, object], says: str) -> None:
    with pytest.raises(Unfit, match=says):
        make_mosaic([entry(), entry(output="b.tif", **changes)])
    with pytest.raises(Unfit, match="no map is done"):
        make_mosaic([entry(transform=None)])


def test_a_mosaic_shows_the_maps_and_what_is_invalid(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = world / "grids"
    values = pixels(0, side=60)
    values[:, :30] = 0
    write_raster(folder / "a & b.tif", values, nodata=0)
    write_raster(folder / "c.tif", pixels(1), origin=(5e5 + 2, 5.8e6 - 1), nodata=0)
    write_raster(folder / "plain.tif", pixels(2), crs=None, transform=None)
    assert run("grids", "out", "--model", "m.onnx") == 0
    assert "index.vrt: maps that aren't georeferenced are left out, 1" in capsys.readouterr().out
    expected, valid = np.zeros((60, 60), np.uint8), np.zeros((60, 60), bool)
    for name, (row, col) in (("a & b.tif", (0, 0)), ("c.tif", (10, 20))):
        with rasterio.open(world / "out" / name) as file:
            part = np.s_[row : row + file.height, col : col + file.width]
            own = file.read_masks(1) > 0
            expected[part] = np.where(own, file.read(1), expected[part])
            valid[part] |= own
    with rasterio.open(world / "out" / "index.vrt") as vrt:
        assert vrt.bounds == (5e5, 5.8e6 - 6, 5e5 + 6, 5.8e6)
        np.testing.assert_array_equal(vrt.read(1), expected)
        np.testing.assert_array_equal(vrt.read_masks(1) > 0, valid)
        assert vrt.colormap(1)[1][:3] != (0, 0, 0)


def test_a_mosaic_without_background(world: Path) -> None:
    write_onnx(world / "own.onnx", card(background_index=None, class_names=["a", "b"]))
    write_raster(world / "far" / "a.tif", pixels(0))
    write_raster(world / "far" / "b.tif", pixels(1), origin=(5e5 + 8, 5.8e6))
    assert run("far", "out", "--model", "own.onnx") == 0
    with rasterio.open(world / "out" / "index.vrt") as vrt:
        values = vrt.read(1)
        assert (values[:, 40:80] == 255).all()
        assert vrt.nodata == 255
        assert set(np.unique(values[:, :40])) == {0, 1}


@pytest.mark.parametrize(
    ("second", "lines"),
    [
        (lambda: {"origin": (5e5 + 4.03, 5.8e6)}, 1),
        (lambda: {"transform": Affine(0.2, 0, 5e5 + 4, 0, -0.2, 5.8e6)}, 0),
    ],
)
def test_grids_that_differ(
    second: Callable[[], dict[str, object]], lines: int, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raster(world / "grids" / "a.tif", pixels(0))
    write_raster(world / "grids" / "b.tif", pixels(1), **second())  # type: ignore[arg-type]
    assert run("grids", "out", "--model", "m.onnx") == 0
    out = capsys.readouterr().out
    assert out.count("index.vrt: the grids of the maps differ; each is drawn to the nearest pixel") == lines
    with rasterio.open(world / "out" / "index.vrt") as vrt, rasterio.open(world / "out" / "b.tif") as file:
        assert vrt.res == (0.1, 0.1)
        assert [vrt.read(1)[2, 42]] == [file.read(1)[2 // (2 - lines), 2 // (2 - lines)]]

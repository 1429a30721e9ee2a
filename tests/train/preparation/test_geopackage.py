"""dataset.gpkg: what is written is what training reads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer
from rasterio import Affine

from inference.common.raster import Header, read_header
from tests.conftest import write_raster
from train.data.prepared import Block, PreparedSet, Settings, Source
from train.data.read_prepared import read_prepared
from train.preparation.geopackage import write_dataset


def header(folder: Path, name: str, crs: str | None, transform: Affine) -> Header:
    return read_header(
        write_raster(folder / f"{name}.tif", np.zeros((3, 40, 50), np.uint8), crs=crs, transform=transform)
    )


UTM = Affine(0.1, 0, 562_000, 0, -0.1, 5_722_000)
DEGREES = Affine(1e-6, 0, -128, 0, -1e-6, 51)


def prepared(folder: Path, headers: dict[str, Header]) -> PreparedSet:
    sources = {
        name: Source(name, f"../{name}.tif", "a site", None, 50, 40, 3, "uint8", "EPSG:32609", 0.1, 6000, "ab")
        for name in headers
    }
    blocks = [
        Block(f"{name}_r0_c0", name, 0, 0, 20, 30, "train", 2, True, "", 0.1, 0.2, (0.3, 0.4)) for name in headers
    ]
    blocks += [
        Block(f"{name}_r1_c0", name, 20, 10, 20, 40, "val", None, False, "guard", 0, 0, (1, 0)) for name in headers
    ]
    return PreparedSet(folder, Settings(("background", "Bull kelp, é"), 16, 1.6, 16, "block", 3, 0), sources, blocks)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    headers = {"a": header(tmp_path, "a", "EPSG:32609", UTM), "b": header(tmp_path, "b", "EPSG:32609", UTM)}
    written = prepared(tmp_path, headers)
    write_dataset(tmp_path / "dataset.gpkg", written, list(headers.values()))
    assert read_prepared(tmp_path) == written
    first = (tmp_path / "dataset.gpkg").read_bytes()
    write_dataset(tmp_path / "dataset.gpkg", written, list(headers.values()))
    assert (tmp_path / "dataset.gpkg").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "b.tif", "dataset.gpkg"}


def test_columns_have_their_types_without_values(tmp_path: Path) -> None:
    headers = {"a": header(tmp_path, "a", None, Affine.identity())}
    written = prepared(tmp_path, headers)
    written = replace(written, settings=replace(written.settings, folds=None))
    written.sources["a"] = replace(written.sources["a"], gsd=None, bytes=None, crs=None)
    written.blocks[:] = [replace(block, fold=None) for block in written.blocks]
    write_dataset(tmp_path / "dataset.gpkg", written, list(headers.values()))
    types = {}
    for layer in ("sources", "blocks"):
        info = pyogrio.read_info(tmp_path / "dataset.gpkg", layer=layer)
        types |= dict(zip(info["fields"], info["dtypes"], strict=True))
    assert {name: types[name] for name in ("fold", "bytes", "gsd", "date", "selected")} == {
        "fold": "int64", "bytes": "int64", "gsd": "float64", "date": "object", "selected": "bool",
    }  # fmt: skip
    assert read_prepared(tmp_path) == written


def test_rectangles_lie_on_their_pixels(tmp_path: Path) -> None:
    headers = {"a": header(tmp_path, "a", "EPSG:32609", UTM)}
    write_dataset(tmp_path / "dataset.gpkg", prepared(tmp_path, headers), list(headers.values()))
    meta, _, shapes, _ = pyogrio.raw.read(tmp_path / "dataset.gpkg", layer="blocks")
    assert meta["crs"] == "EPSG:32609"
    first, second = shapely.from_wkb(shapes)
    assert first.equals(shapely.box(562_000, 5_721_998, 562_003, 5_722_000))
    assert second.bounds == pytest.approx((562_001, 5_721_996, 562_005, 5_721_998))


def test_images_of_several_crs_are_drawn_in_degrees(tmp_path: Path) -> None:
    headers = {
        "a": header(tmp_path, "a", "EPSG:32609", UTM),
        "b": header(tmp_path, "b", "EPSG:4326", DEGREES),
        "c": header(tmp_path, "c", None, Affine.identity()),
    }
    write_dataset(tmp_path / "dataset.gpkg", prepared(tmp_path, headers), list(headers.values()))
    meta, _, shapes, _ = pyogrio.raw.read(tmp_path / "dataset.gpkg", layer="sources")
    assert meta["crs"] == "EPSG:4326"
    a, b, c = shapely.from_wkb(shapes)
    assert a.bounds == pytest.approx((-128.103, 51.64, -128.102, 51.65), abs=0.01)
    assert b.bounds == pytest.approx((-128, 51 - 40e-6, -128 + 50e-6, 51))
    assert c is None


def test_an_outline_across_the_antimeridian_is_no_band(tmp_path: Path) -> None:
    east, north = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(-180, 51)
    headers = {
        "a": header(tmp_path, "a", "EPSG:32601", Affine(1, 0, east - 20, 0, -1, north)),
        "b": header(tmp_path, "b", "EPSG:4326", DEGREES),
    }
    write_dataset(tmp_path / "dataset.gpkg", prepared(tmp_path, headers), list(headers.values()))
    _, _, shapes, _ = pyogrio.raw.read(tmp_path / "dataset.gpkg", layer="sources")
    west, _, right, _ = shapely.from_wkb(shapes)[0].bounds
    assert right - west < 1e-3

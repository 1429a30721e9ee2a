"""Validity of pixels: training and mapping agree, and both agree with the definition."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from inference.common.raster import read_header
from inference.common.validity import fill, invalid_pixels
from inference.tiles.strips import Source
from tests.conftest import write_raster
from tests.inference.tiles.test_strips import read_all
from train.data.labels import LabelRule
from train.data.pairs import Pair, Scene
from train.data.reader import Reader

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def compare(path: Path, bands: Sequence[int], fill_value: float) -> np.ndarray:
    """Read an image as training and as mapping do, check that they agree, and return what is invalid, (H, W)."""
    header = read_header(path)
    pixels, invalid = read_all(Source(header, bands, fill_value, header.nodata[bands[0] - 1]))
    reader = Reader(LabelRule(2, 255), fill_value)
    scene = Scene(Pair(path, path), header, header)
    expected, gone = reader.image(scene, bands, Window(0, 0, header.width, header.height))
    gone = np.zeros((header.height, header.width), bool) if gone is None else gone
    np.testing.assert_array_equal(invalid, gone)
    fill(expected.transpose(2, 0, 1), gone, fill_value)
    np.testing.assert_array_equal(pixels.astype(np.float32), expected.transpose(2, 0, 1).astype(np.float32))
    return invalid


def make(path: Path, kind: str) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4, (3, 300, 70)).astype(np.uint8)
    hole = rng.random((300, 70)) < 0.3
    if kind == "nodata":
        return write_raster(path, pixels, nodata=2)
    if kind == "nodata that no byte has":
        return write_raster(path, pixels.astype(np.int16), nodata=-9999)
    if kind == "nodata of floats":
        floats = pixels.astype(np.float32)
        floats[:, hole] = np.float32(-3.4e38)
        return write_raster(path, floats, nodata=-3.4e38)
    if kind == "nan":
        floats = pixels.astype(np.float32)
        floats[1, hole] = np.nan
        floats[2, 0] = np.inf
        return write_raster(path, floats)
    if kind == "double":
        return write_raster(path, pixels.astype(np.float64), nodata=0)
    if kind == "uint32":
        return write_raster(path, pixels.astype(np.uint32) * 70000, nodata=70000)
    if kind == "alpha":
        write_raster(path, np.concatenate([pixels, np.where(hole, 0, 9)[None].astype(np.uint8)]), photometric="RGB")
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        return path
    write_raster(path, pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "mask"), rasterio.open(path, "r+") as file:
        file.write_mask(np.where(hole, 0, 255).astype(np.uint8))
    return path


KINDS = [
    "nodata",
    "nodata that no byte has",
    "nodata of floats",
    "nan",
    "double",
    "uint32",
    "alpha",
    "mask",
    "msk file",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill_value", [0.0, 3.0])
def test_training_and_inference_read_the_same(tmp_path: Path, kind: str, fill_value: float) -> None:
    compare(make(tmp_path / "in.tif", kind), (1, 2, 3), fill_value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nodata_must_stand_in_all_bands(tmp_path: Path, dtype: str) -> None:
    largest = float(np.finfo("float32").max) if np.dtype(dtype).kind == "f" else int(np.iinfo(dtype).max)
    for nodata in (0, 7, largest, *([float("nan")] if np.dtype(dtype).kind == "f" else [])):
        pixels = np.random.default_rng(0).integers(1, 6, (3, 40, 50)).astype(dtype)
        expected = np.random.default_rng(1).random((40, 50)) < 0.3
        pixels[:, expected] = nodata
        pixels[:2, 3, 4] = nodata
        pixels[2, 3, 4] = 5
        expected[3, 4] = np.isnan(nodata)  # GDAL calls it valid; a NaN is no number in any band
        path = write_raster(tmp_path / "in.tif", pixels, nodata=nodata)
        np.testing.assert_array_equal(compare(path, (1, 2, 3), 0.0), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nodata", [None, 3])
def test_alpha_decides_unless_it_is_read_as_data(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    pixels = np.random.default_rng(0).integers(1, 6, (4, 30, 20)).astype(dtype)
    gone = np.random.default_rng(1).random((30, 20)) < 0.3
    pixels[3] = np.where(gone, 0, 9)
    path = write_raster(tmp_path / "in.tif", pixels, nodata=nodata)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined, ColorInterp.alpha]
    assert read_header(path).alpha == (4,)
    for bands, alpha in (((1, 2, 3), gone), ((2, 4), np.zeros_like(gone))):
        marked = (pixels[np.array(bands) - 1] == nodata).all(axis=0) if nodata is not None else np.zeros_like(gone)
        np.testing.assert_array_equal(compare(path, bands, 1.0), alpha | marked)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mask_and_what_is_not_finite(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(1, 6, (2, 30, 20)).astype(dtype)
    gone = np.random.default_rng(1).random((30, 20)) < 0.3
    expected = gone.copy()
    if np.dtype(dtype).kind == "f":
        pixels[0, 1, 2], pixels[1, 2, 2], pixels[1, 3, 2] = np.nan, np.inf, -np.inf
        expected[1:4, 2] = True
    path = write_raster(tmp_path / "in.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.where(gone, 0, 255).astype(np.uint8))
    np.testing.assert_array_equal(compare(path, (1, 2), 2.0), expected)


def test_where_all_is_valid_there_is_no_array() -> None:
    pixels = np.ones((2, 5, 5), np.uint8)
    assert invalid_pixels(pixels, "uint8", 0, None) is None
    assert invalid_pixels(pixels, "uint8", None, np.zeros((5, 5), bool)) is None
    assert invalid_pixels(pixels.astype(np.float32), "float32", float("nan"), None) is None


def test_an_alpha_band_that_is_read_as_data_says_nothing(tmp_path: Path) -> None:
    header = read_header(str(make(tmp_path / "in.tif", "alpha")))
    assert header.alpha == (4,)
    _, invalid = read_all(Source(header, (1, 2, 4), 0.0, None))
    assert not invalid.any()

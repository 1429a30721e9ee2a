"""Reading a mosaic: the same pixels, valid where training calls them so, every block once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from inference.common.raster import Source, read_header
from tests.conftest import write_raster


def whole(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """All strips together, (bands, H, W) and (H, W); checks that they come in order and whole."""
    row, pixels, invalid = 0, [], []
    for strip in source.strips():
        assert strip.row == row
        row = strip.stop
        pixels.append(strip.pixels)
        invalid.append(np.zeros(strip.pixels.shape[1:], bool) if strip.invalid is None else strip.invalid)
    assert row == source.header.height
    return np.concatenate(pixels, axis=1), np.concatenate(invalid)


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
    from train.data.pairs import Pair, Scene
    from train.data.pairs import read_header as trained_header
    from train.data.reader import LabelRule, Reader, refill

    path = make(tmp_path / "in.tif", kind)
    header = read_header(str(path))
    pixels, invalid = whole(Source(header, (1, 2, 3), fill_value, header.nodata[0]))
    image = trained_header(path)
    reader = Reader(LabelRule(2, 255), fill_value)
    expected, gone = reader.image(Scene(Pair(path, path), image, image), (1, 2, 3), Window(0, 0, 70, 300))
    gone = np.zeros((300, 70), bool) if gone is None else gone
    refill(expected, gone, fill_value)
    np.testing.assert_array_equal(invalid, gone)
    np.testing.assert_array_equal(pixels.astype(np.float32), expected.transpose(2, 0, 1).astype(np.float32))


def test_bands_in_the_networks_order(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 5).reshape(4, 6, 5).astype(np.uint16)
    header = read_header(str(write_raster(tmp_path / "in.tif", pixels)))
    found, _ = whole(Source(header, (4, 1, 1), 0.0, None))
    np.testing.assert_array_equal(found, pixels[[3, 0, 0]])
    assert found.dtype == np.uint16


def test_an_alpha_band_that_is_read_as_data_says_nothing(tmp_path: Path) -> None:
    header = read_header(str(make(tmp_path / "in.tif", "alpha")))
    assert header.alpha == (4,)
    _, invalid = whole(Source(header, (1, 2, 4), 0.0, None))
    assert not invalid.any()


@pytest.mark.parametrize(
    "layout",
    [
        {"tiled": True, "blockxsize": 512, "blockysize": 512},
        {"tiled": True, "blockxsize": 16, "blockysize": 48},
        {"blockysize": 1},
        {"blockysize": 7},
        {"blockysize": 1500},
    ],
)
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_no_block_is_asked_for_twice(
    tmp_path: Path, layout: dict[str, Any], interleave: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1500, 40)).astype(np.uint8)
    path = write_raster(tmp_path / "in.tif", pixels, interleave=interleave, compress="deflate", **layout)
    header = read_header(str(path))
    windows: list[tuple[int, int]] = []

    class Spy:
        def __init__(self, file: Any) -> None:
            self._file = file

        def read(self, bands: Any, window: Window, out: np.ndarray) -> Any:
            windows.append((window.row_off, window.row_off + window.height))
            return self._file.read(bands, window=window, out=out)

        def __enter__(self) -> "Spy":
            return self

        def __exit__(self, *_: Any) -> None:
            self._file.close()

    from inference.common import raster

    opened = raster.open_raster
    monkeypatch.setattr(raster, "open_raster", lambda *a, **k: Spy(opened(*a, **k)))
    found, _ = whole(Source(header, (1, 2), 0.0, None))
    np.testing.assert_array_equal(found, pixels)
    block = header.block[0]
    if block < 1500:
        assert all(first % block == 0 for first, _ in windows)
    assert [first for first, _ in windows[1:]] == [last for _, last in windows[:-1]]


def test_gdals_cache_is_capped() -> None:
    from rasterio.env import getenv

    from inference.common.raster import environment

    with environment():
        assert getenv()["GDAL_CACHEMAX"] == 32 * 2**20

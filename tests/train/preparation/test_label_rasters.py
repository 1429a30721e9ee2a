"""Label rasters on any grid: the nearest pixel, as GDAL's warp of the whole raster finds it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

from inference.common.errors import UserError
from inference.common.raster import Header, read_header
from tests.conftest import write_raster
from train.data.prepared import IGNORED
from train.preparation.label_rasters import LabelRaster

HEIGHT, WIDTH = 90, 110
UTM = Affine(0.1, 0, 562_000, 0, -0.1, 5_722_000)


def image(folder: Path, transform: Affine = UTM, crs: str | None = "EPSG:32609") -> Header:
    pixels = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    return read_header(write_raster(folder / "image.tif", pixels, transform=transform, crs=crs))


def mottled(height: int, width: int, values: int = 3) -> NDArray[np.uint8]:
    """Return patches of several values, (1, height, width)."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, values, (height // 7 + 1, width // 7 + 1)), np.ones((7, 7)))[
        None, :height, :width
    ].astype(np.uint8)


def in_strips(raster: LabelRaster, height: int) -> NDArray[np.uint8]:
    with raster:
        rows = [raster.rows(row, min(height, HEIGHT - row)) for row in range(0, HEIGHT, height)]
        raster.check()
    return np.concatenate(rows)


def degrees(pixel: float) -> Affine:
    west, north = Transformer.from_crs("EPSG:32609", "EPSG:4326", always_xy=True).transform(562_000 - 1, 5_722_000 + 1)
    return Affine(pixel, 0, west, 0, -pixel, north)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (UTM @ Affine.translation(-10.3, -7.8) @ Affine.scale(1.7), "EPSG:32609"),
        (UTM @ Affine.translation(-20, -20) @ Affine.rotation(9), "EPSG:32609"),
        (degrees(1.1e-6), "EPSG:4326"),
    ],
)
@pytest.mark.parametrize("height", [7, HEIGHT])
def test_values_are_those_of_gdals_warp(tmp_path: Path, transform: Affine, crs: str, height: int) -> None:
    label = mottled(140, 190)
    path = write_raster(tmp_path / "label.tif", label, transform=transform, crs=crs, nodata=None)
    header = image(tmp_path)
    found = in_strips(raster := LabelRaster(path, header, {}, 3), height)
    assert raster.warped
    expected: NDArray[Any] = np.full((HEIGHT, WIDTH), IGNORED, np.uint8)
    reproject(
        label[0], expected, src_transform=transform, src_crs=crs, dst_transform=header.transform, dst_crs=header.crs,
        resampling=Resampling.nearest, init_dest_nodata=False, dst_nodata=IGNORED, tolerance=0.0,
    )  # fmt: skip
    # Of points halfway between two pixels either may be taken: WarpedVRT may be off by a thousandth of a pixel.
    assert (found != expected).mean() < 2e-3
    assert set(np.unique(found).tolist()) <= {0, 1, 2, IGNORED}


def test_the_same_grid_is_read_as_it_is(tmp_path: Path) -> None:
    label = mottled(HEIGHT, WIDTH)
    path = write_raster(tmp_path / "label.tif", label, transform=UTM)
    raster = LabelRaster(path, image(tmp_path), {0: 0, 1: 1, 2: IGNORED}, 2)
    found = in_strips(raster, 16)
    assert not raster.warped
    np.testing.assert_array_equal(found, np.where(label[0] == 2, IGNORED, label[0]))


def test_without_georeference_the_size_decides(tmp_path: Path) -> None:
    header = image(tmp_path, Affine.identity(), None)
    label = mottled(HEIGHT, WIDTH)
    path = write_raster(tmp_path / "label.tif", label, transform=Affine.identity(), crs=None)
    np.testing.assert_array_equal(in_strips(LabelRaster(path, header, {}, 3), 16), label[0])
    other = write_raster(tmp_path / "other.tif", mottled(HEIGHT, WIDTH + 1), transform=Affine.identity(), crs=None)
    with pytest.raises(UserError, match=r"other.tif: is 111x90 pixels, its image 110x90, and .* isn't georeferenced"):
        LabelRaster(other, header, {}, 3)


def test_nodata_has_no_label_and_255_neither(tmp_path: Path) -> None:
    label = mottled(HEIGHT, WIDTH)
    label[0, :10] = 9
    label[0, 10:20] = 255
    path = write_raster(tmp_path / "label.tif", label, transform=UTM, nodata=9)
    found = in_strips(LabelRaster(path, image(tmp_path), {}, 3), 16)
    assert (found[:20] == IGNORED).all()
    assert (found[20:] != IGNORED).all()


def test_values_without_a_class_are_all_listed(tmp_path: Path) -> None:
    label = mottled(HEIGHT, WIDTH)
    label[0, 0, :30], label[0, 50, :4] = 7, 12
    path = write_raster(tmp_path / "label.tif", label, transform=UTM)
    header = image(tmp_path)
    with pytest.raises(UserError, match=r"without a class: 7 \(30 pixels\), 12 \(4 pixels\) \(allowed: 0 to 2, 255;"):
        in_strips(LabelRaster(path, header, {}, 3), 16)
    found = in_strips(LabelRaster(path, header, {0: 0, 1: 1, 2: 2}, 3, IGNORED), 16)
    assert (found == IGNORED).sum() == 34


def test_what_is_no_label_raster(tmp_path: Path) -> None:
    header = image(tmp_path)
    with pytest.raises(UserError, match=r"image.tif: has 3 bands \(a label raster has one"):
        LabelRaster(tmp_path / "image.tif", header, {}, 2)
    path = write_raster(tmp_path / "float.tif", np.zeros((1, 9, 9), np.float32))
    with pytest.raises(UserError, match=r"float.tif: is float32 \(the classes"):
        LabelRaster(path, header, {}, 2)

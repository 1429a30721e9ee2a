"""Windows against whole-file reads with plain rasterio and NumPy: every type, layout, mask and edge."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from train.data.pairs import Scene
from train.data.reader import Reader

from .scenes import RULE, TILED, check, made, noise


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (41, 1), (2, 3), (31, 23), (64, 50)])
@pytest.mark.parametrize(
    ("dtype", "bands", "profile"),
    [
        ("uint8", 3, {"photometric": "RGB"}),
        ("uint8", 1, TILED),
        ("uint8", 2, {}),
        ("uint8", 12, {"interleave": "band", "photometric": "MINISBLACK"}),
        ("uint16", 5, TILED | {"interleave": "pixel", "compress": "deflate"}),
        ("int16", 4, {"interleave": "band", "compress": "lzw", "predictor": 2, "photometric": "MINISBLACK"}),
        ("float32", 3, TILED | {"interleave": "band", "compress": "deflate", "predictor": 3}),
        ("float32", 8, {}),
        ("int32", 2, {}),
        ("int8", 2, TILED),
    ],
)
def test_any_size_type_band_count_and_layout(
    tmp_path: Path, size: tuple[int, int], dtype: str, bands: int, profile: dict[str, Any]
) -> None:
    pixels = noise(dtype, bands, *size)
    label = np.random.default_rng(1).integers(0, 3, size, np.uint8)
    check(made(tmp_path, pixels, label, **profile), pixels, label, np.ones(size, bool), 19)


@pytest.mark.parametrize("size", [(33, 47), (64, 64)])
def test_jpeg_in_tiff(tmp_path: Path, size: tuple[int, int]) -> None:
    """What the file holds is what GDAL decodes: RGB, though stored as YCbCr."""
    pixels = np.kron(noise("uint8", 3, 4, 4), np.ones((1, 16, 16), np.uint8))[:, : size[0], : size[1]]
    scene = made(tmp_path, pixels, compress="jpeg", photometric="YCBCR", **TILED)
    with rasterio.open(scene.pair.image) as file:
        assert file.photometric.name == "ycbcr"
        decoded = file.read()
    assert np.abs(decoded.astype(int) - pixels).mean() < 20
    check(scene, decoded, np.zeros(size, np.uint8), np.ones(size, bool), 19)


def hole(height: int, width: int) -> np.ndarray:
    """Where pixels are valid: not in a corner, a row and a single pixel."""
    valid = np.ones((height, width), bool)
    valid[: height // 3, : width // 2] = valid[height // 2] = valid[-1, -1] = False
    return valid


@pytest.mark.parametrize("fill", [0, 37])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0),
        ("uint8", 255),
        ("uint16", 0),
        ("uint16", 65535),
        ("int16", -9999),
        ("float32", -9999),
        ("float32", -3.4e38),
        ("float32", -3.4028234663852886e38),
        ("float32", np.nan),
        ("float64", -1.7976931348623157e308),
        ("float64", 0.1),
        ("int32", -(2**31)),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_nodata(tmp_path: Path, dtype: str, nodata: float, fill: float) -> None:
    pixels = np.random.default_rng(0).integers(1, 200, (3, 31, 23)).astype(dtype)
    valid = hole(31, 23)
    with np.errstate(over="ignore"):
        pixels[:, ~valid] = nodata
    if abs(nodata) < 1e300:  # which no float32 is
        pixels[0, -1] = nodata  # not all bands
    label = np.random.default_rng(1).integers(0, 2, (31, 23), np.uint8)
    check(made(tmp_path, pixels, label, nodata=nodata), pixels, label, valid, 19, fill)


def test_nodata_that_the_type_cannot_hold_is_nowhere(tmp_path: Path) -> None:
    pixels = noise("uint8", 3, 20, 20)
    scene = made(tmp_path, pixels)
    scene = Scene(scene.pair, scene.image.__class__(**(vars(scene.image) | {"nodata": (-9999.0,) * 3})), scene.label)
    check(scene, pixels, np.zeros((20, 20), np.uint8), np.ones((20, 20), bool), 19)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_in_any_band_is_invalid(tmp_path: Path, value: float) -> None:
    pixels = np.abs(noise("float32", 3, 31, 23))
    valid = hole(31, 23)
    pixels[1, ~valid] = value
    check(made(tmp_path, pixels), np.where(valid, pixels, 0), np.zeros((31, 23), np.uint8), valid, 19, 5)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("profile", [{}, {"compress": "jpeg", "photometric": "YCBCR", **TILED}])
def test_masks(tmp_path: Path, inside: bool, profile: dict[str, Any]) -> None:
    pixels = np.full((3, 31, 23), 90, np.uint8)
    valid = hole(31, 23)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        scene = made(tmp_path, pixels, mask=valid, **profile)
    assert (tmp_path / "x.tif.msk").exists() != inside
    with rasterio.open(scene.pair.image) as file:
        pixels = file.read()
    check(scene, pixels, np.zeros((31, 23), np.uint8), valid, 19)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha(tmp_path: Path, dtype: str) -> None:
    pixels = noise(dtype, 4, 31, 23)
    valid = hole(31, 23)
    pixels[3] = np.where(valid, np.where(pixels[3] == 0, 1, pixels[3]), 0)  # half transparent is not missing
    scene = made(tmp_path, pixels, photometric="RGB", alpha="YES")
    assert scene.image.alpha == (4,)
    check(scene, pixels[:3], np.zeros((31, 23), np.uint8), valid, 19)


def test_alpha_and_nodata_and_mask_add_up(tmp_path: Path) -> None:
    """GDAL's own mask is that of one of them."""
    pixels = np.full((4, 20, 20), 200, np.uint8)
    pixels[:, :5] = 0  # nodata
    pixels[3, :5] = 255
    pixels[3, 10:12] = 0  # transparent
    valid = np.ones((20, 20), bool)
    valid[:5] = valid[10:12] = False
    check(
        made(tmp_path, pixels, photometric="RGB", alpha="YES", nodata=0),
        pixels[:3], np.zeros((20, 20), np.uint8), valid, 19,
    )  # fmt: skip
    mask = np.ones((20, 20), bool)
    mask[:, 3] = False
    scene = made(tmp_path / "masked", pixels[:3], mask=mask, nodata=0, photometric="RGB")
    valid = mask.copy()
    valid[:5] = False
    check(scene, pixels[:3], np.zeros((20, 20), np.uint8), valid, 19)


def test_a_band_that_is_marked_as_alpha_and_asked_for_is_data(tmp_path: Path) -> None:
    """Four bands of bytes are written as RGB and alpha by default, also where the fourth is near infrared."""
    pixels = noise("uint8", 4, 20, 20)
    pixels[3, :7] = 0
    scene = made(tmp_path, pixels)
    assert scene.image.alpha == (4,)
    check(scene, pixels, np.zeros((20, 20), np.uint8), np.ones((20, 20), bool), 19)


def test_bands_in_any_order_and_twice(tmp_path: Path) -> None:
    pixels = noise("uint16", 5, 20, 21)
    scene = made(tmp_path, pixels)
    image, _, _ = Reader(RULE).window(scene, (4, 1, 1), 2, 3, 16)
    np.testing.assert_array_equal(image, pixels[[3, 0, 0], 2:18, 3:19].transpose(1, 2, 0))

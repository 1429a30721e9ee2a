"""Scenes of a few pixels, and the windows that NumPy cuts out of them."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from tests.conftest import write_raster
from train.data.labels import LabelRule
from train.data.pairs import Pair, Scene, read_scenes
from train.data.reader import Reader

RULE = LabelRule(2, 2)


IGNORED = 2


TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}


def made(
    folder: Path, image: np.ndarray, label: np.ndarray | None = None, mask: np.ndarray | None = None, **profile: Any
) -> Scene:
    """A scene of these pixels; the mask is written beside the file or into it, as GDAL is told."""
    path = write_raster(folder / "x.tif", image, **profile)
    if mask is not None:
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    label = np.zeros(image.shape[1:], np.uint8) if label is None else label
    (scene,), problems = read_scenes([Pair(path, write_raster(folder / "y.tif", label))])
    assert problems == []
    return scene


def noise(dtype: str, bands: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(bands * height + width)
    if dtype == "float32":
        return rng.normal(0, 1000, (bands, height, width)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (bands, height, width), dtype, endpoint=True)


def windows(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Corners of windows that lie inside, across each edge, and around the whole image."""
    inside = [(0, 0), (height // 2, width // 3), (height - 1, width - 1)]
    return [
        *inside,
        (1 - size, 0),
        (0, 1 - size),
        (height - size // 2, -3),
        ((height - size) // 2, (width - size) // 2),
    ]


def expected(
    pixels: np.ndarray, label: np.ndarray, valid: np.ndarray, row: int, col: int, size: int, fill: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window cut out of the whole image after NumPy has reflected it, as (H, W, bands), (H, W) and (H, W)."""
    pad = ((size, size), (size, size))
    image = np.where(valid, pixels, fill).astype(np.uint8 if pixels.dtype == np.uint8 else np.float32)
    cut = np.s_[row + size : row + 2 * size, col + size : col + 2 * size]
    return (
        np.pad(image, ((0, 0), *pad), mode="reflect")[:, *cut].transpose(1, 2, 0),
        np.pad(np.where(valid, label, IGNORED), pad, constant_values=IGNORED)[cut],
        ~np.pad(valid, pad, mode="reflect")[cut],
    )


def check(scene: Scene, pixels: np.ndarray, label: np.ndarray, valid: np.ndarray, size: int, fill: float = 0) -> None:
    reader = Reader(RULE, fill)
    bands = range(1, len(pixels) + 1)
    for row, col in windows(scene.height, scene.width, size):
        image, found, invalid = reader.window(scene, bands, row, col, size)
        one, two, three = expected(pixels, label, valid, row, col, size, fill)
        np.testing.assert_array_equal(image, one, str((row, col)))
        np.testing.assert_array_equal(found, two, str((row, col)))
        np.testing.assert_array_equal(np.zeros_like(three) if invalid is None else invalid, three, str((row, col)))
        assert image.dtype == one.dtype
        assert found.dtype == np.uint8
        assert (invalid is None) == (not three.any())
        assert image.flags.c_contiguous
        assert image.flags.writeable
    reader.close()

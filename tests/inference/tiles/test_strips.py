"""Strips of a mosaic: all pixels once, and every block decoded once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.windows import Window

from inference.common.raster import read_header
from inference.tiles import strips
from inference.tiles.strips import Source
from tests.conftest import write_raster


def read_all(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """All strips together, (bands, H, W) and (H, W); checks that they come in order and whole."""
    row, pixels, invalid = 0, [], []
    for strip in source.strips():
        assert strip.row == row
        row = strip.stop
        pixels.append(strip.pixels)
        invalid.append(np.zeros(strip.pixels.shape[1:], bool) if strip.invalid is None else strip.invalid)
    assert row == source.header.height
    return np.concatenate(pixels, axis=1), np.concatenate(invalid)


def test_bands_in_the_networks_order(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 5).reshape(4, 6, 5).astype(np.uint16)
    header = read_header(str(write_raster(tmp_path / "in.tif", pixels)))
    found, _ = read_all(Source(header, (4, 1, 1), 0.0, None))
    np.testing.assert_array_equal(found, pixels[[3, 0, 0]])
    assert found.dtype == np.uint16


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

        def close(self) -> None:
            self._file.close()

    opened = strips.open_image
    monkeypatch.setattr(strips, "open_image", lambda *a, **k: Spy(opened(*a, **k)))
    found, _ = read_all(Source(header, (1, 2), 0.0, None))
    np.testing.assert_array_equal(found, pixels)
    block = header.block[0]
    if block < 1500:
        assert all(first % block == 0 for first, _ in windows)
    assert [first for first, _ in windows[1:]] == [last for _, last in windows[:-1]]

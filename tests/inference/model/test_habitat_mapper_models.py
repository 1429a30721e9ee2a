"""Models of habitat-mapper that scale images by their range, or that decide on presence first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.networks import weights, write_onnx

from .test_choose import habitat


def scaled(pixels: np.ndarray, valid: np.ndarray, each: bool) -> np.ndarray:
    """Scale (bands, H, W) to 0..1 as habitat-mapper scales a tile: by the range of all bands, or of each."""
    axes = (1, 2) if each else (0, 1, 2)
    low = np.min(pixels, axis=axes, keepdims=True, where=valid, initial=np.inf)
    high = np.max(pixels, axis=axes, keepdims=True, where=valid, initial=-np.inf)
    return (pixels - low) / (high - low)


def logits(x: np.ndarray, channels: int) -> np.ndarray:
    w, b = weights(len(x), channels)
    found: np.ndarray = np.einsum("cb,bhw->chw", w[..., 0, 0].astype(np.float64), x) + b[:, None, None]
    return found


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        found: np.ndarray = file.read(1)
    return found


@pytest.mark.parametrize("normalization", ["min_max", "min_max_per_channel"])
def test_images_are_scaled_by_the_range_of_all_valid_pixels(normalization: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(40, 200, (4, 300, 70)).astype(np.uint16)
    pixels += np.arange(4, dtype=np.uint16)[:, None, None] * 5
    pixels[:, :30] = 0  # nodata, below the range of the data
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    model = write_onnx(tmp_path / "m.onnx", None, bands=4, size=32)
    mean = {"mean": [0.1] * 4, "std": [0.2] * 4}
    config = habitat(tmp_path, input_channels=4, normalization=normalization, max_pixel_value=1.0, **mean)
    summary = predict(source, tmp_path / "o.tif", model=model, card=config)
    valid = np.ones((1, 300, 70), np.bool_)
    valid[:, :30] = False
    expected = logits(scaled(pixels.astype(np.float64), valid, normalization != "min_max"), 1)[0] > 0
    assert 0.02 < expected[30:].mean() < 0.98
    np.testing.assert_array_equal(read(tmp_path / "o.tif")[30:], expected[30:])
    (notice,) = [line for line in summary.notices if normalization in line]
    assert "pixels are scaled by the range of the whole mosaic" in notice
    assert "habitat-mapper: of each tile" in notice


@pytest.mark.parametrize("pixels", [np.full((3, 40, 40), 7, np.uint8), np.zeros((3, 40, 40), np.uint8)])
def test_a_mosaic_without_a_range(pixels: np.ndarray, tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    model = write_onnx(tmp_path / "m.onnx", None, size=32)
    summary = predict(source, tmp_path / "o.tif", model=model, card=habitat(tmp_path, normalization="min_max"))
    assert summary.invalid == (0 if pixels.any() else 1600)


@pytest.mark.parametrize(("name", "bands", "leading"), [("LegacyKelpRGBModel", 3, 1), ("LegacyKelpRGBIModel", 4, 2)])
def test_presence_is_decided_before_the_species(name: str, bands: int, leading: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (bands, 50, 60)).astype(np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels)
    model = write_onnx(tmp_path / "m.onnx", None, bands=bands, channels=leading + 2, size=32)
    options: dict[str, Any] = {"activation": "absent", "input_channels": bands, "normalization": "min_max"}
    config = habitat(tmp_path, model_cls=f"habitat_mapper.model.{name}", **options)
    files = tmp_path / "o.tif", tmp_path / "p.tif"
    summary = predict(source, files[0], model=model, card=config, probabilities=files[1])
    found = logits(scaled(pixels.astype(np.float64), np.ones((1, 50, 60), np.bool_), False), leading + 2)
    present = found[0] > 0 if leading == 1 else found[1] > found[0]
    expected = np.where(present, 1 + found[leading:].argmax(axis=0), 0)
    assert len(np.unique(expected)) == 3
    np.testing.assert_array_equal(read(files[0]), expected)
    assert [total.name for total in summary.classes] == ["background", "Macrocystis", "Nereocystis"]
    with rasterio.open(files[1]) as file:
        np.testing.assert_allclose(file.read().sum(axis=0), 1, atol=1e-5)

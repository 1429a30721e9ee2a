"""Reasons for differences of two maps: synthetic maps, and a network with a 3x3 kernel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eval.kom import comparison
from eval.kom.scored_model import OURS, ScoredModel
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx


def test_each_reason_is_recognised(tmp_path: Path) -> None:
    """Synthetic maps in which single pixels of their map differ from ours, each for one reason."""
    own = card(tile_size=32)
    rng = np.random.default_rng(2)
    pixels = rng.integers(1, 255, (3, 200, 120)).astype(np.uint8)
    pixels[:, 20, 60] = 0  # nodata
    pixels[:, 96:128, 48:80] = 9  # one of habitat-mapper's tiles, of a single value
    image = write_raster(tmp_path / "image.tif", pixels, nodata=0)
    shape = pixels.shape[1:]
    valid = ~(pixels == 0).all(axis=0)
    ours = np.zeros(shape, np.uint8)
    theirs, emulated, probability = ours.copy(), ours.copy(), np.full(shape, 0.2, np.float32)
    theirs[180, 10] = emulated[180, 10] = 1  # as with the emulated input, far from nodata: edge
    theirs[40, 70] = emulated[40, 70] = 1  # as with the emulated input, 20 rows from nodata
    theirs[140, 50] = 1  # below the skipped tile
    theirs[70, 10] = 1
    probability[70, 10] = 0.5004
    theirs[190, 110] = 1
    theirs[20, 60] = 1  # invalid
    maps = {}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        for name, values in (("ours", ours), ("theirs", theirs), ("emulated", emulated)):
            maps[name] = write_raster(tmp_path / f"{name}.tif", values)
        with rasterio.open(maps["ours"], "r+") as file:
            file.write_mask(valid)
    floats = write_raster(tmp_path / "floats.tif", np.stack([1 - probability, probability]))
    assert comparison.single_valued_tiles(image, own) == [(96, 48)]
    found = comparison.compare(
        image, own, maps["ours"], maps["theirs"], maps["emulated"], floats, reason_raster=tmp_path / "why.tif"
    )
    expected: dict[str, Any] = dict.fromkeys(comparison.REASONS, 1)
    assert vars(found) == {"valid": valid.sum(), **expected, "invalid_mapped": 1}
    with rasterio.open(tmp_path / "why.tif") as file:
        why = file.read(1)
    assert [why[180, 10], why[40, 70], why[140, 50], why[70, 10], why[190, 110], why[20, 60]] == [1, 2, 3, 4, 5, 255]
    assert np.count_nonzero(why) == 6


@pytest.mark.parametrize(("length", "expected"), [(1, 32), (32, 32), (33, 48), (48, 48), (49, 64), (200, 208)])
def test_tiled_length(length: int, expected: int) -> None:
    assert comparison.tiled_length(length, 32) == expected


def test_emulated_input_is_padded_with_black(tmp_path: Path) -> None:
    """A network with a 3x3 kernel agrees with a SciPy correlation over the image padded with zeros."""
    from scipy.signal import correlate

    from tests.inference.networks import weights

    own = card(tile_size=64)
    model = write_onnx(tmp_path / "m.onnx", own, kernel=3)
    pixels = np.random.default_rng(3).integers(1, 255, (3, 50, 40)).astype(np.uint8)
    pixels[:, 10:14, 10:14] = 7
    image = write_raster(tmp_path / "image.tif", pixels, nodata=7)
    comparison.map_emulated_input(image, tmp_path / "emulated.tif", tmp_path / "p.tif", model, own)
    w, b = weights(3, 1, 3)
    padded = np.zeros((3, 64, 64))
    padded[:, :50, :40] = pixels
    mean, std = (np.array(v)[:, None, None] for v in (own.mean, own.std))
    logits = correlate(np.pad((padded / 255 - mean) / std, ((0, 0), (1, 1), (1, 1))), w[0], mode="valid")[0] + b[0]
    with rasterio.open(tmp_path / "emulated.tif") as file:
        assert file.shape == (64, 64)
        assert np.array_equal(file.read(1), logits > 0)
        assert (file.dataset_mask() > 0).all()


def test_a_score_without_a_pixel_is_said_to_be_undefined() -> None:
    scored = ScoredModel("m", Path("m.onnx"), card(), confusion={OURS: np.zeros((2, 2))})
    assert scored.table() == [f"  {OURS:<32} IoU n/a  Dice n/a"]

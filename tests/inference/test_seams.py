"""No seams between tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
from onnx import TensorProto, helper, numpy_helper

from inference.card import METADATA_KEY, ModelCard
from inference.predict import predict
from inference.tiles.tiling import tile_axis
from tests.conftest import write_raster
from tests.inference.networks import card

TILE = 64


def border_shy(path: Path, made: ModelCard) -> Path:
    """Write a network with a wide receptive field and zero padding, whose output differs near the edge of a tile."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for layer, (inputs, outputs) in enumerate([(3, 8), (8, 8), (8, 8), (8, 1)]):
        w = np.abs(rng.normal(0.0, 1.0, (outputs, inputs, 5, 5))).astype(np.float32)
        w /= w.sum(axis=(1, 2, 3), keepdims=True)
        weights.append(numpy_helper.from_array(w, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"y{layer}"], pads=[4] * 4, dilations=[2, 2]))
        last = f"y{layer}"
    graph = helper.make_graph(
        nodes,
        "shy",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 1, "h", "w"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, made.dumps()
    onnx.save(model, path)
    return path


def gradient_ratio(probability: np.ndarray, lines: dict[int, list[int]]) -> float:
    """Return the mean step of the probability across the lines, divided by that everywhere else.

    `lines` holds row or column numbers by axis.
    """
    across, elsewhere = [], []
    for axis, places in lines.items():
        steps = np.abs(np.diff(probability, axis=axis)).mean(axis=1 - axis)
        chosen = np.zeros(len(steps), bool)
        chosen[[place - 1 for place in places]] = True
        across.append(steps[chosen])
        elsewhere.append(steps[~chosen])
    return float(np.concatenate(across).mean() / np.concatenate(elsewhere).mean())


def borders(height: int, width: int, tile: int, overlap: float) -> dict[int, list[int]]:
    """Return the rows and columns inside the image at which a tile begins or ends."""
    lines = {}
    for axis, length in enumerate((height, width)):
        grid = tile_axis(length, tile, overlap)
        lines[axis] = sorted({*grid.starts, *(grid.stop(i) for i in range(len(grid)))} - {0, length})
    return lines


def mapped(folder: Path, source: Path, model: Path, **options: Any) -> np.ndarray:
    predict(source, folder / "o.tif", model=model, probabilities=folder / "p.tif", overwrite=True, **options)
    with rasterio.open(folder / "p.tif") as file:
        probability: np.ndarray = file.read(2)
    return probability


@pytest.mark.parametrize("window", ["bartlett-hann", "hann"])
def test_no_seam_at_the_borders_of_tiles(tmp_path: Path, window: str) -> None:
    rng = np.random.default_rng(1)
    pixels = np.clip(rng.normal(170, 12, (3, 300, 340)), 1, 255).astype(np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels)
    model = border_shy(tmp_path / "shy.onnx", card(tile_size=TILE))
    lines = borders(300, 340, TILE, 0.5)
    blended = gradient_ratio(mapped(tmp_path, source, model, window=window), lines)
    cut = gradient_ratio(mapped(tmp_path, source, model, window="none", overlap=0.0), borders(300, 340, TILE, 0.0))
    assert cut > 2, "without blending the seams are there"
    assert blended < 1.25


def test_skipped_tiles_change_no_valid_pixel(tmp_path: Path) -> None:
    """At valid pixels the map is the same as with all tiles predicted."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(100, 255, (3, 300, 340)).astype(np.uint8)
    pixels[:, 60:240, 90:250] = 0
    model = border_shy(tmp_path / "shy.onnx", card(tile_size=TILE))
    skipping = mapped(tmp_path, write_raster(tmp_path / "in.tif", pixels, nodata=0), model)
    summary = predict(tmp_path / "in.tif", tmp_path / "o.tif", model=model, overwrite=True)
    assert summary.skipped > 4
    every = mapped(tmp_path, write_raster(tmp_path / "all.tif", pixels), model)
    valid = ~np.isnan(skipping)
    assert (~valid).sum() == 180 * 160
    np.testing.assert_array_equal(skipping[valid], every[valid])

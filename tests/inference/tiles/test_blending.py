"""Blending of overlapping tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.kernels import border_window
from inference.options import WINDOW_NAMES
from inference.tiles.blending import Blend, running_weights
from inference.tiles.tiling import Axis, tile_axis

OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


@given(st.integers(1, 300), st.integers(1, 40), OVERLAPS, st.sampled_from(WINDOW_NAMES))
def test_running_weights_are_normalised(length: int, tile: int, overlap: float, name: str) -> None:
    axis = tile_axis(length, tile, overlap)
    weights = np.zeros((len(axis), length))
    for i, start in enumerate(axis.starts):
        w = border_window(name, tile, i == 0, i == len(axis) - 1)[: axis.inside]
        weights[i, start : axis.stop(i)] = w
    effective = np.zeros((len(axis), length))
    for i, (start, share) in enumerate(zip(axis.starts, running_weights(axis, name), strict=True)):
        part = np.s_[start : axis.stop(i)]
        effective[:i, part] *= 1 - share
        effective[i, part] = share
    np.testing.assert_allclose(effective, weights / weights.sum(axis=0), atol=1e-6)


def weighted_mean(tiles: dict[tuple[int, int], np.ndarray], rows: Axis, cols: Axis, name: str) -> np.ndarray:
    """Compute the mean directly, as a quotient of sums in float64."""
    total = np.zeros((2, rows.length, cols.length))
    weight = np.zeros((rows.length, cols.length))
    for (i, j), tile in tiles.items():
        wr = border_window(name, rows.tile, i == 0, i == len(rows) - 1)[: rows.inside]
        wc = border_window(name, cols.tile, j == 0, j == len(cols) - 1)[: cols.inside]
        w = np.outer(wr, wc)
        place = np.s_[rows.starts[i] : rows.stop(i), cols.starts[j] : cols.stop(j)]
        total[:, *place] += w * tile[:, : rows.inside, : cols.inside]
        weight[place] += w
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 24),
    OVERLAPS,
    st.sampled_from(WINDOW_NAMES),
    st.integers(0, 99),
)
def test_blending_is_the_weighted_mean(
    height: int, width: int, tile: int, overlap: float, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, cols = tile_axis(height, tile, overlap), tile_axis(width, tile, overlap)
    tiles = {
        (i, j): rng.random((2, tile, tile), np.float32)
        for i in range(len(rows))
        for j in range(len(cols))
        if rng.random() < 0.8
    }
    blend = Blend(rows, cols, 2, name)
    parts = []
    for i in range(len(rows)):
        for j in range(len(cols)):
            if (i, j) in tiles:
                blend.add(j, tiles[i, j])
        parts.append(blend.finish(i).copy())
    found = np.concatenate(parts, axis=1)
    assert found.shape == (2, height, width)
    # Pixels under a skipped tile are invalid, and their values are arbitrary.
    valid = np.ones((height, width), bool)
    for i in range(len(rows)):
        for j in range(len(cols)):
            if (i, j) not in tiles:
                valid[rows.starts[i] : rows.stop(i), cols.starts[j] : cols.stop(j)] = False
    np.testing.assert_allclose(found[:, valid], weighted_mean(tiles, rows, cols, name)[:, valid], atol=2e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [(1, 1), (7, 40), (16, 16), (17, 33), (47, 61)])
def test_where_all_tiles_agree_the_mean_is_exact(size: tuple[int, int], overlap: float) -> None:
    tile = 16
    image = np.random.default_rng(1).random((1, *size), np.float32)
    rows, cols = tile_axis(size[0], tile, overlap), tile_axis(size[1], tile, overlap)
    blend = Blend(rows, cols, 1, "bartlett-hann")
    parts = []
    for i, top in enumerate(rows.starts):
        for j, left in enumerate(cols.starts):
            prediction = np.zeros((1, tile, tile), np.float32)
            part = image[:, top : top + tile, left : left + tile]
            prediction[:, : part.shape[1], : part.shape[2]] = part
            blend.add(j, prediction)
        parts.append(blend.finish(i).copy())
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), image)


def test_memory_grows_with_the_width_alone() -> None:
    def held(height: int) -> int:
        blend = Blend(tile_axis(height, 64, 0.5), tile_axis(1000, 64, 0.5), 1, "hann")
        return sum(v.nbytes for v in vars(blend).values() if isinstance(v, np.ndarray))

    assert held(64_000) == held(640)

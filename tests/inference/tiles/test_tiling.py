"""Tile positions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.tiles.tiling import reflected, tile_axis

OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


@given(st.integers(1, 500), st.integers(1, 60), OVERLAPS)
def test_tiles_cover_an_axis_with_at_least_the_overlap(length: int, tile: int, overlap: float) -> None:
    axis = tile_axis(length, tile, overlap)
    assert axis.starts[0] == 0
    assert axis.stop(len(axis) - 1) == length
    assert all(axis.stop(i) <= length for i in range(len(axis)))
    stride = max(1, int(np.floor(tile * (1 - overlap))))
    gaps = np.diff(axis.starts)
    assert (gaps >= 1).all()
    assert (gaps <= stride).all()
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@given(st.integers(1, 500), st.integers(1, 60), OVERLAPS)
def test_the_number_of_tiles_is_the_smallest(length: int, tile: int, overlap: float) -> None:
    count = len(tile_axis(length, tile, overlap))
    stride = max(1, int(np.floor(tile * (1 - overlap))))
    assert count == 1 or (count - 2) * stride + tile < length


def test_at_half_overlap_a_pixel_is_predicted_four_times_at_most() -> None:
    assert len(tile_axis(4096, 512, 0.5)) == 4096 // 256 - 1
    assert tile_axis(4096, 512, 0.5).starts == tuple(range(0, 4096 - 511, 256))


@given(st.integers(1, 30), st.integers(1, 90))
def test_reflection_is_that_of_numpy(length: int, size: int) -> None:
    padded = np.pad(np.arange(length), (0, max(0, size - length)), mode="reflect")[:size]
    np.testing.assert_array_equal(reflected(size, length), padded)

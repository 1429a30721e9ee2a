"""Cells of a frame: they cover it, and keep their distance after trimming."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.preparation.blocks import NONE, lay_out, trim

SIDE = st.integers(5, 300)


@given(SIDE, SIDE, st.integers(-50, 50), st.floats(3, 400), st.floats(3, 400))
def test_cells_cover_the_frame_once(height: int, width: int, first: int, tall: float, wide: float) -> None:
    cells = lay_out((first, first + height, -first, width - first), (tall, wide))
    count = np.zeros((height, width), np.int64)
    for top, bottom, left, right in cells.bounds().reshape(-1, 4):
        count[top - first : bottom - first, left + first : right + first] += 1
    assert (count == 1).all()
    sizes = np.diff(cells.rows)
    assert sizes.max() - sizes.min() <= 1
    assert 0.6 < sizes.mean() / min(tall, height) < 1.6


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(0, 120), st.integers(0, 120)),
    st.integers(0, 2**20),
)
def test_different_labels_keep_the_distance(
    m: int, n: int, size: tuple[int, int], guard: tuple[int, int], seed: int
) -> None:
    bounds = lay_out((0, m * size[0], 0, n * size[1]), size).bounds()
    labels = np.random.default_rng(seed).integers(NONE, 4, bounds.shape[:2])
    trimmed = trim(bounds, labels, guard, rank=[0, 1, 1, 2])
    assert (trimmed[..., [0, 2]] >= bounds[..., [0, 2]]).all()
    assert (trimmed[..., [1, 3]] <= bounds[..., [1, 3]]).all()
    alive = (trimmed[..., 1] > trimmed[..., 0]) & (trimmed[..., 3] > trimmed[..., 2]) & (labels != NONE)
    kept, label = trimmed[alive], labels[alive]
    for one, a in zip(kept, label, strict=True):
        for other, b in zip(kept, label, strict=True):
            if a != b:
                rows = max(other[0] - one[1], one[0] - other[1])
                cols = max(other[2] - one[3], one[2] - other[3])
                assert rows >= guard[0] or cols >= guard[1]


def test_the_lower_rank_gives_way_and_equal_ranks_share() -> None:
    bounds = lay_out((0, 100, 0, 200), (100, 100)).bounds()
    assert trim(bounds, np.array([[0, 1]]), (10, 10), [0, 1])[0].tolist() == [[0, 100, 0, 90], [0, 100, 100, 200]]
    assert trim(bounds, np.array([[0, 1]]), (10, 10), [1, 0])[0].tolist() == [[0, 100, 0, 100], [0, 100, 110, 200]]
    assert trim(bounds, np.array([[0, 1]]), (10, 10), [0, 0])[0].tolist() == [[0, 100, 0, 95], [0, 100, 105, 200]]


@pytest.mark.parametrize("labels", [[[0, 0]], [[0, NONE]], [[NONE, NONE]]])
def test_nothing_is_trimmed_without_need(labels: list[list[int]]) -> None:
    bounds = lay_out((0, 100, 0, 200), (100, 100)).bounds()
    np.testing.assert_array_equal(trim(bounds, np.array(labels), (30, 30), [0, 1]), bounds)

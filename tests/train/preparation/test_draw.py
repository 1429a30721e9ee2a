"""Draw of splits: the share of every class in each, for any number of units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.common.errors import UserError
from train.preparation.draw import FREE, draw

SHARES = (0.7, 0.15, 0.15)


def achieved(counts: np.ndarray, split: np.ndarray, splits: int = 3) -> np.ndarray:
    """Return the share of each class in each split, (splits, classes)."""
    return np.array([counts[split == each].sum(axis=0) / counts.sum(axis=0) for each in range(splits)])


def test_balanced_units_give_the_wanted_shares() -> None:
    split = draw(np.full((100, 2), 7), SHARES, seed=0)
    np.testing.assert_allclose(achieved(np.full((100, 2), 7), split), np.array(SHARES)[:, None] * [1, 1], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_get_their_share_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common = rng.integers(50_000, 200_000, 120)
    rare = np.where(rng.random(120) < 0.25, rng.integers(100, 5000, 120), 0)
    counts = np.stack([common, rare], axis=1)
    shares = achieved(counts, draw(counts, SHARES, seed))
    assert np.abs(shares - np.array(SHARES)[:, None]).max() < 0.02


def test_the_same_seed_gives_the_same_splits() -> None:
    counts = np.random.default_rng(0).integers(0, 100, (60, 3))
    first = draw(counts, SHARES, seed=5)
    np.testing.assert_array_equal(first, draw(counts, SHARES, seed=5))
    assert any((draw(counts, SHARES, seed=seed) != first).any() for seed in range(6, 9))


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 9))
def test_no_split_is_empty(units: int, classes: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 3, (units, classes))
    labelled = counts.sum(axis=1) > 0
    if labelled.sum() < 3:
        with pytest.raises(UserError, match="blocks with labelled pixels can't fill 3 splits"):
            draw(counts, SHARES, seed)
        return
    split = draw(counts, SHARES, seed)
    assert set(split[labelled].tolist()) == {0, 1, 2}
    assert set(split.tolist()) <= {0, 1, 2}


def test_given_splits_stay() -> None:
    counts = np.full((20, 1), 10)
    fixed = np.full(20, FREE)
    fixed[:6] = 2
    split = draw(counts, SHARES, 0, fixed)
    assert (split[:6] == 2).all()
    assert {0, 1} <= set(split[6:].tolist())
    np.testing.assert_array_equal(draw(counts, SHARES, 0, np.full(20, 1)), np.full(20, 1))


def test_neighbours_are_kept_together_where_it_costs_nothing() -> None:
    side = 12
    at = np.arange(side * side).reshape(side, side)
    pairs = np.concatenate(
        [np.stack([at[:, :-1], at[:, 1:]], -1).reshape(-1, 2), np.stack([at[:-1], at[1:]], -1).reshape(-1, 2)]
    )
    counts = np.full((side * side, 1), 10)
    together, apart = draw(counts, SHARES, 0, neighbours=pairs), draw(counts, SHARES, 0)
    borders = [np.count_nonzero(split[pairs[:, 0]] != split[pairs[:, 1]]) for split in (together, apart)]
    assert borders[0] < 0.7 * borders[1]
    np.testing.assert_allclose(achieved(counts, together)[:, 0], SHARES, atol=0.01)

"""Bootstrap intervals."""

import math

import numpy as np
import pytest

from eval.scoring.bootstrap import bootstrap_weights, percentile_intervals


def test_intervals_cover_the_truth() -> None:
    """A mean of normal numbers has a known interval; the bootstrap's is close to it."""
    rng = np.random.default_rng(13)
    values = rng.normal(3, 2, 400)
    counts = {"sum": values, "n": np.ones(400)}
    low, high = percentile_intervals(counts, lambda c: {"mean": c["sum"] / c["n"]})["mean"]
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_paired_differences_are_surer_than_unpaired() -> None:
    rng = np.random.default_rng(14)
    hard = rng.normal(0, 5, 60)
    ours, theirs = {"s": hard + 0.2, "n": np.ones(60)}, {"s": hard + rng.normal(0, 0.1, 60), "n": np.ones(60)}
    low, high = percentile_intervals(ours, lambda c: {"mean": c["s"] / c["n"]}, theirs)["mean"]
    assert 0.1 < low < 0.2 < high < 0.3


def test_one_group_has_no_interval() -> None:
    low, high = percentile_intervals({"s": np.ones(1), "n": np.ones(1)}, lambda c: {"mean": c["s"] / c["n"]})["mean"]
    assert math.isnan(low)
    assert math.isnan(high)
    assert (bootstrap_weights(7, 20).sum(axis=1) == 7).all()

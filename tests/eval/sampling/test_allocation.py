"""Cut points and allocations: sums, bounds, optimality, and further phases that take nothing away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.sampling.allocation import (
    MINIMUM,
    Allocation,
    allocate,
    allocate_more,
    expected_half_widths,
    guess_variance,
    known_variance,
    sigma_cuts,
)
from eval.sampling.design import UNLABELLED, Strata, Totals
from eval.sampling.estimators import estimate_areas
from eval.scoring.calibration import LOWER_EDGES
from tests.eval.sampling.designs import class_strata, drawn, names, population, sample_of

EDGES = np.append(LOWER_EDGES, 1.0)


def test_cuts_have_equal_sums_of_standard_deviations() -> None:
    probability = np.random.default_rng(0).beta(0.3, 3, 200_000)
    cuts = sigma_cuts(np.histogram(probability, EDGES)[0].astype(np.float64), EDGES, 5)
    assert len(cuts) == 4
    overall = probability.mean()
    believed = 0.98 * probability + 0.02 * overall
    sigma = np.bincount(np.searchsorted(cuts, probability, side="right"), np.sqrt(believed * (1 - believed)))
    np.testing.assert_allclose(sigma / sigma.sum(), 0.2, atol=0.01)


@settings(max_examples=30, deadline=None)
@given(
    bins=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 10**9)), min_size=1, max_size=6),
    strata=st.integers(1, 10),
)
def test_no_stratum_between_cuts_is_empty(bins: list[tuple[float, int]], strata: int) -> None:
    probability, units = (np.array(values, np.float64) for values in zip(*bins, strict=True))
    cuts = sigma_cuts(np.histogram(probability, EDGES, weights=units)[0], EDGES, strata)
    assert len(cuts) < strata or strata == 1
    assert (np.diff(cuts) > 0).all()
    filled = np.bincount(np.searchsorted(cuts, probability, side="right"), units, len(cuts) + 1)
    assert (filled > 0).all()


def test_cuts_of_nothing() -> None:
    assert len(sigma_cuts(np.zeros(len(EDGES) - 1), EDGES, 5)) == 0
    certain = np.zeros(len(EDGES) - 1)
    certain[0] = 100
    assert len(sigma_cuts(certain, EDGES, 5)) == 0


@settings(max_examples=40, deadline=None)
@given(
    units=st.lists(st.integers(1, 5000), min_size=1, max_size=6),
    wanted=st.integers(30, 3000),
    method=st.sampled_from(["neyman", "proportional", "equal"]),
)
def test_allocations_sum_to_the_wanted_number_within_the_bounds(
    units: list[int], wanted: int, method: Allocation
) -> None:
    strata = class_strata(units)
    sizes = allocate(strata, wanted, method)
    assert sizes.sum() == min(wanted, sum(units))
    assert (sizes <= units).all()
    assert (sizes >= np.minimum(MINIMUM, units)).all()


def test_proportional_and_equal() -> None:
    strata = class_strata([8000, 1000, 1000])
    np.testing.assert_array_equal(allocate(strata, 100, "proportional"), [80, 10, 10])
    np.testing.assert_array_equal(allocate(strata, 100, "equal"), [34, 33, 33])


def test_neyman_is_the_textbook_formula_and_optimal() -> None:
    strata, _ = population(60_000, 3)
    variance = np.repeat([[0.01], [0.09], [0.25]], 2, axis=1)
    sizes = allocate(strata, 600, variance=variance, minimum=2)
    score = strata.totals.area * np.sqrt(variance[:, 0])
    np.testing.assert_allclose(sizes, 600 * score / score.sum(), atol=1)

    def spread(allocation: np.ndarray) -> float:
        return float((strata.totals.area**2 * variance[:, 0] / allocation).sum())

    for shift in ([1, -1, 0], [0, 1, -1], [-1, 0, 1]):
        assert spread(sizes) <= spread(sizes + 5 * np.array(shift))


def test_rare_class_gets_most_of_the_points_where_it_may_be() -> None:
    """Class 2 is rare, and the strata of classes 0 and 1 differ only in how they are told apart."""
    area = np.array([1e6, 1e6, 2e4])
    mapped = np.diag(area)
    probability = np.array([[0.99e6, 9e3, 1e3], [9e3, 0.99e6, 1e3], [2e3, 2e3, 1.6e4]])
    variance = np.array([[9e3, 9e3, 1e3], [9e3, 9e3, 1e3], [2e3, 2e3, 3e3]])
    strata = Strata("class", names(3), names(3), Totals(area, area, mapped, probability, variance))
    sizes = allocate(strata, 300)
    assert sizes[2] / 300 > 5 * area[2] / area.sum()


def test_too_few_units_are_refused() -> None:
    with pytest.raises(ValueError, match="9 units are too few: 10 are needed for 5 in each stratum"):
        allocate(class_strata([100, 100]), 9)


def test_guess_without_probabilities_blends_the_map_and_the_shares() -> None:
    guess = guess_variance(class_strata([900, 100]).totals)
    # In the stratum mapped as class 1: 0.95 + 0.05 x 0.1 of class 1.
    np.testing.assert_allclose(guess[1], [0.955 * 0.045] * 2)
    np.testing.assert_allclose(guess[0], [0.995 * 0.005] * 2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100), extra=st.integers(20, 200), probabilities=st.booleans())
def test_further_units_are_added_only(seed: int, extra: int, probabilities: bool) -> None:
    strata, everything = population(2000, 3, seed)
    if not probabilities:
        totals = Totals(strata.totals.units, strata.totals.area, strata.totals.mapped)
        strata = Strata("probability", strata.class_names, strata.names, totals)
    sample = drawn(everything, [20, 10, 12], seed)
    label = sample.label.copy()
    label[::9] = UNLABELLED
    added = allocate_more(strata, sample.relabel(label), extra)
    assert added.sum() == extra
    assert (added >= 0).all()


def test_a_second_phase_does_not_depend_on_where_the_errors_were_found() -> None:
    strata = class_strata([90_000, 10_000])
    here, there = sample_of([[30, 20], [0, 50]]), sample_of([[50, 0], [20, 30]])
    np.testing.assert_array_equal(allocate_more(strata, here, 100), allocate_more(strata, there, 100))


def test_two_phases_stay_unbiased() -> None:
    """Pooling is sound only if strata in which errors were missed by chance don't get fewer units for it."""
    strata, everything = population(5000, 4, seed=2)
    truth = everything.area[everything.label == 1].sum()
    estimates = []
    for seed in range(300):
        order = np.random.default_rng(seed).permutation(len(everything))
        rank = np.zeros(len(order), np.int64)  # of each unit within its stratum, in random order
        for stratum in range(4):
            members = order[everything.stratum[order] == stratum]
            rank[members] = np.arange(len(members))
        first = np.array([8, 8, 8, 8])
        more = allocate_more(strata, everything.keep(rank < first[everything.stratum]), 32)
        both = everything.keep(rank < (first + more)[everything.stratum])
        estimates.append(estimate_areas(strata, both).area[1])
    assert abs(np.mean(estimates) - truth) < 3 * np.std(estimates) / np.sqrt(300)


def test_more_errors_than_conjectured_widen_the_known_variance() -> None:
    strata = class_strata([90_000, 10_000])
    good, bad = (known_variance(strata, sample_of(counts)) for counts in ([[50, 0], [0, 50]], [[40, 10], [10, 40]]))
    assert (bad > 3 * good).all()


def test_known_variance_of_a_stratum_without_labels() -> None:
    strata, everything = population(1000, 3)
    sample = drawn(everything, [10, 10, 10])
    blank = sample.relabel(np.where(sample.stratum == 1, UNLABELLED, sample.label))
    found = known_variance(strata, blank)
    assert np.isfinite(found).all()
    assert (found[1] > 0.01).all()


@pytest.mark.parametrize("probabilities", [True, False])
def test_expected_half_width_is_near_the_one_of_a_sample(probabilities: bool) -> None:
    strata, everything = population(20_000, 4)
    if not probabilities:
        # A map with as many errors as are conjectured without probabilities.
        rng = np.random.default_rng(1)
        label = np.where(rng.random(20_000) < 0.05, rng.permutation(everything.mapped), everything.mapped)
        everything = type(everything)(everything.mapped, label, everything.mapped, np.ones(20_000))
        strata = class_strata(np.bincount(everything.mapped))
    sizes = allocate(strata, 300)
    expected = expected_half_widths(strata, sizes)
    found = [estimate_areas(strata, drawn(everything, sizes, seed)) for seed in range(20)]
    measured = np.mean([areas.high - areas.low for areas in found], axis=0) / 2
    np.testing.assert_allclose(expected, measured, rtol=0.15)
    # More units, narrower intervals.
    assert (expected_half_widths(strata, allocate(strata, 1200)) < 0.6 * expected).all()

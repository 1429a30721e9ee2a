"""Intervals: closed forms, behaviour at 0 and n, and coverage in a small simulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, t

from eval.sampling.accuracy import estimate_accuracy
from eval.sampling.design import Floats, Sample, Strata, Totals
from eval.sampling.estimators import Auxiliary, estimate_areas, residual_moments
from eval.sampling.intervals import (
    PRIOR_DEGREES,
    ResidualMoments,
    area_interval,
    dispersion,
    effective_jeffreys,
    estimated_share,
    expected_variance,
    jeffreys,
    moderated_interval,
    moderated_variance,
    mover_interval,
    share_interval,
)
from tests.eval.sampling.designs import class_strata, drawn, population, sample_of


def test_jeffreys_is_a_beta_quantile_and_closed_at_the_ends() -> None:
    low, high = jeffreys(np.array([0.0, 3, 10]), np.array([10.0, 10, 10]))
    np.testing.assert_allclose(low, [0, beta.ppf(0.025, 3.5, 7.5), beta.ppf(0.025, 10.5, 0.5)])
    np.testing.assert_allclose(high, [beta.ppf(0.975, 0.5, 10.5), beta.ppf(0.975, 3.5, 7.5), 1])


def test_no_error_in_the_sample_leaves_room_for_errors_on_the_side_where_they_can_be() -> None:
    """100 units of either class of the map, all of them right: 90 % of the area is other."""
    strata = class_strata([90_000, 10_000])
    areas = estimate_areas(strata, sample_of([[100, 0], [0, 100]]))
    np.testing.assert_allclose(areas.area, [90_000, 10_000])
    np.testing.assert_allclose(areas.standard_error, 0)
    missed = beta.ppf(0.975, 0.5, 100.5)
    assert areas.high[1] == pytest.approx(10_000 + 90_000 * missed * np.sqrt(1 - 100 / 90_000))
    assert areas.low[1] == pytest.approx(10_000 - 10_000 * missed * np.sqrt(1 - 100 / 10_000))
    # The other class is the complement.
    np.testing.assert_allclose(areas.low[0], 100_000 - areas.high[1])


def test_mover_of_one_stratum_is_jeffreys() -> None:
    moments = moments_of(sizes=[50.0], area=[1000.0], surplus=[[0.1]], limit=1)
    low, high = mover_interval(moments)
    np.testing.assert_allclose([low[0], high[0]], 1000 * beta.ppf([0.025, 0.975], 5.5, 45.5))


def test_mover_is_limited_to_where_errors_can_be() -> None:
    """No error in 50 units, in a stratum of which a hundredth can be in error."""
    free = mover_interval(moments_of(sizes=[50.0], area=[1000.0], surplus=[[0.0]], limit=1))
    tight = mover_interval(moments_of(sizes=[50.0], area=[1000.0], surplus=[[0.0]], limit=0.01))
    assert free[1][0] == pytest.approx(1000 * beta.ppf(0.975, 0.5, 50.5))
    assert tight[1][0] == pytest.approx(10)


def test_moderated_variance_is_a_mean_of_prior_and_sample() -> None:
    moments = moments_of(sizes=[21.0], area=[1000.0], surplus=[[0.1]], limit=1)
    moments = replace(moments, prior=np.array([[0.03]]), squares=np.array([[2.0]]), expected=np.array([[1.0]]))
    assert dispersion(moments)[0] == 2
    variance, degrees = moderated_variance(moments)
    assert degrees[0] == PRIOR_DEGREES + 20
    assert variance[0, 0] == pytest.approx((PRIOR_DEGREES * 2 * 0.03 + 20 * 0.09) / (PRIOR_DEGREES + 20))
    low, high = moderated_interval(moments)
    half = t.ppf(0.975, PRIOR_DEGREES + 20) * 1000 * np.sqrt(variance[0, 0] / 21)
    np.testing.assert_allclose([low[0], high[0]], [100 - half, 100 + half])
    # Fewer errors than expected don't narrow it.
    assert dispersion(replace(moments, squares=np.array([[0.5]])))[0] == 1


def test_expected_variance_of_calibrated_and_worthless_probabilities() -> None:
    probability = np.array([[0.1, 0.9], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    totals = Totals(
        np.array([2.0, 2]),
        np.array([2.0, 2]),
        np.zeros((2, 2)),
        probability.reshape(2, 2, 2).sum(axis=1),
        (probability * (1 - probability)).reshape(2, 2, 2).sum(axis=1),
    )
    share = probability.mean(axis=0)
    spread = share * (1 - share)
    within = (probability * (1 - probability)).reshape(2, 2, 2).mean(axis=1)
    np.testing.assert_allclose(expected_variance(totals), 0.98 * within + 0.02 * spread)
    # Slope 0: the labels don't depend on the probabilities, and every stratum has the overall share.
    np.testing.assert_allclose(expected_variance(totals, 0.0), np.broadcast_to(spread, (2, 2)))
    # A leading dimension of several samples.
    several = expected_variance(totals, np.array([1.0, 0.0]), np.stack([share, share]))
    np.testing.assert_allclose(several, [expected_variance(totals), expected_variance(totals, 0.0)])


def test_share_of_a_class_that_was_not_found_stays_near_the_prediction() -> None:
    totals = Totals(np.array([100.0]), np.array([100.0]), np.zeros((1, 2)), np.array([[98.0, 2]]), np.array([[1.0, 1]]))
    none, many = (
        estimated_share(np.array([100.0 - area, area]), totals, np.array([500 - found, found]), np.array([495.0, 5.0]))
        for area, found in ((0.0, 0.0), (10.0, 200.0))
    )
    assert none[1] == pytest.approx(0.01, rel=0.05)  # expected 5, found 0: (0 + 5) / (5 + 5) of 2 %
    assert many[1] == pytest.approx(0.1, rel=0.2)
    np.testing.assert_allclose([none.sum(), many.sum()], 1)


def test_effective_jeffreys_at_the_ends_and_in_a_census() -> None:
    value = np.array([0.9, 1.0, 0.0, np.nan])
    error = np.array([np.sqrt(0.09 / 200), 0.0, 0.0, np.nan])
    low, high = effective_jeffreys(value, error, np.array([40.0, 40, 40, 0]))
    np.testing.assert_allclose((low[0], high[0]), beta.ppf([0.025, 0.975], 180.5, 20.5))
    np.testing.assert_allclose((low[1], high[1]), (beta.ppf(0.025, 40.5, 0.5), 1))
    np.testing.assert_allclose((low[2], high[2]), (0, beta.ppf(0.975, 0.5, 40.5)))
    assert np.isnan((low[3], high[3])).all()
    np.testing.assert_array_equal(effective_jeffreys(value, error, np.ones(4), census=True), [value, value])


def test_share_interval_of_known_totals_and_at_the_ends() -> None:
    part, rest = np.array([30.0, 40, 0, 0]), np.array([10.0, 0, 20, 0])
    exact = share_interval(part, rest, (part, part), (rest, rest))
    np.testing.assert_allclose(exact, [[0.75, 1, 0, np.nan]] * 2)
    low, high = share_interval(part, rest, (0.8 * part, part + 5), (0.5 * rest, rest + 5))
    assert (low[:3] < [0.75, 1, 1e-9]).all()
    assert (high[:3] > [0.75, 1 - 1e-9, 0]).all()
    assert high[1] == 1  # nothing was missed in the sample
    assert low[2] == 0
    # No missed unit: at least the part that is sure to be found, over it and the most that can be missed.
    assert low[1] == pytest.approx(1 / (1 + 5 / np.sqrt(32 * (80 - 32))))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), level=st.floats(0.5, 0.98))
def test_intervals_of_two_classes_are_complements_and_grow_with_the_level(seed: int, level: float) -> None:
    strata, everything = population(300, 3, seed)
    moments = residual_moments(strata, drawn(everything, [8, 5, 9], seed), "probability")
    low, high = area_interval(moments, level)
    np.testing.assert_allclose(low[0] + high[1], strata.totals.area.sum())
    wider = area_interval(moments, level + 0.01)
    assert (wider[0] < low).all()
    assert (wider[1] > high).all()


@pytest.mark.parametrize("auxiliary", ["none", "map", "probability"])
def test_intervals_cover_a_rare_class_where_wald_does_not(auxiliary: Auxiliary) -> None:
    """A target of 2 % of 30,000 units, most of it found by the map: 40 units in the large stratum, 20 in the small."""
    rng = np.random.default_rng(4)
    probability = np.where(rng.random(30_000) < 0.03, rng.beta(4, 2, 30_000), rng.beta(0.05, 12, 30_000))
    truth = rng.random(30_000) < probability
    mapped = probability > 0.5
    sizes = (40, 20)
    inside = wald = 0
    strata, everything = two_strata(probability, truth, mapped)
    for seed in range(400):
        areas = estimate_areas(strata, drawn(everything, sizes, seed), auxiliary)
        inside += bool(areas.low[1] <= truth.sum() <= areas.high[1])
        wald += bool(abs(areas.area[1] - truth.sum()) <= 1.96 * areas.standard_error[1])
    assert inside / 400 >= 0.92
    if auxiliary != "probability":
        assert wald / 400 < 0.85


def test_producers_accuracy_of_a_rare_class_is_covered() -> None:
    """A fifth of the target lies in the other stratum, where it is 0.4 %: most samples of 80 units there have none."""
    probability = np.r_[np.full(100, 0.6), np.full(24_900, 0.4), np.full(500, 0.9)]
    truth = np.arange(25_500) < 100
    truth[25_100:] = True
    strata, everything = two_strata(probability, truth, np.arange(25_500) >= 25_000)
    inside = 0
    for seed in range(200):
        producers = estimate_accuracy(strata, drawn(everything, (80, 60), seed)).producers
        inside += bool(producers.low[1] <= 0.8 <= producers.high[1])
    assert inside / 200 >= 0.92


def two_strata(probability: Floats, truth: NDArray[np.bool_], mapped: NDArray[np.bool_]) -> tuple[Strata, Sample]:
    """Return class strata with probabilities, and all units with their true labels."""
    both = np.stack([1 - probability, probability], axis=1)
    stratum = mapped.astype(np.int64)
    area = np.bincount(stratum).astype(np.float64)

    def summed(values: Floats) -> Floats:
        return np.stack([np.bincount(stratum, column) for column in values.T], axis=1)

    totals = Totals(area, area, np.diag(area), summed(both), summed(both * (1 - both)))
    everything = Sample(stratum, truth.astype(np.int64), stratum, np.ones(len(truth)), both)
    return Strata("class", ("other", "target"), ("other", "target"), totals), everything


def moments_of(sizes: list[float], area: list[float], surplus: list[list[float]], limit: float) -> ResidualMoments:
    share = np.array(surplus)
    return ResidualMoments(
        area=np.array(area),
        units=np.full(len(area), np.inf),
        sizes=np.array(sizes),
        total=(np.array(area)[:, None] * share).sum(axis=0),
        surplus=share,
        deficit=np.zeros_like(share),
        variance=share * (1 - share),
        surplus_limit=np.full_like(share, limit),
        deficit_limit=np.zeros_like(share),
    )

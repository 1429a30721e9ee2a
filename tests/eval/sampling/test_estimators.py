"""Estimators of areas and accuracies: published examples to the printed digits, closed forms and properties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from eval.sampling.accuracy import estimate_accuracy
from eval.sampling.design import UNLABELLED, UNSURE, Sample, Strata, Totals
from eval.sampling.estimators import Auxiliary, areas_at_extremes, calibration_slope, estimate_areas
from tests.eval.sampling.designs import class_strata, drawn, names, population, sample_of

Z = norm.ppf(0.975)

# Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015, table 8: deforestation, forest gain, stable forest, stable
# non-forest, mapped class (rows) by reference class. The paper uses no finite population correction.
TABLE_8 = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]  # of 30 m
HECTARE = 10_000

# Stehman 2014, doi:10.1080/01431161.2014.930207, table 2, as in the example of R package mapaccuracy.
STEHMAN_MAPPED = [0] * 7 + [1] * 3 + [0] + [1] * 11 + [2] * 6 + [1] * 2 + [3] * 10
STEHMAN_LABEL = [0] * 5 + [2, 1, 0, 1, 2, 0] + [1] * 5 + [0, 0, 1, 1] + [2] * 5 + [3, 3, 1, 1, 0] + [3] * 7 + [2, 2, 1]


def stehman() -> tuple[Strata, Sample]:
    units = np.array([40_000.0, 30_000, 20_000, 10_000])
    # The map is not made of the strata, and its areas are not needed.
    strata = Strata("probability", names(4), ("1", "2", "3", "4"), Totals(units, units, np.zeros((4, 4))))
    return strata, Sample(np.arange(40) // 10, np.array(STEHMAN_LABEL), np.array(STEHMAN_MAPPED), np.ones(40))


def test_areas_of_olofsson_2014_table_8() -> None:
    areas = estimate_areas(class_strata(PIXELS, 900.0, finite=False), sample_of(TABLE_8))
    # As printed on page 54, in hectares, and with more digits by mapaccuracy.
    np.testing.assert_array_equal(np.round(areas.area / HECTARE), [21158, 11686, 285770, 581386])
    np.testing.assert_array_equal(np.round(1.96 * areas.standard_error / HECTARE), [6158, 3756, 15510, 16282])
    np.testing.assert_allclose(areas.area / HECTARE, [21157.76, 11686.15, 285769.9, 581386.2], rtol=1e-6)
    half = Z * areas.standard_error / HECTARE
    np.testing.assert_allclose(half, [6157.521, 3755.757, 15509.55, 16281.36], rtol=1e-6)
    np.testing.assert_allclose(areas.mapped / HECTARE, [18_000, 13_500, 288_000, 580_500])


def test_accuracies_of_olofsson_2014_table_8() -> None:
    accuracy = estimate_accuracy(class_strata(PIXELS, 900.0, finite=False), sample_of(TABLE_8))
    np.testing.assert_array_equal(accuracy.counts, TABLE_8)
    np.testing.assert_array_equal(np.round(accuracy.users.value, 2), [0.88, 0.73, 0.93, 0.96])
    np.testing.assert_array_equal(np.round(1.96 * accuracy.users.standard_error, 2), [0.07, 0.10, 0.04, 0.02])
    np.testing.assert_array_equal(np.round(accuracy.producers.value, 2), [0.75, 0.85, 0.93, 0.96])
    np.testing.assert_array_equal(np.round(1.96 * accuracy.producers.standard_error, 2), [0.21, 0.25, 0.03, 0.02])
    assert (round(float(accuracy.overall.value), 2), round(1.96 * float(accuracy.overall.standard_error), 2)) == (
        0.95,
        0.02,
    )
    # With the digits of mapaccuracy.
    np.testing.assert_allclose(accuracy.producers.value, [0.7486614, 0.8471564, 0.9345089, 0.9616090], rtol=1e-6)
    producers = [0.21330593, 0.25440369, 0.03432379, 0.01836120]
    np.testing.assert_allclose(Z * accuracy.producers.standard_error, producers, rtol=1e-6)
    users = [0.07403962, 0.10075516, 0.03974464, 0.02053312]
    np.testing.assert_allclose(Z * accuracy.users.standard_error, users, rtol=1e-6)
    assert Z * float(accuracy.overall.standard_error) == pytest.approx(0.01848328, rel=1e-6)
    # The printed error matrix of area proportions and its margins.
    np.testing.assert_array_equal(
        np.round(accuracy.matrix, 4),
        [
            [0.0176, 0, 0.0013, 0.0011],
            [0, 0.0110, 0.0016, 0.0024],
            [0.0019, 0, 0.2967, 0.0213],
            [0.0040, 0.0020, 0.0179, 0.6212],
        ],
    )
    np.testing.assert_allclose(accuracy.matrix.sum(axis=1), [0.020, 0.015, 0.320, 0.645])


def test_olofsson_2013_as_in_mapaccuracy() -> None:
    """Olofsson et al. 2013, doi:10.1016/j.rse.2012.10.031, both examples."""
    counts = [[97, 0, 3], [3, 279, 18], [2, 1, 97]]
    strata = class_strata([22_353, 1_122_543, 610_228], finite=False)
    areas, accuracy = estimate_areas(strata, sample_of(counts)), estimate_accuracy(strata, sample_of(counts))
    assert areas.area[0] == pytest.approx(45112.4, abs=0.6)  # the paper rounds the proportions before it sums them
    assert areas.area[0] / areas.area.sum() == pytest.approx(0.02570326, abs=1e-8)
    assert areas.standard_error[0] == pytest.approx(10751.88, abs=0.5)
    assert float(accuracy.overall.value) == pytest.approx(0.9444168, abs=1e-7)
    np.testing.assert_allclose(accuracy.users.value, [0.97, 0.93, 0.97])
    np.testing.assert_allclose(accuracy.producers.value, [0.4806308, 0.9941887, 0.8969259], rtol=1e-6)
    half = [0.22453045, 0.01132522, 0.04120541]
    np.testing.assert_allclose(Z * accuracy.producers.standard_error, half, rtol=1e-6)

    second = estimate_accuracy(
        class_strata([0.007, 0.295, 0.698], finite=False), sample_of([[127, 66, 54], [2, 322, 17], [0, 15, 540]])
    )
    np.testing.assert_allclose(second.users.value, [0.51417, 0.94428, 0.97297], atol=5e-6)
    np.testing.assert_allclose(second.producers.value, [0.67535, 0.93072, 0.97664], atol=2e-5)
    np.testing.assert_allclose(Z * second.users.standard_error, [0.06246, 0.02438, 0.01350], atol=5e-6)


def test_areas_of_stehman_2014() -> None:
    strata, sample = stehman()
    areas = estimate_areas(strata, sample, "none")
    np.testing.assert_allclose(areas.area / 100_000, [0.35, 0.34, 0.20, 0.11])
    assert np.round(areas.standard_error[[0, 2]] / 100_000, 3).tolist() == [0.082, 0.064]  # as printed, page 4935
    np.testing.assert_allclose(areas.standard_error[[0, 2]] / 100_000, [0.0822478, 0.06427977], rtol=1e-6)


def test_accuracies_of_stehman_2014() -> None:
    accuracy = estimate_accuracy(*stehman())
    assert float(accuracy.overall.value) == pytest.approx(0.63)
    assert float(accuracy.overall.standard_error) == pytest.approx(0.08464219, abs=5e-9)
    assert accuracy.users.value[1] == pytest.approx(0.5744681, abs=5e-8)
    assert accuracy.users.standard_error[1] == pytest.approx(0.1247822, abs=5e-8)
    assert accuracy.producers.value[1] == pytest.approx(0.7941176, abs=5e-8)
    assert accuracy.producers.standard_error[1] == pytest.approx(0.1165479, abs=5e-8)
    assert accuracy.matrix[1, 2] == pytest.approx(0.08)
    np.testing.assert_allclose(accuracy.matrix.sum(), 1)


def test_simple_random_sample_is_binomial() -> None:
    """One stratum: share k / n, and variance p (1 - p) / (n - 1), with the finite population correction."""
    units, size, hits = 5000, 200, 30
    label = (np.arange(size) < hits).astype(np.int64)
    strata = Strata(
        "class", names(2), ("all",), Totals(np.array([5000.0]), np.array([5000.0]), np.array([[5000.0, 0]]))
    )
    areas = estimate_areas(strata, Sample(np.zeros(size, int), label, np.zeros(size, int), np.ones(size)))
    share = hits / size
    np.testing.assert_allclose(areas.area, [units * (1 - share), units * share])
    error = units * np.sqrt((1 - size / units) * share * (1 - share) / (size - 1))
    np.testing.assert_allclose(areas.standard_error, error)
    # The Jeffreys interval, shrunk by the finite population correction.
    low, high = beta.ppf([0.025, 0.975], hits + 0.5, size - hits + 0.5)
    factor = np.sqrt(1 - size / units)
    assert areas.low[1] == pytest.approx(units * (share - factor * (share - low)))
    assert areas.high[1] == pytest.approx(units * (share + factor * (high - share)))


@pytest.mark.parametrize("auxiliary", ["map", "none", "probability"])
@pytest.mark.parametrize("domain", [None, "site 0", "site 1"])
def test_census_is_exact(auxiliary: Auxiliary, domain: str | None) -> None:
    strata, everything = population(600, 4, classes=3)
    areas = estimate_areas(strata, everything, auxiliary, domain)
    assert everything.membership is not None
    share = np.ones(600) if domain is None else everything.membership[:, int(domain[-1])]
    truth = np.bincount(everything.label, share * everything.area, 3)
    for values in (areas.area, areas.low, areas.high):
        np.testing.assert_allclose(values, truth, rtol=1e-9)
    np.testing.assert_allclose(areas.standard_error, 0, atol=1e-9)
    accuracy = estimate_accuracy(strata, everything)
    agree = everything.area[everything.label == everything.mapped].sum() / everything.area.sum()
    for value in (accuracy.overall.value, accuracy.overall.low, accuracy.overall.high):
        assert float(value) == pytest.approx(agree)


@pytest.mark.parametrize("auxiliary", ["map", "none", "probability"])
@pytest.mark.parametrize("domain", [None, "site 1"])
def test_unbiased_and_standard_error_true(auxiliary: Auxiliary, domain: str | None) -> None:
    strata, everything = population(400, 3)
    assert everything.membership is not None
    share = np.ones(400) if domain is None else everything.membership[:, 1]
    truth = np.bincount(everything.label, share * everything.area, 2)[1]
    found = [estimate_areas(strata, drawn(everything, [10, 15, 12], seed), auxiliary, domain) for seed in range(400)]
    estimates = np.array([areas.area[1] for areas in found])
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / 20
    assert np.sqrt(np.mean([areas.standard_error[1] ** 2 for areas in found])) == pytest.approx(
        estimates.std(), rel=0.12
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 4),
    auxiliary=st.sampled_from(["map", "probability"]),
    domain=st.sampled_from([None, "site 0", "site 1"]),
)
def test_classes_sum_to_the_area_and_intervals_contain_the_estimate(
    seed: int, classes: int, auxiliary: Auxiliary, domain: str | None
) -> None:
    strata, everything = population(200, 3, seed, classes)
    sample = drawn(everything, [4, 9, 5], seed)
    areas = estimate_areas(strata, sample, auxiliary, domain)
    total = (dict(strata.domains)[domain] if domain else strata.totals).area.sum()
    assert areas.area.sum() == pytest.approx(total)
    assert (areas.low <= areas.high).all()
    assert (areas.low >= 0).all()
    assert (areas.high <= total + 1e-9).all()
    # What was seen in the sample bounds the interval, but not the estimate.
    assert sample.membership is not None
    share = np.ones(len(sample)) if domain is None else sample.membership[:, int(domain[-1])]
    seen = np.bincount(sample.label, share * sample.area, classes)
    bounded = np.clip(areas.area, seen, total - (seen.sum() - seen))
    assert (areas.low <= bounded + 1e-9).all()
    assert (bounded <= areas.high + 1e-9).all()


def test_map_as_auxiliary_is_the_stratified_estimator_in_class_strata() -> None:
    strata, sample = class_strata(PIXELS), sample_of(TABLE_8)
    by_map, by_none = estimate_areas(strata, sample, "map"), estimate_areas(strata, sample, "none")
    np.testing.assert_allclose(by_map.area, by_none.area)
    np.testing.assert_allclose(by_map.standard_error, by_none.standard_error)
    np.testing.assert_allclose((by_map.low, by_map.high), (by_none.low, by_none.high))


def test_probabilities_narrow_the_interval() -> None:
    strata, everything = population(3000, 4)
    sample = drawn(everything, [40, 40, 40, 40])
    with_them, without = (estimate_areas(strata, sample, auxiliary) for auxiliary in (None, "none"))
    assert with_them.auxiliary == "probability"
    assert (with_them.high - with_them.low < without.high - without.low).all()


def test_a_site_without_points_has_an_interval_that_grows_with_the_site() -> None:
    strata, everything = population(3000, 4)
    whole = strata.totals
    assert whole.probability is not None
    assert whole.variance is not None
    small, large = (
        Totals(
            share * whole.units,
            share * whole.area,
            share * whole.mapped,
            share * whole.probability,
            share * whole.variance,
        )
        for share in (0.02, 0.08)
    )
    strata = replace(strata, domains=(("small", small), ("large", large)))
    sample = replace(drawn(everything, [20, 20, 20, 20]), membership=np.zeros((80, 2)))
    first, second = (estimate_areas(strata, sample, domain=name) for name in ("small", "large"))
    everywhere = estimate_areas(strata, sample)
    np.testing.assert_allclose(first.area, 0.02 * everywhere.area)
    # The variance of what lies in a site is in proportion to its area, until the bounds of the site are reached.
    np.testing.assert_allclose(second.high - second.area, 2 * (first.high - first.area), rtol=0.01)


def test_probabilities_of_0_and_1_are_a_map() -> None:
    """They would promise that no error is possible, and the interval would be empty."""
    strata, everything = population(2000, 2)
    onehot = (everything.mapped[:, None] == np.arange(2)).astype(float)
    nothing = np.zeros_like(strata.totals.mapped)
    strata = replace(strata, totals=replace(strata.totals, probability=strata.totals.mapped, variance=nothing))
    sample = drawn(replace(everything, label=everything.mapped, probability=onehot), [30, 30])
    areas = estimate_areas(strata, sample)
    assert areas.auxiliary == "map"
    assert (areas.high - areas.low > 0.02 * strata.totals.area.sum()).all()


def test_slope_of_calibrated_reversed_and_constant_probabilities() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random((4000, 1))
    probability = np.hstack([1 - chance, chance])
    labels = (rng.random((4000, 1)) < chance) == np.array([[False, True]])
    predicted = probability.sum(axis=0)
    assert calibration_slope(labels.astype(float), probability, predicted) == pytest.approx(1, abs=0.05)
    halved = 0.5 * chance + 0.1
    labels = (rng.random((4000, 1)) < halved) == np.array([[False, True]])
    assert calibration_slope(labels.astype(float), probability, predicted) == pytest.approx(0.5, abs=0.05)
    assert calibration_slope(1 - probability, probability, predicted) == 0
    assert calibration_slope(labels.astype(float), np.full((4000, 2), 0.5), predicted) == 1


def test_units_without_label_are_left_out_and_bounded_by_the_extremes() -> None:
    strata, everything = population(300, 3)
    sample = drawn(everything, [10, 10, 10])
    label = sample.label.copy()
    label[::5], label[1::7] = UNSURE, UNLABELLED
    partly = sample.relabel(label)
    np.testing.assert_allclose(
        estimate_areas(strata, partly).area, estimate_areas(strata, partly.keep(partly.labelled)).area
    )
    least, most = areas_at_extremes(strata, partly)
    missing = partly.label < 0
    for index in range(2):
        for bound, other in ((least, 1 - index), (most, index)):
            filled = np.where(missing, other, partly.label)
            assert bound[index] == pytest.approx(estimate_areas(strata, partly.relabel(filled)).area[index])
    truth = estimate_areas(strata, sample).area
    assert (least <= truth + 1e-9).all()
    assert (truth <= most + 1e-9).all()


def test_a_class_that_is_absent_everywhere_has_no_accuracy() -> None:
    counts = np.zeros((3, 3), int)
    counts[:2, :2] = [[20, 1], [2, 20]]
    totals = Totals(np.array([100.0, 50]), np.array([100.0, 50]), np.array([[100.0, 0, 0], [0, 50, 0]]))
    accuracy = estimate_accuracy(Strata("class", names(3), names(2), totals), sample_of(counts))
    assert np.isnan(accuracy.users.value[2])
    assert np.isnan(accuracy.producers.low[2])
    assert not np.isnan(accuracy.users.value[:2]).any()


def test_a_stratum_with_one_label_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"fewer than 2 labelled units: class 1 \(1\)"):
        estimate_areas(class_strata([100, 100]), sample_of([[5, 0], [0, 1]]))
    # One unit is all there is.
    assert estimate_areas(class_strata([100, 1]), sample_of([[5, 0], [0, 1]])).area[1] == pytest.approx(1)


def test_unknown_domain_and_missing_probabilities_are_refused() -> None:
    strata, everything = population(100, 2)
    with pytest.raises(ValueError, match="'nowhere' is not one of the domains: site 0, site 1"):
        estimate_areas(strata, everything, domain="nowhere")
    with pytest.raises(ValueError, match="probabilities"):
        estimate_areas(class_strata([100, 100]), sample_of([[5, 0], [0, 5]]), "probability")

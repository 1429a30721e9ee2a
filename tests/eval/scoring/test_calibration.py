"""Average precision, calibration error and thresholds, against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from eval.scoring import calibration

from .maps import blobs, noisy


@pytest.mark.parametrize("sureness", [1, 8], ids=["unsure", "sure"])
def test_average_precision_is_sklearns(sureness: int) -> None:
    """Of a network that is sure of itself most probabilities lie within 1/3840 of 0 or 1."""
    rng = np.random.default_rng(8)
    label = blobs(rng, (200, 200))
    share = noisy(rng, label, 2).astype(np.float64)
    probability = (1 / (1 + ((1 - share) / share) ** sureness)).astype(np.float32)
    assert (((probability > 1 - 1 / 3840) | (probability < 1 / 3840)).mean() > 0.3) == (sureness == 8)
    counts, _ = calibration.probability_histogram(probability.ravel(), label.ravel() == 1)
    exact = sk.average_precision_score(label.ravel(), probability.ravel())
    rounded = np.searchsorted(calibration.UPPER_EDGES, probability)
    assert calibration.average_precision(counts) == pytest.approx(exact, abs=2e-4)
    assert calibration.average_precision(counts) == pytest.approx(
        sk.average_precision_score(label.ravel(), rounded.ravel()), abs=1e-12
    )


def test_calibration_error_is_that_of_sklearns_curve() -> None:
    rng = np.random.default_rng(9)
    probability = rng.random(50_000).astype(np.float32)
    true = rng.random(50_000) < probability**1.5
    counts, sums = calibration.probability_histogram(probability, true)
    share, mean = calibration_curve(true, probability.astype(np.float64), n_bins=15, strategy="uniform")
    number, _ = np.histogram(probability.astype(np.float64), bins=15, range=(0, 1))
    assert calibration.calibration_error(counts, sums) == pytest.approx(
        float(np.average(np.abs(share - mean), weights=number)), abs=1e-9
    )


def test_thresholds_count_exactly() -> None:
    """A float32 probability a hair above k/3840 is above it, and one that is equal isn't."""
    k = np.arange(1, calibration.UNIFORM_BINS)
    edge = (k / calibration.UNIFORM_BINS).astype(np.float32)
    for values in (edge, np.nextafter(edge, np.float32(1)), np.nextafter(edge, np.float32(0))):
        for value, index in zip(values, k, strict=True):
            counts, _ = calibration.probability_histogram(np.array([value]), np.array([True]))
            above = counts[calibration.threshold_bin(index / calibration.UNIFORM_BINS) :].sum()
            assert above == (float(value) > index / calibration.UNIFORM_BINS)


def test_the_best_threshold_is_the_best() -> None:
    rng = np.random.default_rng(10)
    label = blobs(rng, (100, 100)).ravel()
    probability = noisy(rng, label.reshape(100, 100), 2).ravel() ** 2
    counts, _ = calibration.probability_histogram(probability, label == 1)
    found = calibration.best_threshold(counts)
    assert found is not None
    threshold, dice = found
    each = {t: sk.f1_score(label, probability > t) for t in (*np.arange(1, 384) / 384, threshold)}
    assert dice == pytest.approx(each[threshold], abs=1e-12)
    assert dice >= max(each.values()) - 1e-12
    assert calibration.dice_at(counts, 0.5) == pytest.approx(sk.f1_score(label, probability > 0.5))
    assert calibration.best_threshold(np.zeros((calibration.BINS, 2))) is None


@pytest.mark.parametrize("value", [0.5, 0.873977661, 3e-4, 2e-7, 0.99991, 0.9999998])
def test_a_threshold_is_printed_so_that_it_can_be_used(value: float) -> None:
    chosen = float(calibration.LOWER_EDGES[calibration.threshold_bin(value)])
    text = calibration.format_threshold(chosen)
    assert 0 < float(text) < 1
    assert calibration.threshold_bin(float(text)) == calibration.threshold_bin(chosen)
    assert len(text) <= 11
    assert calibration.format_threshold(0.5) == "0.500"


def test_bins_looked_up_are_those_of_a_search() -> None:
    """At each edge, each range of leading bits and between, with the neighbours that float32 has."""
    edges = calibration.UPPER_EDGES.astype(np.float32)
    ranges = np.arange(0, np.float32(1).view(np.uint32), 2**11, dtype=np.uint32).view(np.float32)
    rng = np.random.default_rng(10)
    some = rng.random(50_000, np.float32)
    values = np.concatenate([edges, ranges, some, some**20, 1 - some**20, np.float32([0, -0.0, 1, 1e-45])])
    values = np.concatenate([values, np.nextafter(values, np.float32(-1)), np.nextafter(values, np.float32(2))])
    values = values[(values >= 0) & (values <= 1)].astype(np.float32)
    expected = np.searchsorted(calibration.UPPER_EDGES, values.astype(np.float64))
    np.testing.assert_array_equal(calibration.bin_index(values), expected)

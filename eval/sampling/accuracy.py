"""Estimators of the accuracy of a map from a stratified random sample of labelled units.

Each accuracy is a ratio R = Y / X of two stratified totals, and its variance is that of the total of y - R x, over X²
(Stehman 2014, doi:10.1080/01431161.2014.930207). In strata that are the classes of the map these are equations 4 to 8
of Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015.
"""

from dataclasses import dataclass

import numpy as np

from eval.sampling.design import Floats, Sample, Strata
from eval.sampling.estimators import check_sizes, indicators, stratified_total, stratum_moments
from eval.sampling.intervals import LEVEL, Bounds, ResidualMoments, effective_jeffreys, mover_interval, share_interval


@dataclass(frozen=True)
class Ratios:
    """Estimated proportions, with standard errors and confidence intervals; arrays of the same shape.

    NaN where a proportion is undefined: no unit in the sample belongs to its denominator.
    """

    value: Floats
    standard_error: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a map of K classes.

    Attributes:
        counts: (K, K), number of labelled units by mapped class (rows) and label (columns).
        matrix: (K, K), error matrix in area proportions, mapped class by reference class; it sums to 1.
        overall: (), share of the area that is mapped correctly.
        users: (K,), user's accuracy: share of the area mapped as a class that belongs to it.
        producers: (K,), producer's accuracy: share of the area of a class that is mapped as it.
    """

    counts: Floats
    matrix: Floats
    overall: Ratios
    users: Ratios
    producers: Ratios


def estimate_accuracy(strata: Strata, sample: Sample, level: float = LEVEL) -> Accuracy:
    """Estimate the error matrix in area proportions, and overall, user's and producer's accuracy.

    Intervals of overall and user's accuracy are those of `effective_jeffreys`. That of producer's accuracy is computed
    by `share_interval`, from the areas of a class that are mapped as it and as others: where a sample contains few of a
    rare class's omissions, or none, the standard error says little.

    Raises:
        ValueError: A stratum has fewer than two labelled units (one, if it has no other).
    """
    known = sample.keep(sample.labelled)
    check_sizes(strata, known)
    classes = len(strata.class_names)
    mapped, label = indicators(known.mapped, classes), indicators(known.label, classes)
    correct = mapped * label
    cells = (mapped[:, :, None] * label[:, None, :]).reshape(len(known), -1)
    area = strata.totals.area.sum()
    overall = _ratio(strata, known, correct.sum(axis=1, keepdims=True), np.ones((len(known), 1)), level)
    return Accuracy(
        cells.sum(axis=0).reshape(classes, classes),
        (stratified_total(strata, known, cells)[0] / area).reshape(classes, classes),
        Ratios(*(values[0] for values in (overall.value, overall.standard_error, overall.low, overall.high))),
        _ratio(strata, known, correct, mapped, level),
        _producers(strata, known, correct, label, level),
    )


def _producers(strata: Strata, sample: Sample, correct: Floats, label: Floats, level: float) -> Ratios:
    """Estimate producer's accuracy from indicators (n, K) of units mapped correctly and of labels."""
    ratios = _ratio(strata, sample, correct, label, level)
    mapped = strata.totals.mapped / strata.totals.area[:, None]
    found = _total_and_bounds(strata, sample, correct, mapped, level)
    missed = _total_and_bounds(strata, sample, label - correct, 1 - mapped, level)
    low, high = share_interval(found[0], missed[0], found[1], missed[1])
    return Ratios(ratios.value, ratios.standard_error, np.fmin(low, ratios.value), np.fmax(high, ratios.value))


def _total_and_bounds(
    strata: Strata, sample: Sample, values: Floats, limit: Floats, level: float
) -> tuple[Floats, Bounds]:
    """Return the totals of indicators (n, K) and their intervals; `limit` (H, K) is where they can be 1."""
    mean, variance = stratum_moments(sample, values, len(strata.names))
    nothing = np.zeros_like(mean)
    moments = ResidualMoments(
        area=strata.totals.area,
        units=strata.totals.units,
        sizes=sample.sizes(len(strata.names)).astype(np.float64),
        total=(strata.totals.area[:, None] * mean).sum(axis=0),
        surplus=mean,
        deficit=nothing,
        variance=variance,
        surplus_limit=limit,
        deficit_limit=nothing,
    )
    low, high = mover_interval(moments, level)
    return moments.total, (np.maximum(low, 0), high)


def _ratio(strata: Strata, sample: Sample, numerator: Floats, denominator: Floats, level: float) -> Ratios:
    """Estimate ratios of totals of (n, M) over totals of (n, M); the numerators are parts of the denominators."""
    part, whole = (stratified_total(strata, sample, values)[0] for values in (numerator, denominator))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(whole > 0, part / whole, np.nan)
        error = np.sqrt(stratified_total(strata, sample, numerator - value * denominator)[1]) / whole
    census = bool((sample.sizes(len(strata.names)) >= strata.totals.units).all())
    low, high = effective_jeffreys(value, error, (denominator > 0).sum(axis=0).astype(np.float64), level, census)
    return Ratios(value, error, low, high)

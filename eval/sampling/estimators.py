"""Estimators of areas from a stratified random sample of labelled units.

Areas are estimated by the difference estimator: the total of an auxiliary variable x that is known for every unit of
the map, corrected by the mean difference between the labels and x in the sample,

    T_k = sum_h (X_hk + A_h mean_h(y_k - x_k)),    Var(T_k) = sum_h A_h² (1 - n_h / N_h) s²_h(y_k - x_k) / n_h

(Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, chapter 6, doi:10.1007/978-1-4612-4378-6). y_k is
1 where the label is class k, otherwise 0; A_h is the area of stratum h. Three choices of x:

- "map": 1 where the map shows class k. In strata that are the classes of the map this is the stratified estimator of
  Olofsson et al. 2014, equations 9 to 11, doi:10.1016/j.rse.2014.02.015.
- "none": 0, the stratified estimator for any strata (Stehman 2014, equation 14, doi:10.1080/01431161.2014.930207).
- "probability": a_h + b p_k, a linear function of the model's probability p_k of class k. The intercepts a_h only
  matter in domains. The slope b is that of the labels on the probabilities in the sample, between 0 and 1: near 1 for
  calibrated probabilities (then this is prediction-powered inference: Angelopoulos et al. 2023,
  doi:10.1126/science.adi6000), near 0 for worthless ones, where the estimator becomes that of "none" (Angelopoulos,
  Duchi and Zrnic, PPI++, 2023, arXiv:2311.01453). It is the generalised regression estimator with one slope.

With "map" and "probability" the areas of all classes sum to the known area, in a domain (site) too: there the
differences of units outside the domain count as 0.

Units of different ground area (a map in degrees, for example) are weighted by it: every mean is sum(a y) / sum(a).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.sampling.design import Floats, Sample, Strata, Totals
from eval.sampling.intervals import (
    LEVEL,
    ResidualMoments,
    are_credible,
    area_interval,
    estimated_share,
    expected_variance,
    label_moments,
)

Auxiliary = Literal["map", "probability", "none"]


@dataclass(frozen=True)
class Areas:
    """Estimated area of each of K classes.

    Attributes:
        class_names: Names of the classes.
        auxiliary: Auxiliary variable of the difference estimator.
        mapped: (K,), area of the pixels of each class on the map, in m².
        area: (K,), estimated area in m². An unbiased estimate of a class that is nearly absent can be below 0.
        standard_error: (K,), design-based standard error of `area` in m²; 0 where all differences in the sample are
            equal. The interval does not rely on it.
        low: (K,), lower bound of the confidence interval in m².
        high: (K,), upper bound of the confidence interval in m².
        level: Confidence level.
    """

    class_names: tuple[str, ...]
    auxiliary: Auxiliary
    mapped: Floats
    area: Floats
    standard_error: Floats
    low: Floats
    high: Floats
    level: float


def default_auxiliary(strata: Strata, sample: Sample) -> Auxiliary:
    """Return "probability" where credible probabilities of the map and the sample are known, otherwise "map"."""
    return "probability" if are_credible(strata.totals) and sample.probability is not None else "map"


def estimate_areas(
    strata: Strata,
    sample: Sample,
    auxiliary: Auxiliary | None = None,
    domain: str | None = None,
    level: float = LEVEL,
) -> Areas:
    """Estimate the area of each class, over the whole population or in one domain.

    Units without a class label are left out: they are taken to be missing at random within their stratum;
    `areas_at_extremes` shows what depends on that.

    Args:
        strata: Strata and their known totals.
        sample: Units that were drawn from them.
        auxiliary: Auxiliary variable; None chooses `default_auxiliary`.
        domain: Name of a domain (site) of `strata`; None for the whole population.
        level: Confidence level.

    Raises:
        ValueError: A stratum has fewer than two labelled units (one, if it has no other), the auxiliary variable is
            not known, or the domain is not one of the strata's.
    """
    auxiliary = auxiliary or default_auxiliary(strata, sample)
    known = sample.keep(sample.labelled)
    check_sizes(strata, known)
    moments = residual_moments(strata, known, auxiliary, domain)
    totals, position = _totals(strata, domain)
    low, high = area_interval(moments, level)
    # The labelled units themselves are certain.
    seen = indicators(known.label, len(strata.class_names)) * known.area[:, None]
    share = np.ones(len(known)) if position is None else _membership(known)[:, position]
    least = (seen * share[:, None]).sum(axis=0)
    total = totals.area.sum()
    return Areas(
        strata.class_names,
        auxiliary,
        totals.mapped.sum(axis=0),
        moments.total,
        np.sqrt(moments.design_variance.sum(axis=0)),
        np.clip(low, least, total - (least.sum() - least)),
        np.clip(high, least, total - (least.sum() - least)),
        level,
    )


def areas_at_extremes(
    strata: Strata, sample: Sample, auxiliary: Auxiliary | None = None, domain: str | None = None
) -> tuple[Floats, Floats]:
    """Estimate the area of each class if all units without a class label belong to another class, or all to it.

    The other class is the most frequent one among the labels.

    Returns:
        (K,) and (K,): estimates in m² for no such unit, and for each such unit, in the class.
    """
    auxiliary = auxiliary or default_auxiliary(strata, sample)
    classes = len(strata.class_names)
    frequency = np.bincount(sample.label[sample.labelled], minlength=classes)
    bounds = np.zeros((2, classes))
    for index in range(classes):
        other = int(np.argmax(np.where(np.arange(classes) == index, -1, frequency)))
        for row, filling in enumerate((other, index)):
            filled = sample.relabel(np.where(sample.labelled, sample.label, filling))
            check_sizes(strata, filled)
            bounds[row, index] = residual_moments(strata, filled, auxiliary, domain).total[index]
    return bounds[0], bounds[1]


def check_sizes(strata: Strata, sample: Sample) -> None:
    """Check that each stratum has two labelled units, or one if it has no other.

    Raises:
        ValueError: A stratum has fewer; the message names it.
    """
    sizes = sample.sizes(len(strata.names))
    short = sizes < np.minimum(2, np.ceil(strata.totals.units))
    if short.any():
        found = ", ".join(f"{strata.names[i]} ({sizes[i]})" for i in np.flatnonzero(short))
        raise ValueError(f"strata with fewer than 2 labelled units: {found}")


def stratified_total(strata: Strata, sample: Sample, values: Floats) -> tuple[Floats, Floats]:
    """Estimate totals of values per unit area, and their variances.

    Args:
        strata: Strata, each with at least one unit in `sample` (two for a variance).
        sample: Units, all of them used.
        values: (n, M), values of the units.

    Returns:
        (M,): sum_h A_h mean_h(values). (M,): sum_h A_h² (1 - n_h / N_h) s²_h / n_h.
    """
    mean, variance = stratum_moments(sample, values, len(strata.names))
    area = strata.totals.area[:, None]
    return (area * mean).sum(axis=0), (area**2 * _variance_of_mean(strata, sample, variance)).sum(axis=0)


def stratum_moments(sample: Sample, values: Floats, strata: int) -> tuple[Floats, Floats]:
    """Return the mean and the sample variance of values (n, M) in each stratum, (H, M) each, weighted by ground area.

    Both are 0 in a stratum without units, and the variance is 0 in one with a single unit.
    """
    sizes = np.bincount(sample.stratum, minlength=strata)
    areas = np.bincount(sample.stratum, sample.area, strata)
    weight = (sample.area * (sizes / np.where(areas > 0, areas, 1))[sample.stratum])[:, None]
    mean = _sum_by_stratum(sample, weight * values, strata) / np.maximum(sizes, 1)[:, None]
    squares = _sum_by_stratum(sample, (weight * (values - mean[sample.stratum])) ** 2, strata)
    return mean, squares / np.maximum(sizes - 1, 1)[:, None]


def residual_moments(
    strata: Strata, sample: Sample, auxiliary: Auxiliary, domain: str | None = None
) -> ResidualMoments:
    """Return the moments of the differences between the labels and the auxiliary variable, by stratum.

    Args:
        strata: Strata and their known totals.
        sample: Units, all of them used.
        auxiliary: Auxiliary variable.
        domain: Name of a domain of `strata`; None for the whole population.

    Raises:
        ValueError: The auxiliary variable is not known, or the domain is not one of the strata's.
    """
    totals, position = _totals(strata, domain)
    classes, number = len(strata.class_names), len(strata.names)
    labels = indicators(sample.label, classes)
    share = np.ones((len(sample), 1)) if position is None else _membership(sample)[:, [position]]
    whole = strata.totals.area[:, None]
    inside = totals.area[:, None] / whole
    positive, negative = np.broadcast_to(inside, totals.mapped.shape), np.zeros_like(totals.mapped)
    known, predicted = np.zeros_like(totals.mapped), np.zeros_like(labels)
    prior = squares = expected = None
    if auxiliary == "map":
        known, predicted = totals.mapped, indicators(sample.mapped, classes)
        negative = totals.mapped / whole
        positive = positive - negative
    elif auxiliary == "probability":
        if strata.totals.probability is None or totals.probability is None or sample.probability is None:
            raise ValueError("the probabilities of the map and of the sample are not known")
        chance = sample.probability
        slope = calibration_slope(labels, chance, strata.totals.probability.sum(axis=0))
        intercepts = stratum_moments(sample, labels - slope * chance, number)[0]
        known = totals.area[:, None] * intercepts + slope * totals.probability
        predicted = intercepts[sample.stratum] + slope * chance
        negative = positive
        everywhere = strata.totals.probability.sum(axis=0)
        everything = (whole * intercepts).sum(axis=0) + slope * everywhere
        share_of_class = estimated_share(everything, strata.totals, labels.sum(axis=0), chance.sum(axis=0))
        prior = inside * expected_variance(strata.totals, slope, share_of_class)
        squares, expected = (
            _sum_by_stratum(sample, values, number)
            for values in label_moments(labels, chance, slope, share_of_class, everywhere / whole.sum())
        )
    residual = share * (labels - predicted)
    mean, variance = stratum_moments(sample, residual, number)
    return ResidualMoments(
        area=strata.totals.area,
        units=strata.totals.units,
        sizes=np.bincount(sample.stratum, minlength=number).astype(np.float64),
        total=(known + whole * mean).sum(axis=0),
        surplus=stratum_moments(sample, np.maximum(residual, 0), number)[0],
        deficit=stratum_moments(sample, np.maximum(-residual, 0), number)[0],
        variance=variance,
        surplus_limit=positive,
        deficit_limit=negative,
        prior=prior,
        squares=squares,
        expected=expected,
    )


def calibration_slope(labels: Floats, probability: Floats, predicted: Floats) -> float:
    """Return the slope of labels on probabilities by least squares over all units and classes, between 0 and 1.

    Args:
        labels: (n, K), 1 in the column of each unit's class, otherwise 0.
        probability: (n, K).
        predicted: (K,), area that the model predicts for each class; the squares of class k have the weight 1 / area.

    Returns:
        The slope; 1 if the probabilities of all units are equal. With one slope for all classes their areas sum to the
        whole area.
    """
    centred = (probability - probability.mean(axis=0)) / np.maximum(predicted, np.finfo(float).tiny)
    spread = (centred * probability).sum()
    return float(np.clip((centred * labels).sum() / spread, 0, 1)) if spread > 1e-12 * np.abs(centred).sum() else 1.0


def _variance_of_mean(strata: Strata, sample: Sample, variance: Floats) -> Floats:
    sizes = np.bincount(sample.stratum, minlength=len(strata.names))
    factor = (1 - np.minimum(sizes / strata.totals.units, 1)) / np.maximum(sizes, 1)
    product: Floats = factor[:, None] * variance
    return product


def _totals(strata: Strata, domain: str | None) -> tuple[Totals, int | None]:
    """Return the totals of a domain and its position, or those of the whole population and None."""
    if domain is None:
        return strata.totals, None
    names = [name for name, _ in strata.domains]
    if domain not in names:
        raise ValueError(f"{domain!r} is not one of the domains: {', '.join(names)}")
    return strata.domains[names.index(domain)][1], names.index(domain)


def _membership(sample: Sample) -> Floats:
    if sample.membership is None:
        raise ValueError("the sample does not say which domains its units lie in")
    return sample.membership


def indicators(classes: np.ndarray, number: int) -> Floats:
    """Return (n, number) float64: 1 in the column of each unit's class; a row of 0 where there is none."""
    indicators: Floats = (classes[:, None] == np.arange(number)).astype(np.float64)
    return indicators


def _sum_by_stratum(sample: Sample, values: Floats, strata: int) -> Floats:
    sums = np.zeros((strata, values.shape[1]))
    np.add.at(sums, sample.stratum, values)
    return sums

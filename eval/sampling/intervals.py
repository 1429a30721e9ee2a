"""Confidence intervals of areas and accuracies that hold for rare classes and small strata.

The usual interval, estimate ± 1.96 standard errors (Wald), fails where errors of the map are rare. Most samples then
contain no omitted unit in the large stratum of the other class, so that its variance is estimated as 0, while the few
samples that contain one are far off: of nominal 95 %, 10 to 70 % remain (`benchmarks/area.py`). Two remedies, one for
each kind of auxiliary variable:

- Without probabilities, Jeffreys limits in each stratum, combined by MOVER: see `mover_interval`.
- With probabilities, a variance that is shrunk towards the one which the model itself expects: see
  `moderated_interval`. It is much narrower, because p (1 - p) says in which strata errors are to be expected even
  where the sample contains none. The model isn't believed blindly: its variance is multiplied by a factor that is
  estimated from the sample, and the sample's own variance takes over as strata grow.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from eval.sampling.design import Floats, Totals

LEVEL = 0.95
Bounds = tuple[Floats, Floats]
"""Lower and upper bounds."""
PRIOR_DEGREES = 10.0
"""Degrees of freedom of the model's variance in each stratum: it weighs as much as that many labelled units."""
LEAST_DOUBT = 1e-3
"""Smallest share of the labels' variance that credible probabilities leave unexplained; see `are_credible`."""
PRIOR_COUNT = 5.0
"""Weight of the share of a class that the model predicts, in labelled units of the class."""
MISTRUST = 0.02
"""Share of the area of each stratum in which the model is taken to know nothing but how frequent the classes are."""


@dataclass(frozen=True)
class ResidualMoments:
    """Moments of residuals r = (label is class k) - auxiliary variable, of H strata and K classes.

    Arrays can have leading dimensions (several samples), so that shapes are (..., H) and (..., H, K).

    Attributes:
        area: (H,), ground area in m².
        units: (H,), number of units; infinite to leave out the finite population correction.
        sizes: (H,), number of labelled units.
        total: (K,), estimated area of each class in m².
        surplus: (H, K), mean of max(r, 0).
        deficit: (H, K), mean of max(-r, 0).
        variance: (H, K), sample variance of r; 0 with a single unit.
        surplus_limit: (H, K), largest possible population mean of max(r, 0): the share of the stratum's area where r
            can be positive.
        deficit_limit: (H, K), likewise of max(-r, 0).
        prior: (H, K), variance of r that the model expects, see `expected_variance`; None without probabilities.
        squares: (H, K), sum of (y - p')² over the labelled units, see `label_moments`; None without probabilities.
        expected: (H, K), the value of `squares` that the model expects; None without probabilities.
    """

    area: Floats
    units: Floats
    sizes: Floats
    total: Floats
    surplus: Floats
    deficit: Floats
    variance: Floats
    surplus_limit: Floats
    deficit_limit: Floats
    prior: Floats | None = None
    squares: Floats | None = None
    expected: Floats | None = None

    @property
    def squared_scale(self) -> Floats:
        """Factor (H, 1) that turns the variance of r into that of a stratum's area before division by n_h."""
        scale: Floats = (self.area**2 * (1 - np.minimum(self.sizes / self.units, 1)))[..., None]
        return scale

    @property
    def design_variance(self) -> Floats:
        """Unbiased estimate of the variance of each stratum's area, (H, K) in m⁴."""
        variance: Floats = self.squared_scale * self.variance / self.sizes[..., None]
        return variance


def area_interval(moments: ResidualMoments, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return the bounds of the confidence interval of each class's area, (K,) and (K,) in m²; not clipped to [0, A]."""
    return mover_interval(moments, level) if moments.prior is None else moderated_interval(moments, level)


def mover_interval(moments: ResidualMoments, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Combine Jeffreys intervals of the strata by the method of variance estimates recovery (MOVER).

    Lower bound T - sqrt(sum_h f_h A_h² (m_h - l_h)²), upper bound T + sqrt(sum_h f_h A_h² (u_h - m_h)²), with the
    interval (l_h, u_h) of each stratum's mean and f_h = 1 - n_h / N_h (Zou, Huang and Zhang, Comput. Stat. Data Anal.
    53, 2009, doi:10.1016/j.csda.2008.09.033). A stratum without errors in the sample thus widens the interval on the
    side where errors may have been missed.

    The interval of a mean is Jeffreys' (Brown, Cai and DasGupta, Stat. Sci. 16(2), 2001, doi:10.1214/ss/1009213286):
    the 2.5 and 97.5 % quantiles of Beta(x + 1/2, n - x + 1/2), from 0 if x = 0, and to 1 if x = n. Positive and
    negative residuals are treated as two proportions.
    """
    scale = moments.squared_scale
    below = above = np.zeros(())
    for mean, limit, sign in (
        (moments.surplus, moments.surplus_limit, 1),
        (moments.deficit, moments.deficit_limit, -1),
    ):
        low, high = jeffreys(mean * moments.sizes[..., None], moments.sizes[..., None], level)
        # Where errors of this sign are possible only in a part of the stratum, their mean can't exceed its share.
        down = mean - np.minimum(low, mean)
        up = np.maximum(np.minimum(high, limit) - mean, 0)
        below = below + scale * (down if sign > 0 else up) ** 2
        above = above + scale * (up if sign > 0 else down) ** 2
    return moments.total - np.sqrt(below.sum(axis=-2)), moments.total + np.sqrt(above.sum(axis=-2))


def moderated_interval(moments: ResidualMoments, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return T ± t sqrt(V), with a variance that is shrunk towards the model's in each stratum.

    s̃²_h = (d_0 φ v_h + (n_h - 1) s²_h) / (d_0 + n_h - 1), with v_h of `expected_variance`, φ of `dispersion` and d_0 =
    PRIOR_DEGREES, has d_0 + n_h - 1 degrees of freedom (moderated t: Smyth, Stat. Appl. Genet. Mol. Biol. 3(1), 2004,
    doi:10.2202/1544-6115.1027). Those of the strata are combined by Satterthwaite's formula (Cochran, Sampling
    Techniques, 1977, equation 5.16).

    Raises:
        ValueError: The moments have no prior variance.
    """
    variance, degrees = moderated_variance(moments)
    share = moments.squared_scale * variance / moments.sizes[..., None]
    total = share.sum(axis=-2)
    smallest = np.finfo(float).tiny
    freedom = total**2 / np.maximum((share**2 / degrees).sum(axis=-2), smallest)
    half = stats.t.ppf((1 + level) / 2, np.maximum(freedom, 1)) * np.sqrt(total)
    return moments.total - half, moments.total + half


def moderated_variance(moments: ResidualMoments) -> tuple[Floats, Floats]:
    """Return the shrunk variance of the residuals in each stratum, (H, K), and its degrees of freedom, (H, 1).

    Raises:
        ValueError: The moments have no prior variance.
    """
    if moments.prior is None:
        raise ValueError("a moderated variance needs the model's probabilities")
    free = moments.sizes[..., None] - 1
    prior = np.minimum(dispersion(moments)[..., None, :] * moments.prior, 0.25)
    return (PRIOR_DEGREES * prior + free * moments.variance) / (PRIOR_DEGREES + free), PRIOR_DEGREES + free


def are_credible(totals: Totals) -> bool:
    """Return whether probabilities admit errors: the mean of p (1 - p) is at least LEAST_DOUBT of π (1 - π).

    Otherwise they are a map rather than probabilities (0 and 1 only, for example), and what they expect says nothing.
    Without probabilities the answer is False.
    """
    if totals.probability is None or totals.variance is None:
        return False
    share = totals.probability.sum(axis=0) / totals.area.sum()
    return bool(totals.variance.sum() >= LEAST_DOUBT * totals.area.sum() * (share * (1 - share)).sum() > 0)


def expected_variance(totals: Totals, slope: float | Floats = 1.0, share: Floats | None = None) -> Floats:
    """Return the variance of the labels around b p in each stratum that the model expects, (..., H, K).

    The probabilities are recalibrated first, p' = π + b (p - π_p), with the estimated share π of a class in the area,
    the share π_p that the model predicts, and the slope b of labels on probabilities. The variance is (1 - λ) mean(p'
    (1 - p')) + λ π (1 - π), with λ = MISTRUST: no probabilities are so extreme that errors become impossible.

    Args:
        totals: Totals of the strata, with probabilities.
        slope: Slope b, or slopes (...) of several samples.
        share: (..., K), shares π; None for those that the model predicts.

    Raises:
        ValueError: The totals have no probabilities.
    """
    if totals.probability is None or totals.variance is None:
        raise ValueError("the variance that a model expects needs its probabilities")
    area = totals.area[:, None]
    mean = totals.probability / area
    square = mean - totals.variance / area  # mean(p²)
    predicted = totals.probability.sum(axis=0) / totals.area.sum()
    overall = predicted if share is None else share[..., None, :]
    b = np.asarray(slope)[..., None, None]
    constant = overall - b * predicted
    within = constant + b * mean - (constant**2 + 2 * constant * b * mean + b**2 * square)
    variance: Floats = _mistrusted(within, overall)
    return variance


def label_moments(
    labels: Floats, probability: Floats, slope: float | Floats, share: Floats, predicted: Floats
) -> tuple[Floats, Floats]:
    """Return (y - p')² and its expectation for labelled units, with p' of `expected_variance`, (..., n, K) each.

    Args:
        labels: (..., n, K), 1 in the column of each unit's class, otherwise 0.
        probability: (..., n, K).
        slope: Slope b, (...).
        share: (..., K), estimated share of each class in the area.
        predicted: (K,), share that the model predicts.
    """
    overall = share[..., None, :]
    recalibrated = overall + np.asarray(slope)[..., None, None] * (probability - predicted)
    return (labels - recalibrated) ** 2, _mistrusted(recalibrated * (1 - recalibrated), overall)


def estimated_share(area: Floats, totals: Totals, found: Floats, expected: Floats) -> Floats:
    """Return the share of each class in the area, (..., K), for `expected_variance`; it sums to 1 and is never 0.

    The share that the model predicts, times (x + c) / (e + c), with x labelled units of a class in the sample where the
    model expected e, and c = PRIOR_COUNT: the mean of a gamma distribution, updated by a Poisson count. With more units
    of the class the estimate takes over, with the weight x / (x + c). The share of a class that isn't found in a small
    sample thus stays near the predicted one.

    Args:
        area: (..., K), estimated areas.
        totals: Totals over the population, with probabilities.
        found: (..., K), number of labelled units of each class.
        expected: (..., K), sum of the probabilities of the labelled units.

    Raises:
        ValueError: The totals have no probabilities.
    """
    if totals.probability is None:
        raise ValueError("the share that a model predicts needs its probabilities")
    predicted = totals.probability.sum(axis=0) / totals.area.sum()
    prior = predicted * (found + PRIOR_COUNT) / (expected + PRIOR_COUNT)
    weight = found / (found + PRIOR_COUNT)
    share = weight * np.clip(area / totals.area.sum(), 0, 1) + (1 - weight) * prior
    shares: Floats = share / share.sum(axis=-1, keepdims=True)
    return shares


def _mistrusted(variance: Floats, share: Floats) -> Floats:
    mixed: Floats = (1 - MISTRUST) * np.maximum(variance, 0) + MISTRUST * share * (1 - share)
    return mixed


def dispersion(moments: ResidualMoments) -> Floats:
    """Return the factor by which the recalibrated model understates the variance of the labels, (K,), at least 1.

    φ = sum (y - p')² / sum p' (1 - p') over all labelled units (see `label_moments`), the dispersion of
    quasi-likelihood (Wedderburn, Biometrika 61(3), 1974, doi:10.1093/biomet/61.3.439). It is 1 for calibrated
    probabilities. Values below 1 are not used: with few errors in a sample they are due to chance.
    """
    if moments.expected is None or moments.squares is None:
        raise ValueError("the dispersion needs the model's probabilities")
    expected = np.maximum(moments.expected.sum(axis=-2), np.finfo(float).tiny)
    factor: Floats = np.maximum(moments.squares.sum(axis=-2) / expected, 1)
    return factor


def jeffreys(successes: Floats, trials: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return Jeffreys' interval of a proportion (Brown, Cai and DasGupta 2001, doi:10.1214/ss/1009213286).

    Args:
        successes: (...), not necessarily integers.
        trials: (...), likewise; with 0 trials the interval is (0, 1).
        level: Confidence level.
    """
    failures = np.maximum(trials - successes, 0)
    tail = (1 - level) / 2
    # Sums of floats are a rounding error away from 0 and from n.
    low = np.where(successes <= 1e-9, 0.0, stats.beta.ppf(tail, successes + 0.5, failures + 0.5))
    high = np.where(failures <= 1e-9, 1.0, stats.beta.ppf(1 - tail, successes + 0.5, failures + 0.5))
    return low, high


def share_interval(part: Floats, rest: Floats, part_bounds: Bounds, rest_bounds: Bounds) -> Bounds:
    """Return the interval of part / (part + rest) from those of two totals, estimated independently.

    The method of variance estimates recovery for the ratio R = rest / part (Donner and Zou, Stat. Methods Med. Res.
    21(4), 2012, doi:10.1177/0962280210383082); the share is 1 / (1 + R).

    Args:
        part: (M,), estimated totals.
        rest: (M,), estimated totals; the share is undefined where both are 0.
        part_bounds: Lower and upper bounds of `part`, (M,) each.
        rest_bounds: Lower and upper bounds of `rest`.
    """
    (low_part, high_part), (low_rest, high_rest) = part_bounds, rest_bounds
    product = part * rest
    with np.errstate(invalid="ignore", divide="ignore"):
        nearest = high_part * (2 * part - high_part)
        root = np.sqrt(np.maximum(product**2 - low_rest * nearest * (2 * rest - low_rest), 0))
        # The formula holds for an upper bound below twice the estimate; beyond that the plain quotient is safe.
        smallest = np.where(nearest > 0, (product - root) / nearest, low_rest / high_part)
        furthest = low_part * (2 * part - low_part)
        root = np.sqrt(np.maximum(product**2 - high_rest * furthest * (2 * rest - high_rest), 0))
        largest = np.where(furthest > 0, (product + root) / furthest, np.inf)
    undefined = part + rest <= 0
    low, high = 1 / (1 + np.maximum(largest, 0)), 1 / (1 + np.maximum(smallest, 0))
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def effective_jeffreys(
    value: Floats, standard_error: Floats, units: Floats, level: float = LEVEL, census: bool = False
) -> tuple[Floats, Floats]:
    """Return Jeffreys' interval of proportions from a stratified sample, with their effective sample sizes.

    The effective size is that of a simple random sample with the same standard error, p (1 - p) / SE² (Korn and
    Graubard, Survey Methodology 24(2), 1998; compared by Franco et al. 2019, doi:10.1093/jssam/smy019). At p = 0 and
    p = 1, where the standard error is 0, it is the number of units.

    Args:
        value: (M,), proportions; NaN if undefined.
        standard_error: (M,).
        units: (M,), number of units in the sample that belong to the denominator of each proportion.
        level: Confidence level.
        census: All units of the population are labelled: nothing is uncertain.
    """
    if census:
        return value.copy(), value.copy()
    share = np.clip(value, 0, 1)
    spread = share * (1 - share)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(spread > 1e-12, spread / standard_error**2, units)
    size = np.where(np.isfinite(size), size, units)
    low, high = jeffreys(share * size, size, level)
    undefined = np.isnan(value)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)

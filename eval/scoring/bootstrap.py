"""Confidence intervals from a bootstrap over groups of images.

Pixels of one image are not independent samples, and neither are images of one mosaic. The bootstrap therefore resamples
whole groups of images with replacement (cluster bootstrap: Field and Welsh, J. R. Stat. Soc. B 69(3), 2007,
doi:10.1111/j.1467-9868.2007.00593.x), computes each score from the pooled counts of every resample, and takes
percentiles of these replicates as the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13, doi:10.1201/9780429246593).

Differences between two models are paired: both are scored on the same resamples, so that variation between sites which
affects both models cancels.
"""

from collections.abc import Callable, Mapping

import numpy as np

from eval.scoring.confusion import Floats

REPLICATES = 1000
FEW_GROUPS = 10
"""With fewer groups than this, reports warn that the percentile interval is too narrow."""
_BATCH = 50  # replicates whose resampled counts are in memory at the same time

Counts = Mapping[str, Floats]
"""Additive pixel counts by name; see `eval.scoring.counts`."""
Scores = Mapping[str, Floats]


def bootstrap_weights(groups: int, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """Draw bootstrap resamples; the same seed gives the same resamples.

    Returns:
        (replicates, groups) float64: the number of times each group is drawn. Each row sums to `groups`.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=replicates).astype(np.float64)


def percentile_intervals(
    counts: Counts,
    score: Callable[[Counts], Scores],
    baseline: Counts | None = None,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of scores, or of their differences from the scores of a baseline.

    Args:
        counts: Arrays (groups, ...) that are additive over groups.
        score: Function from arrays (replicates, ...) to scores (replicates,).
        baseline: Counts of another model for the same groups; with them, the intervals are those of the paired
            differences.
        replicates: Number of resamples.
        level: Confidence level.

    Returns:
        Lower and upper bound of each score. Both are NaN with fewer than two groups, and for a score that is undefined
        in every replicate; replicates in which a score is undefined are left out.
    """
    groups = len(next(iter(counts.values())))
    found: dict[str, list[Floats]] = {}
    weights = bootstrap_weights(groups, replicates)
    for first in range(0, replicates, _BATCH):
        batch = weights[first : first + _BATCH]
        scores = score(_resample(counts, batch))
        reference = None if baseline is None else score(_resample(baseline, batch))
        for name, values in scores.items():
            found.setdefault(name, []).append(values if reference is None else values - reference[name])
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    result = {}
    for name, parts in found.items():
        values = np.concatenate(parts)
        values = values[~np.isnan(values)]
        low, high = np.percentile(values, tails) if groups > 1 and values.size else (np.nan, np.nan)
        result[name] = (float(low), float(high))
    return result


def _resample(counts: Counts, weights: Floats) -> dict[str, Floats]:
    """Pool the counts of each resample: (groups, ...) and (replicates, groups) to (replicates, ...)."""
    return {
        name: (weights @ values.reshape(len(values), -1)).reshape(len(weights), *values.shape[1:])
        for name, values in counts.items()
    }

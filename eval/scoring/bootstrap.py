"""How sure a score is: intervals from drawing groups of images again and again.

Pixels of one image are no independent witnesses, and neither are images of one mosaic. So whole groups are drawn, with
replacement, as many as there are; a score is computed anew from what was drawn; of 1000 such scores the 2.5th and the
97.5th percentile are the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Two
models are compared on the same draws: what makes a site hard for both cancels out.
"""

from collections.abc import Callable, Mapping

import numpy as np

from eval.scoring.confusion import Floats

REPLICATES = 1000
FEW_GROUPS = 10
"""With fewer groups the interval is too narrow, and says little."""
_AT_ONCE = 50  # replicates whose histograms are in memory together

Counts = Mapping[str, Floats]
Scores = Mapping[str, Floats]


def draws(groups: int, replicates: int = REPLICATES, seed: int = 0) -> Floats:
    """How often each group is drawn, (replicates, groups); the same for the same seed."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=replicates).astype(np.float64)


def intervals(
    counts: Counts,
    score: Callable[[Counts], Scores],
    baseline: Counts | None = None,
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of scores, or of their differences from a baseline's.

    Args:
        counts: Arrays (groups, ...) that add up over groups.
        score: From arrays (replicates, ...) to scores (replicates,).
        baseline: Another model's counts of the same groups.
        replicates: How often to draw.
        level: Share of the replicates within the interval.

    Returns:
        Lower and upper bound of each score; NaN with fewer than two groups, or where a score is never defined.
    """
    groups = len(next(iter(counts.values())))
    found: dict[str, list[Floats]] = {}
    weights = draws(groups, replicates)
    for first in range(0, replicates, _AT_ONCE):
        chosen = weights[first : first + _AT_ONCE]
        ours = score(_drawn(counts, chosen))
        theirs = None if baseline is None else score(_drawn(baseline, chosen))
        for name, values in ours.items():
            found.setdefault(name, []).append(values if theirs is None else values - theirs[name])
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    result = {}
    for name, parts in found.items():
        values = np.concatenate(parts)
        values = values[~np.isnan(values)]
        low, high = np.percentile(values, tails) if groups > 1 and values.size else (np.nan, np.nan)
        result[name] = (float(low), float(high))
    return result


def _drawn(counts: Counts, weights: Floats) -> dict[str, Floats]:
    return {
        name: (weights @ values.reshape(len(values), -1)).reshape(len(weights), *values.shape[1:])
        for name, values in counts.items()
    }

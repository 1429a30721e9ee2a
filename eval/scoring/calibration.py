"""What probabilities are worth: average precision, calibration and the best threshold, from histograms.

Probabilities are counted in bins (a, b], the first with 0: 3840 of equal width, of which the first and the last 16 are
divided further, since trained networks put most pixels there: towards 0 and 1 each border is a sixteenth nearer. So
pooled scores of any number of pixels need 74 kB, and add up. Within a bin the order of pixels is lost: average
precision is that of probabilities rounded up to the next border. Counts at a threshold k/3840 are exact, 0.5 and all
multiples of 1/15 included, and so is the calibration error, for which the probabilities of each of its 15 bins are
summed besides.
"""

import numpy as np
from numpy.typing import NDArray

from eval.scoring.confusion import Floats

UNIFORM = 3840
_DOWN_TO_0, _UP_TO_1 = 34, 17  # halvings; the second keeps 1 apart from 1 - 2^-24, float32's next number


def _fine(halvings: int) -> Floats:
    """Borders between 0 and 16 / UNIFORM, in units of 1 / UNIFORM, rising: each at most a sixteenth above the last."""
    return np.asarray(np.ldexp(16 + np.arange(16), -np.arange(halvings, 0, -1)[:, None]).ravel(), np.float64)


UPPER: Floats = (
    np.concatenate(
        [
            _fine(_DOWN_TO_0),
            np.arange(16, UNIFORM - 16),
            UNIFORM - np.append(16, _fine(_UP_TO_1)[::-1]),
            [UNIFORM],
        ]
    )
    / UNIFORM
)
"""Upper border of each bin."""
LOWER: Floats = np.append(0.0, UPPER[:-1])
"""Lower border of each bin."""
BINS = len(UPPER)
CALIBRATION_BINS = 15
"""As in Guo et al., ICML 2017."""
_FIRST = np.searchsorted(LOWER, np.arange(CALIBRATION_BINS) * (UNIFORM // CALIBRATION_BINS) / UNIFORM)
_CALIBRATION_BIN = np.searchsorted(_FIRST, np.arange(BINS), side="right") - 1


def count_probabilities(probability: NDArray[np.float32], true: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Counts pixels by probability.

    Args:
        probability: (n,), 0 to 1.
        true: (n,), whether it was right to expect it.

    Returns:
        (BINS, 2): how many pixels of each bin are false, and true. (CALIBRATION_BINS,): sums of probabilities.
    """
    exact = probability.astype(np.float64)
    place = np.minimum(np.searchsorted(UPPER, exact), BINS - 1)
    counts = np.bincount(place * 2 + true, minlength=2 * BINS).reshape(BINS, 2).astype(np.float64)
    sums = np.bincount(_CALIBRATION_BIN[place], weights=exact, minlength=CALIBRATION_BINS)
    return counts, sums.astype(np.float64)


def average_precision(counts: Floats) -> Floats:
    """Area under the precision-recall curve by steps, (...) from (..., BINS, 2); NaN where nothing is true.

    AP = sum of (R_n - R_n-1) P_n over falling thresholds, as scikit-learn has it.
    """
    descending = counts[..., ::-1, :]
    hits, all_ = descending[..., 1].cumsum(axis=-1), descending.sum(axis=-1).cumsum(axis=-1)
    precision = hits / np.maximum(all_, 1)
    total = hits[..., -1]
    area = (descending[..., 1] * precision).sum(axis=-1)
    found: Floats = np.where(total > 0, area / np.maximum(total, 1), np.nan)
    return found


def reliability(counts: Floats, sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean probability, share that was true and number of pixels of each calibration bin, (..., 15) each."""
    both = np.add.reduceat(counts, _FIRST, axis=-2)
    number = both.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / number, both[..., 1] / number, number


def calibration_error(counts: Floats, sums: Floats) -> Floats:
    """Expected calibration error, (...): mean |probability - share|, weighted by pixels (Guo 2017, equation 3)."""
    probability, share, number = reliability(counts, sums)
    distance = np.where(number > 0, np.abs(np.nan_to_num(probability) - np.nan_to_num(share)), 0)
    total = number.sum(axis=-1)
    found: Floats = np.where(total > 0, (distance * number).sum(axis=-1) / np.maximum(total, 1), np.nan)
    return found


def precision_recall(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Thresholds (LOWER), and the precision and recall of what is above each; from (BINS, 2).

    Precision is NaN where nothing is above, recall where nothing is true.
    """
    above = counts[::-1].cumsum(axis=0)[::-1]  # above a lower border is that bin and all higher ones
    with np.errstate(invalid="ignore", divide="ignore"):
        return LOWER, above[:, 1] / above.sum(axis=1), above[:, 1] / counts[:, 1].sum()


def dice_at(counts: Floats, threshold: float) -> float:
    """Dice of what is above a threshold; exact where that is a border of a bin, else of the nearest one."""
    return float(_dice(counts)[border(threshold)])


def border(threshold: float) -> int:
    """The bin whose lower border is nearest to a threshold."""
    return int(np.argmin(np.abs(LOWER - threshold)))


def shortest(threshold: float) -> str:
    """The fewest decimals, three at least, that still mean this threshold's bin and lie between 0 and 1."""
    for digits in range(3, 10):
        text = f"{threshold:.{digits}f}"
        if 0 < float(text) < 1 and border(float(text)) == border(threshold):
            return text
    return repr(threshold)


def best_threshold(counts: Floats) -> tuple[float, float] | None:
    """The threshold, strictly between 0 and 1, that maximises Dice, and that Dice; None where nothing is true.

    Of several equally good ones the one in their middle: it is furthest from being worse.
    """
    if counts[:, 1].sum() == 0:
        return None
    dice = _dice(counts)[1:]
    best = np.flatnonzero(dice >= dice.max() - 1e-12)
    # Equally good ones may lie apart: the first run of them.
    run = best[: int(np.argmax(np.append(np.diff(best) > 1, True))) + 1]
    chosen = int(run[len(run) // 2])
    return float(LOWER[chosen + 1]), float(dice[chosen])


def _dice(counts: Floats) -> Floats:
    above = counts[::-1].cumsum(axis=0)[::-1]
    dice: Floats = 2 * above[:, 1] / np.maximum(above.sum(axis=1) + counts[:, 1].sum(), 1)
    return dice

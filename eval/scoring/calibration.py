"""Average precision, calibration error and the best threshold, computed from histograms of probabilities.

Probabilities are counted in bins (a, b]; the first bin includes 0. The bins have a width of 1/3840, except that the
first and last 16 are subdivided, because trained networks give most pixels a probability close to 0 or 1: there the
distance of an edge from 0 (or 1) is at most 1/16 larger than that of the next nearer edge.

Histograms are additive over images and need 74 kB for any number of pixels. The order of probabilities within a bin is
lost, so average precision is that of probabilities rounded up to the next edge. Counts at a threshold of k/3840 are
exact, which includes 0.5 and all multiples of 1/15. The calibration error is exact too, because the probabilities in
each of its 15 bins are also summed.
"""

import numpy as np
from numpy.typing import NDArray

from eval.scoring.confusion import Floats

UNIFORM_BINS = 3840
# Halvings of the outermost bins. 17 keep 1 apart from 1 - 2^-24, the next smaller float32.
_HALVINGS_TO_0, _HALVINGS_TO_1 = 34, 17


def _fine_edges(halvings: int) -> Floats:
    """Return ascending edges from 0 to 16, in units of 1 / UNIFORM_BINS, each at most 1/16 above the last."""
    return np.asarray(np.ldexp(16 + np.arange(16), -np.arange(halvings, 0, -1)[:, None]).ravel(), np.float64)


UPPER_EDGES: Floats = (
    np.concatenate(
        [
            _fine_edges(_HALVINGS_TO_0),
            np.arange(16, UNIFORM_BINS - 16),
            UNIFORM_BINS - np.append(16, _fine_edges(_HALVINGS_TO_1)[::-1]),
            [UNIFORM_BINS],
        ]
    )
    / UNIFORM_BINS
)
"""Upper edge of each bin, (BINS,)."""
LOWER_EDGES: Floats = np.append(0.0, UPPER_EDGES[:-1])
"""Lower edge of each bin, (BINS,)."""
BINS = len(UPPER_EDGES)
CALIBRATION_BINS = 15
"""Number of bins in the experiments of Guo et al. (2017)."""
_FIRST_BIN = np.searchsorted(
    LOWER_EDGES, np.arange(CALIBRATION_BINS) * (UNIFORM_BINS // CALIBRATION_BINS) / UNIFORM_BINS
)
_CALIBRATION_BIN = np.searchsorted(_FIRST_BIN, np.arange(BINS), side="right") - 1

_CHUNK = 2**16  # pixels at a time, so that their numbers stay in a core's cache
_ONE_BITS = int(np.float32(1).view(np.uint32))
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_DROPPED_BITS = 12  # 11 bits of the fraction are left: values that share them lie in at most two bins below 1 - 1/240
_FIRST_OF_BITS = np.searchsorted(
    UPPER_EDGES, (np.arange((_ONE_BITS >> _DROPPED_BITS) + 1, dtype=np.uint32) << _DROPPED_BITS).view(np.float32)
)
_CLOSE_BITS = int(np.float32(1 - 16 / UNIFORM_BINS).view(np.uint32)) >> _DROPPED_BITS << _DROPPED_BITS
_BIN_CLOSE_TO_1 = np.searchsorted(UPPER_EDGES, np.arange(_CLOSE_BITS, _ONE_BITS + 1, dtype=np.uint32).view(np.float32))
# A float32 is above an edge if it is above the largest float32 that isn't.
_FLOAT32_EDGES = UPPER_EDGES.astype(np.float32)
_FLOAT32_EDGES = np.where(_FLOAT32_EDGES > UPPER_EDGES, np.nextafter(_FLOAT32_EDGES, np.float32(0)), _FLOAT32_EDGES)


def probability_histogram(probability: NDArray[np.float32], true: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Count pixels by predicted probability and outcome.

    Args:
        probability: (n,), predicted probability of an event, from 0 to 1.
        true: (n,), True where the event occurred: the pixel has the class in question, or its prediction is correct.

    Returns:
        (BINS, 2): number of pixels in each bin without and with the event. (CALIBRATION_BINS,): sum of the
        probabilities in each calibration bin.
    """
    counts, sums = np.zeros(2 * BINS), np.zeros(CALIBRATION_BINS)
    for first in range(0, len(probability), _CHUNK):
        part = np.s_[first : first + _CHUNK]
        index = bin_index(probability[part])
        counts += np.bincount(index * 2 + true[part], minlength=2 * BINS)
        sums += np.bincount(_CALIBRATION_BIN[index], weights=probability[part], minlength=CALIBRATION_BINS)
    return counts.reshape(BINS, 2), sums


def bin_index(probability: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the bin of each probability, (n,): the first one whose upper edge is not below it.

    A search among the edges would take most of the time of all scores. The leading bits of a positive float32 ascend
    with its value, so a table holds for each of them the bin of the smallest value that begins with them. Other values
    with the same leading bits are in that bin or in the next one, because bins are wider than their range. Close to 1
    bins are narrower, and all bits are looked up.

    Args:
        probability: (n,), from 0 to 1.
    """
    bits = np.ascontiguousarray(probability, np.float32).view(np.uint32) & _MAGNITUDE  # -0 is 0
    leading = np.minimum(bits >> _DROPPED_BITS, len(_FIRST_OF_BITS) - 1)
    index: NDArray[np.intp] = _FIRST_OF_BITS[leading]
    index += probability > _FLOAT32_EDGES[index]
    close = np.flatnonzero(bits >= _CLOSE_BITS)
    index[close] = _BIN_CLOSE_TO_1[np.minimum(bits[close] - _CLOSE_BITS, len(_BIN_CLOSE_TO_1) - 1)]
    return index


def average_precision(counts: Floats) -> Floats:
    """Return average precision, (...) from (..., BINS, 2); NaN where no pixel has the class.

    AP = sum over n of (R_n - R_{n-1}) P_n, with precision P_n and recall R_n at descending thresholds, without
    interpolation: the definition of `sklearn.metrics.average_precision_score`. On the pitfalls of interpolation see
    Davis and Goadrich, ICML 2006, doi:10.1145/1143844.1143874.
    """
    descending = counts[..., ::-1, :]
    hits, all_ = descending[..., 1].cumsum(axis=-1), descending.sum(axis=-1).cumsum(axis=-1)
    precision = hits / np.maximum(all_, 1)
    total = hits[..., -1]
    area = (descending[..., 1] * precision).sum(axis=-1)
    found: Floats = np.where(total > 0, area / np.maximum(total, 1), np.nan)
    return found


def reliability_curve(counts: Floats, sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean probability, observed frequency and number of pixels of each calibration bin, (..., 15) each.

    The first two are NaN for an empty bin.
    """
    both = np.add.reduceat(counts, _FIRST_BIN, axis=-2)
    number = both.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / number, both[..., 1] / number, number


def calibration_error(counts: Floats, sums: Floats) -> Floats:
    """Return the expected calibration error (ECE), (...); NaN where no pixel is counted.

    ECE = sum over bins b of n_b / n |frequency_b - mean probability_b| (Guo et al., On calibration of modern neural
    networks, ICML 2017, arXiv:1706.04599, equation 3), with 15 bins of equal width.
    """
    probability, frequency, number = reliability_curve(counts, sums)
    gap = np.where(number > 0, np.abs(np.nan_to_num(probability) - np.nan_to_num(frequency)), 0)
    total = number.sum(axis=-1)
    found: Floats = np.where(total > 0, (gap * number).sum(axis=-1) / np.maximum(total, 1), np.nan)
    return found


def precision_recall_curve(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Return thresholds, precision and recall, (BINS,) each, from (BINS, 2).

    The thresholds are LOWER_EDGES; a pixel is positive if its probability is above the threshold. Precision is NaN
    where no pixel is positive, recall where no pixel has the class.
    """
    above = counts[::-1].cumsum(axis=0)[::-1]  # above a lower edge: this bin and all higher ones
    with np.errstate(invalid="ignore", divide="ignore"):
        return LOWER_EDGES, above[:, 1] / above.sum(axis=1), above[:, 1] / counts[:, 1].sum()


def dice_at(counts: Floats, threshold: float) -> float:
    """Return Dice at a threshold, from (BINS, 2); exact at a bin edge, otherwise that of the nearest edge."""
    return float(_dice(counts)[threshold_bin(threshold)])


def threshold_bin(threshold: float) -> int:
    """Return the index of the bin whose lower edge is nearest to a threshold."""
    return int(np.argmin(np.abs(LOWER_EDGES - threshold)))


def format_threshold(threshold: float) -> str:
    """Return a threshold with the fewest decimals, at least three, that keep its bin and lie between 0 and 1."""
    for digits in range(3, 10):
        text = f"{threshold:.{digits}f}"
        if 0 < float(text) < 1 and threshold_bin(float(text)) == threshold_bin(threshold):
            return text
    return repr(threshold)


def best_threshold(counts: Floats) -> tuple[float, float] | None:
    """Return the threshold, strictly between 0 and 1, that maximises Dice, and that Dice.

    Of a run of equally good thresholds the middle one is returned, the one furthest from worse ones.

    Args:
        counts: (BINS, 2), as `probability_histogram` returns them.

    Returns:
        Threshold and Dice; None if no pixel has the class.
    """
    if counts[:, 1].sum() == 0:
        return None
    dice = _dice(counts)[1:]
    best = np.flatnonzero(dice >= dice.max() - 1e-12)
    # Equally good thresholds need not be contiguous: take the first run of them.
    run = best[: int(np.argmax(np.append(np.diff(best) > 1, True))) + 1]
    chosen = int(run[len(run) // 2])
    return float(LOWER_EDGES[chosen + 1]), float(dice[chosen])


def _dice(counts: Floats) -> Floats:
    above = counts[::-1].cumsum(axis=0)[::-1]
    dice: Floats = 2 * above[:, 1] / np.maximum(above.sum(axis=1) + counts[:, 1].sum(), 1)
    return dice

"""Confusion matrices and the scores computed from them; rows are labelled classes, columns predicted classes.

All functions take any number of matrices at once, (..., K, K), so that all bootstrap replicates are one array.

A class is present if any counted pixel has it as its label or its prediction. The scores of an absent class are NaN and
are left out of means. For a present class, precision is 0 if it is never predicted and recall is 0 if it is never
labelled. `train.metrics` follows the same rules, so that a report and a run's summary agree.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def confusion_matrix(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], counted: NDArray[np.bool_], classes: int
) -> Floats:
    """Count the pixels of each pair of labelled and predicted class.

    Args:
        label: Class index of each pixel, any shape; any value where not counted.
        prediction: Predicted class index, same shape.
        counted: Same shape, False at pixels to ignore.
        classes: Number of classes K.

    Returns:
        (K, K) float64, exact up to 9e15 pixels.
    """
    cells = label[counted].astype(np.intp) * classes + prediction[counted]
    counts: Floats = np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    return counts


def class_scores(confusion: Floats) -> dict[str, Floats]:
    """Return IoU, Dice, precision and recall of each class.

    With true positives TP, labelled pixels L and predicted pixels P of a class: IoU = TP / (L + P - TP) (Jaccard, New
    Phytol. 11(2), 1912, doi:10.1111/j.1469-8137.1912.tb05611.x), Dice = F1 = 2 TP / (L + P) (Dice, Ecology 26(3), 1945,
    doi:10.2307/1932409), precision = TP / P, recall = TP / L.

    Args:
        confusion: (..., K, K).

    Returns:
        Arrays (..., K); NaN where a class is absent.
    """
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    labelled, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = labelled + predicted > 0
    return {
        "iou": _ratio(correct, labelled + predicted - correct, present),
        "dice": _ratio(2 * correct, labelled + predicted, present),
        "precision": _ratio(correct, predicted, present),
        "recall": _ratio(correct, labelled, present),
    }


def accuracy(confusion: Floats) -> Floats:
    """Return the share of correct pixels (overall accuracy), (...); NaN where no pixel is counted."""
    total = confusion.sum(axis=(-2, -1))
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), total, total > 0)


def kappa(confusion: Floats) -> Floats:
    """Return Cohen's kappa, (...): (p_o - p_e) / (1 - p_e), with observed and chance agreement p_o and p_e.

    Source: Cohen, Educ. Psychol. Meas. 20(1), 1960, doi:10.1177/001316446002000104. NaN where no pixel is counted, and
    where all labels and predictions are the same class (p_e = 1).
    """
    total = confusion.sum(axis=(-2, -1))
    labelled, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(confusion, axis1=-2, axis2=-1) / total
        chance = (labelled * predicted).sum(axis=-1) / total**2
        found: Floats = np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
    return found


def mean_of_present(values: Floats) -> Floats:
    """Return the mean over the last axis without NaN values; NaN where all values are NaN."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1), present.sum(axis=-1) > 0)


def _ratio(part: Floats, whole: NDArray[np.generic], defined: NDArray[np.bool_]) -> Floats:
    found: Floats = np.where(defined, part / np.maximum(whole, 1), np.nan)
    return found

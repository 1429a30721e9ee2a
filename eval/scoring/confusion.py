"""Scores of counted pixels: rows of the matrix are the truth, columns the prediction.

Everything works on any number of matrices at once, (..., K, K): bootstrap replicates are one array.

A class is present where any counted pixel has it as its label or its prediction. An absent class has no score: NaN, and
it is left out of means. Of a present class precision is 0 if it is never predicted, recall 0 if it is never true. These
are the rules of `train.metrics`, so that a report and a run's summary speak of the same thing.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PER_CLASS = ("iou", "dice", "precision", "recall")


def count(label: NDArray[np.uint8], prediction: NDArray[np.uint8], counted: NDArray[np.bool_], classes: int) -> Floats:
    """How many pixels have each pair of classes.

    Args:
        label: Class of each pixel; anything where not counted.
        prediction: Same shape.
        counted: Same shape, False where a pixel counts nowhere.
        classes: K.

    Returns:
        (K, K); whole numbers, exact in float64 up to 9e15 pixels.
    """
    cells = label[counted].astype(np.intp) * classes + prediction[counted]
    counts: Floats = np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    return counts


def class_scores(confusion: Floats) -> dict[str, Floats]:
    """IoU, Dice (F1), precision and recall of each class, (..., K) from (..., K, K); NaN where a class is absent."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = true + predicted > 0
    return {
        "iou": _share(right, true + predicted - right, present),
        "dice": _share(2 * right, true + predicted, present),
        "precision": _share(right, predicted, present),
        "recall": _share(right, true, present),
    }


def accuracy(confusion: Floats) -> Floats:
    """Right pixels over all counted ones, (...); NaN where none is counted."""
    total = confusion.sum(axis=(-2, -1))
    return _share(np.trace(confusion, axis1=-2, axis2=-1), total, total > 0)


def kappa(confusion: Floats) -> Floats:
    """Cohen's kappa, (...): agreement beyond chance (Cohen, Educ. Psychol. Meas. 20(1), 1960).

    NaN where nothing is counted, or where label and prediction are one and the same class throughout: then chance alone
    agrees everywhere.
    """
    total = confusion.sum(axis=(-2, -1))
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(confusion, axis1=-2, axis2=-1) / total
        chance = (true * predicted).sum(axis=-1) / total**2
        found: Floats = np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
    return found


def mean_of_present(values: Floats) -> Floats:
    """Mean over the last axis without what is NaN; NaN where all is."""
    present = ~np.isnan(values)
    return _share(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1), present.sum(axis=-1) > 0)


def _share(part: Floats, whole: NDArray[np.generic], present: NDArray[np.bool_]) -> Floats:
    found: Floats = np.where(present, part / np.maximum(whole, 1), np.nan)
    return found

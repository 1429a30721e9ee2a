"""How well outlines agree, counted so that the parts of an image add up to the whole.

*Boundary IoU* (Cheng et al., CVPR 2021, arXiv:2103.16562) compares the bands of d pixels along the inside of both
outlines: what a mask loses when a 3x3 square erodes it d times. *Boundary F1* (Csurka et al., BMVC 2013) asks which
share of the predicted outline lies within d pixels (Euclidean) of the true one, and the other way round; an outline is
a mask's band of one pixel.

The edge of an image is no outline, and neither is the border of what is ignored: there nobody knows where the mask goes
on. (Cheng's own code takes an image's edge for an outline, which flatters a map cut into chips: those parts always
agree.)
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.scoring.confusion import Floats

INTERSECTION, UNION, MATCHED_PREDICTED, PREDICTED, MATCHED_TRUE, TRUE = range(6)
COUNTS = 6
_ROUNDING = 1e-4  # of OpenCV's distances, float32


def halo(distance: float) -> int:
    """Rows beyond a part of an image that decide about its own pixels."""
    return math.ceil(max(distance, _width(distance))) + 1


def count_boundary(
    label: NDArray[np.bool_], prediction: NDArray[np.bool_], counted: NDArray[np.bool_], distance: float, rows: slice
) -> Floats:
    """Counts for one class.

    Args:
        label: (H, W), where the class is.
        prediction: (H, W), where it is predicted.
        counted: (H, W), False where a pixel counts nowhere.
        distance: d, pixels; for boundary IoU rounded, and at least 1.
        rows: What to count of it; the others, `halo(distance)` or as many as the image has, are looked at only.

    Returns:
        (6,): intersection and union of the bands; matched and all pixels of the predicted and of the true outline.
    """
    counts = np.zeros(COUNTS)
    if not ((label | prediction) & counted).any():
        return counts
    # What is ignored passes for the class itself, so that its border is no outline.
    masks = [(mask | ~counted).astype(np.uint8) for mask in (label, prediction)]
    true, predicted = (_band(mask, _width(distance)) & counted for mask in masks)
    counts[INTERSECTION] = np.count_nonzero((true & predicted)[rows])
    counts[UNION] = np.count_nonzero((true | predicted)[rows])
    true, predicted = (_band(mask, 1) & counted for mask in masks)
    counts[PREDICTED], counts[TRUE] = np.count_nonzero(predicted[rows]), np.count_nonzero(true[rows])
    counts[MATCHED_PREDICTED] = np.count_nonzero((predicted & _near(true, distance))[rows])
    counts[MATCHED_TRUE] = np.count_nonzero((true & _near(predicted, distance))[rows])
    return counts


def boundary_iou(counts: Floats) -> Floats:
    """Boundary IoU, (...) from (..., 6); NaN where neither mask has an outline."""
    with np.errstate(invalid="ignore"):
        found: Floats = counts[..., INTERSECTION] / counts[..., UNION]
    return found


def boundary_f1(counts: Floats) -> Floats:
    """Boundary F1, (...) from (..., 6): 0 where one of the masks has no outline, NaN where neither has."""
    true, predicted = counts[..., TRUE], counts[..., PREDICTED]
    precision = counts[..., MATCHED_PREDICTED] / np.maximum(predicted, 1)
    recall = counts[..., MATCHED_TRUE] / np.maximum(true, 1)
    both = precision + recall
    f1 = 2 * precision * recall / np.where(both > 0, both, 1)
    found: Floats = np.where(true + predicted > 0, f1, np.nan)
    return found


def _width(distance: float) -> int:
    return max(1, round(distance))


def _band(mask: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """What eroding a mask `width` times takes away; beyond the edge all counts as mask (OpenCV's default)."""
    # One erosion by a square of 2 w + 1 is w erosions by a square of 3.
    eroded = cv2.erode(mask, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    band: NDArray[np.bool_] = mask != eroded
    return band


def _near(outline: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Where an outline is at most `distance` pixels away."""
    if not outline.any():
        return np.zeros_like(outline)
    far = cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = far <= distance + _ROUNDING
    return near

"""Boundary IoU and boundary F1 from counts that are additive over parts of an image.

*Boundary IoU* (Cheng et al., Boundary IoU, CVPR 2021, arXiv:2103.16562) is the IoU of two bands: the pixels within d of
the outline on the inside of each mask, that is, those which d erosions with a 3x3 square remove. *Boundary F1* (Csurka
et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013, doi:10.5244/C.27.32) is the harmonic
mean of the share of the predicted outline within d pixels (Euclidean) of the true outline and the share of the true
outline within d pixels of the predicted one. An outline is the band of width 1.

Neither the edge of an image nor the border of an ignored area is an outline, because it is unknown how the mask
continues there. The authors' code for boundary IoU treats the image edge as an outline; that raises the score of maps
cut into chips, whose edges always agree.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.scoring.confusion import Floats

INTERSECTION, UNION, MATCHED_PREDICTED, PREDICTED, MATCHED_TRUE, TRUE = range(6)
"""Positions of the counts in an array (..., 6)."""
COUNTS = 6
_ROUNDING = 1e-4  # tolerance for OpenCV's float32 distances
_LARGEST_DISC = 10  # radius in pixels up to which a dilation is faster than distances


def halo(distance: float) -> int:
    """Return the number of rows above and below a strip that affect the counts of its pixels."""
    return math.ceil(max(distance, _band_width(distance))) + 1


def count_boundary(
    label: NDArray[np.bool_], prediction: NDArray[np.bool_], counted: NDArray[np.bool_], distance: float, rows: slice
) -> Floats:
    """Count band and outline pixels of one class.

    Args:
        label: (H, W), True where the class is labelled.
        prediction: (H, W), True where the class is predicted.
        counted: (H, W), False at pixels to ignore.
        distance: d in pixels; for boundary IoU it is rounded to an integer of at least 1.
        rows: Rows to count. The other rows, `halo(distance)` on each side or fewer at the image edge, give context.

    Returns:
        (6,) float64: intersection and union of the two bands, matched and total pixels of the predicted outline,
        matched and total pixels of the true outline.
    """
    counts = np.zeros(COUNTS)
    if not ((label | prediction) & counted).any():
        return counts
    # Ignored pixels join the mask, so that the border of an ignored area is no outline.
    masks = [(mask | ~counted).astype(np.uint8) for mask in (label, prediction)]
    true, predicted = (_band(mask, _band_width(distance)) & counted for mask in masks)
    counts[INTERSECTION] = np.count_nonzero((true & predicted)[rows])
    counts[UNION] = np.count_nonzero((true | predicted)[rows])
    true, predicted = (_band(mask, 1) & counted for mask in masks)
    counts[PREDICTED], counts[TRUE] = np.count_nonzero(predicted[rows]), np.count_nonzero(true[rows])
    counts[MATCHED_PREDICTED] = np.count_nonzero((predicted & _within(true, distance))[rows])
    counts[MATCHED_TRUE] = np.count_nonzero((true & _within(predicted, distance))[rows])
    return counts


def boundary_iou(counts: Floats) -> Floats:
    """Return boundary IoU (Cheng et al. 2021), (...) from counts (..., 6); NaN where neither mask has an outline."""
    with np.errstate(invalid="ignore"):
        found: Floats = counts[..., INTERSECTION] / counts[..., UNION]
    return found


def boundary_f1(counts: Floats) -> Floats:
    """Return boundary F1 (Csurka et al. 2013), (...) from counts (..., 6).

    It is 0 where only one of the masks has an outline, and NaN where neither has.
    """
    true, predicted = counts[..., TRUE], counts[..., PREDICTED]
    precision = counts[..., MATCHED_PREDICTED] / np.maximum(predicted, 1)
    recall = counts[..., MATCHED_TRUE] / np.maximum(true, 1)
    both = precision + recall
    f1 = 2 * precision * recall / np.where(both > 0, both, 1)
    found: Floats = np.where(true + predicted > 0, f1, np.nan)
    return found


def _band_width(distance: float) -> int:
    return max(1, round(distance))


def _band(mask: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Return the pixels that `width` erosions remove; outside the image counts as mask (OpenCV's default)."""
    # One erosion with a square of side 2 w + 1 equals w erosions with a square of side 3.
    eroded = cv2.erode(mask, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    band: NDArray[np.bool_] = mask != eroded
    return band


def _within(outline: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Return the pixels at most `distance` from an outline."""
    if not outline.any():
        return np.zeros_like(outline)
    if distance <= _LARGEST_DISC:
        grown: NDArray[np.bool_] = cv2.dilate(outline.view(np.uint8), _disc(distance)).view(np.bool_)
        return grown
    far = cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = far <= distance + _ROUNDING
    return near


def _disc(distance: float) -> NDArray[np.uint8]:
    """Return the offsets of at most `distance`, (2 r + 1, 2 r + 1) uint8, 1 where an offset is one of them."""
    radius = math.floor(distance + _ROUNDING)
    squares = np.arange(-radius, radius + 1) ** 2
    return (squares[:, None] + squares <= (distance + _ROUNDING) ** 2).astype(np.uint8)

"""Boundary scores, against SciPy's morphology and closed forms."""

import numpy as np
import pytest
from scipy import ndimage

from eval.scoring import boundary

from .maps import blobs


def test_boundary_iou_is_chengs() -> None:
    """His definition with his erosion, restated with SciPy; edge and ignored pixels are no outlines."""
    rng = np.random.default_rng(1)
    label, prediction = blobs(rng, (80, 90)) > 0, blobs(rng, (80, 90)) > 0
    prediction[:40] = label[:40]
    counted = np.ones(label.shape, bool)
    counted[30:50, 20:40] = False
    for d in (1, 3):
        bands = []
        for mask in (label | ~counted, prediction | ~counted):
            eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=1)
            bands.append(mask & ~eroded & counted)
        counts = boundary.count_boundary(label, prediction, counted, d, np.s_[:])
        assert counts[0] == (bands[0] & bands[1]).sum() > 0
        assert counts[1] == (bands[0] | bands[1]).sum()


@pytest.mark.parametrize("d", [1, 1.5, 3, 5**0.5, 10, 10.5])  # up to 10 px by dilation, then by distances
def test_boundary_f1_by_distances(d: float) -> None:
    rng = np.random.default_rng(2)
    label, prediction = blobs(rng, (70, 60)) > 0, blobs(rng, (70, 60)) > 0
    outlines = [m & ~ndimage.binary_erosion(m, np.ones((3, 3)), border_value=1) for m in (label, prediction)]
    far = [ndimage.distance_transform_edt(~outline) for outline in outlines]
    precision = (far[0][outlines[1]] <= d).mean()
    recall = (far[1][outlines[0]] <= d).mean()
    counts = boundary.count_boundary(label, prediction, np.ones(label.shape, bool), d, np.s_[:])
    assert boundary.boundary_f1(counts) == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_shift_by_one_pixel_changes_boundary_scores_as_the_closed_form_says(d: int) -> None:
    """A straight edge, moved by one pixel: of two bands of d rows, d - 1 are common and d + 1 are covered."""
    label = np.zeros((64, 50), np.uint8)
    label[30:] = 1
    shifted = np.roll(label, 1, axis=0)
    shifted[0] = 0
    counts = boundary.count_boundary(label > 0, shifted > 0, np.ones(label.shape, bool), d, np.s_[:])
    assert boundary.boundary_iou(counts) == pytest.approx((d - 1) / (d + 1))
    assert boundary.boundary_f1(counts) == 1
    near = boundary.count_boundary(label > 0, shifted > 0, np.ones(label.shape, bool), 0.9, np.s_[:])
    assert boundary.boundary_f1(near) == 0


def test_a_shifted_square() -> None:
    """Frames of width d of a square of side a: 4 d (a - d) pixels each, and what they share counts on paper."""
    a, d = 20, 3
    label = np.zeros((60, 60), bool)
    label[20 : 20 + a, 20 : 20 + a] = True
    shifted = np.roll(label, 1, axis=1)
    each = 4 * d * (a - d)
    # Of the upper and the lower band a - 1 columns are common; of those beside, over a - 2 d rows, d - 1 columns.
    common = 2 * d * (a - 1) + 2 * (d - 1) * (a - 2 * d)
    counts = boundary.count_boundary(label, shifted, np.ones(label.shape, bool), d, np.s_[:])
    assert boundary.boundary_iou(counts) == pytest.approx(common / (2 * each - common))

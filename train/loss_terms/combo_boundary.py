"""Boundary loss, beside a region loss."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.configs.fields import LossOptions, NonNegative
from train.loss_terms.base import SegmentationLoss, SumOfLosses, divide
from train.loss_terms.overlap import DiceLoss


class ComboBoundaryLoss(SumOfLosses):
    """Dice loss + alpha · boundary loss (Kervadec et al. 2019, arXiv:1812.07032, doi:10.1016/j.media.2020.101851).

    The boundary loss is the mean over the valid pixels q of φ_G(q) p(q), with p the probability of the class and φ_G
    the signed Euclidean distance, in pixels, from the outline of the true region G of the class: see
    `signed_distance`. It weighs a wrong pixel by its distance from the outline, and is negative for a right prediction.
    Binary: of the target alone; multiclass: mean of all classes.

    Args:
        alpha: Weight of the boundary loss beside Dice's 1. The paper begins with the default of 0.01.
        dice_kwargs: Options of its Dice.
    """

    def __init__(self, *, alpha: NonNegative = 0.01, dice_kwargs: LossOptions | None = None, **common: Any) -> None:
        options: Mapping[str, Any] = {**(dice_kwargs or {}), **common}
        super().__init__([DiceLoss(**options), _Boundary(**common)], [1.0, alpha])


class _Boundary(SegmentationLoss):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            logits, onehot = self._prepared(logits, target)
            classes = slice(1, None) if self.binary else slice(None)
            # The labels come to the CPU for this, which waits for the device.
            masks = onehot.bool().view(*onehot.shape[:2], *target.shape[1:]).cpu().numpy()
            distance = torch.from_numpy(np.stack([signed_distance(image)[classes] for image in masks]))
            distance = distance.flatten(2).to(logits)
            valid = onehot.sum((1, 2)).sum()
            return divide((distance * logits.softmax(dim=1)[:, classes]).mean(1).sum(), valid)


def signed_distance(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the signed Euclidean distance from the outline of each class, as the paper's authors compute it.

    Outside a class it is the distance to the nearest pixel of the class (1 next to it); inside, the negative distance
    to the nearest valid pixel of another class, plus 1 (0 at the outline). A pixel without a class is ignored: its
    distance is 0, and it makes no outline, so that distances are measured across it. A class that is absent, or that
    fills the image, has no outline: its distance is 0 everywhere.

    Args:
        masks: Labels one-hot, (K, H, W), all False at ignored pixels.

    Returns:
        Distances in pixels, (K, H, W).
    """
    valid = masks.any(0)
    distance = np.zeros(masks.shape, np.float32)
    for inside, result in zip(masks, distance, strict=True):
        outside = valid & ~inside
        if inside.any() and outside.any():
            result[outside] = _distance_to(inside)[outside]
            result[inside] = 1 - _distance_to(outside)[inside]
    return distance


def _distance_to(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of each pixel to the nearest one of a mask, exact (Felzenszwalb & Huttenlocher 2012)."""
    found = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(found, np.float32)

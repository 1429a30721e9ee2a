"""Lovász hinge and Lovász-Softmax."""

from typing import Any, Literal

import torch
from torch import Tensor

from train.configs.fields import ClassIndices
from train.loss_terms.base import SegmentationLoss, divide, row


class LovaszLoss(SegmentationLoss):
    """Lovász hinge (binary) and Lovász-Softmax (multiclass) (Berman et al. 2018, arXiv:1705.08790).

    Δ(wrong pixels) = 1 - IoU, extended to pixels that are wrong by m: L = Σ_i m_i (Δ({1..i}) - Δ({1..i-1})), largest m
    first. Multiclass: m = |g_c - p_c|, averaged over classes; 1 - IoU itself for hard predictions. Binary:
    m = max(0, 1 - z (2g - 1)), a hinge on the logit: never below 1 - IoU, not bounded above.

    Args:
        per_image: One loss an image, then their mean, in place of one for the batch. Images without a valid pixel are
            left out of the mean.
        classes: Classes that enter the mean (multiclass): present, all, or a list. Of a list too, only classes with
            true pixels in the batch (image) enter; all includes absent ones. A binary target always counts.
    """

    aliases = ("Lovász",)
    of_several_classes = ("classes",)

    def __init__(
        self,
        *,
        per_image: bool = False,
        classes: ClassIndices | Literal["present", "all"] = "present",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        labels = None if isinstance(classes, str) else classes
        self._require(classes in ("present", "all", labels), "classes must be 'present', 'all' or a list")
        self.per_image, self.present_only = per_image, not self.binary and classes != "all"
        self.weights = self._class_mean(labels)

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        valid, weights = onehot.sum(1, keepdim=True), row(self.weights, logits)
        if self.binary:
            onehot, weights = onehot[:, 1:], weights[1:]
            errors = (1 - (logits[:, 1:] - logits[:, :1]) * (2 * onehot - 1)).relu()
        else:
            errors = (onehot - logits.softmax(dim=1)).abs()
        if not self.per_image:  # to (1, K, N·P)
            errors, onehot, valid = (t.transpose(0, 1).flatten(1).unsqueeze(0) for t in (errors, onehot, valid))
        # Ignored pixels go last: no step before depends on them, and by then the intersection is 0, so theirs are 0.
        errors, order = errors.masked_fill(valid == 0, -1.0).sort(dim=-1, descending=True, stable=True)
        losses = (errors * _jaccard_steps(onehot.gather(-1, order))).sum(-1)  # (N or 1, K)
        weights = weights * (onehot if self.present_only else valid).amax(-1)
        images, counted = divide((weights * losses).sum(1), weights.sum(1)), weights.amax(1)
        return divide((counted * images).sum(), counted.sum())


def _jaccard_steps(onehot: Tensor) -> Tensor:
    """Return by how much each pixel (..., P) raises 1 - IoU when the pixels go wrong in this order.

    1/U for a true pixel missed, I/(U(U - 1)) for a false one claimed, by intersection I and union U after it: the usual
    differences of ratios near 1 drown in float32 from about 10^6 pixels on.
    """
    true = onehot > 0  # cumulated as integers: CUDA may refuse floats in deterministic mode
    total, missed = true.sum(-1, keepdim=True), true.cumsum(-1, dtype=torch.int32)
    rank = torch.arange(1, true.shape[-1] + 1, device=true.device)
    intersection, union = (total - missed).to(onehot.dtype), (total + rank - missed).to(onehot.dtype)
    claimed = intersection / union / (union - 1).clamp_min(1)
    # Only without true pixels does a claim make the union 1: there the loss steps from 0 to 1 at once.
    return torch.where(true, 1 / union, torch.where(union == 1, 1.0, claimed))

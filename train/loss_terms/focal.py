"""Focal loss."""

from typing import Any, Literal

import torch
from torch import Tensor

from train.configs.fields import Fraction, NonNegative, NonZeroFraction, PerClass
from train.loss_terms.base import SegmentationLoss, divide, row


class FocalLoss(SegmentationLoss):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002).

    Mean of -α_t (1 - p_t)^γ log p_t over the valid pixels, with p_t the probability of a pixel's true class; multiclass
    by one softmax.

    Args:
        alpha: Weight of the target class (multiclass: of all but class 0), class 0 having 1 - alpha; or a list of all
            classes' weights (α_t).
        gamma: Exponent that turns attention to pixels that are hard (γ); 0 is cross-entropy.
        reduction: Mean or sum over the valid pixels.
        normalized: Divide by the sum of the focal weights. Σ (1 - p_t)^γ is held constant, whatever the reduction
            (Sofiiuk et al. 2019, arXiv:1909.07829): easy pixels lose weight to hard ones, the total stays.
        reduced_threshold: Below this probability of the true class (th) a pixel keeps its full weight. Elsewhere the
            weight is ((1 - p_t) / th)^γ (reduced focal loss, Sergievskiy & Ponamarev 2019, arXiv:1903.01347).
    """

    def __init__(
        self,
        *,
        alpha: Fraction | PerClass | None = None,
        gamma: NonNegative = 2.0,
        reduction: Literal["mean", "sum"] = "mean",
        normalized: bool = False,
        reduced_threshold: NonZeroFraction | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._require(reduction in ("mean", "sum"), f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if isinstance(alpha, int | float):
            alpha = [1 - alpha] + [alpha] * (self.num_labels - 1)
        self.alpha, self.gamma = self._per_class("alpha", alpha), gamma
        self.reduction, self.normalized, self.reduced_threshold = reduction, normalized, reduced_threshold

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        log_p, valid = logits.log_softmax(dim=1), onehot.sum(1)
        log_pt = (log_p * onehot).sum(1)  # (N, P), 0 at ignored pixels
        # 1 - p_t as the sum of the other classes, in logarithms: its powers keep a finite slope where p_t rounds to 1.
        log_rest = log_p.masked_fill(onehot > 0, -torch.inf).logsumexp(dim=1)
        factor = (self.gamma * log_rest).exp()
        if self.reduced_threshold is not None:
            easy = factor / self.reduced_threshold**self.gamma
            factor = torch.where(log_pt.exp() < self.reduced_threshold, 1.0, easy)
        alpha = (row(self.alpha, log_p).view(1, -1, 1) * onehot).sum(1)
        loss = -(alpha * factor * log_pt).sum()
        if self.reduction == "sum" and not self.normalized:
            return loss
        return divide(loss, (factor.detach() * valid if self.normalized else valid).sum())

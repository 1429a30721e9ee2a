"""Matthews correlation loss."""

from typing import Any

from torch import Tensor

from train.configs.fields import PositiveNumber
from train.loss_terms.base import SegmentationLoss, soft_counts


class MCCLoss(SegmentationLoss):
    """1 - Matthews correlation coefficient of soft counts (Abhishek & Hamarneh 2021, arXiv:2010.13454).

    The coefficient is Σ(TP TN - FP FN) / √(Σ(TP + FP)(TN + FN) · Σ(TP + FN)(TN + FP)), summed over classes, each
    against the rest: the R_K of Gorodkin 2004 (doi:10.1016/j.compbiolchem.2004.09.006) for K > 2.

    Args:
        eps: Pixels that each count starts with. They give a batch of one class, where the ratio is 0/0, a gradient
            against false positives.
    """

    def __init__(self, *, eps: PositiveNumber = 1.0, **common: Any) -> None:
        super().__init__(**common)
        self._require(eps > 0, f"eps must be above 0, got {eps}")
        self.eps = eps

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        tp, fp, fn, tn = (count + self.eps for count in soft_counts(logits, onehot))
        predicted, true = ((tp + fp) * (tn + fn)).sum(), ((tp + fn) * (tn + fp)).sum()
        correlation = (tp * tn - fp * fn).sum() / (predicted.sqrt() * true.sqrt())
        return (1 - correlation) * onehot.amax()

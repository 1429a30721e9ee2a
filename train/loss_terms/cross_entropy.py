"""Cross-entropy, multiclass and binary."""

from typing import Any

from torch import Tensor

from train.configs.fields import BelowOne, ClassWeights, PositiveNumber
from train.loss_terms.base import SegmentationLoss, divide, row


class CELoss(SegmentationLoss):
    """Cross-entropy as in PyTorch, with label smoothing (Szegedy et al. 2016, arXiv:1512.00567).

    L = Σ_i Σ_c -w_c q_c log p_c / Σ_i w_t, with labels q_c = (1 - ε) g_c + ε/K. Binary is K = 2: labels ε/2 and
    1 - ε/2, weights of background and target.

    Args:
        label_smoothing: Share of the label that is spread over all classes (ε).
        class_weights: A weight for each class (w_c; binary: background and target), or auto: pixels / (classes x pixels
            of the class) in the train split.
    """

    aliases: tuple[str, ...] = ("CrossEntropy",)

    def __init__(
        self, *, label_smoothing: BelowOne = 0.0, class_weights: ClassWeights | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        self._require(0 <= label_smoothing < 1, f"label_smoothing must be from 0 to below 1, got {label_smoothing}")
        self.label_smoothing, self.weights = label_smoothing, self._per_class("class_weights", class_weights)
        self.factors = [1.0] * self.num_labels

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        weights, factors = row(self.weights, logits), row(self.factors, logits)
        labels = (1 - self.label_smoothing) * onehot + self.label_smoothing / self.num_labels * onehot.sum(1, True)
        terms = -weights * factors * (labels * logits.log_softmax(dim=1)).sum((0, 2))
        return divide(terms.sum(), (weights * onehot.sum((0, 2))).sum())


class BCELoss(CELoss):
    """Binary cross-entropy.

    :class:`CELoss` and its ``options`` for one channel, with PyTorch's ``pos_weight``.

    Args:
        pos_weight: Weight of target pixels. It multiplies the target's term, and isn't divided out again by its mean
            over the pixels as class weights are.
    """

    aliases = ("BinaryCrossEntropy", "BCEWithLogits")
    only = "binary"
    instead = "CELoss"

    def __init__(self, *, pos_weight: PositiveNumber = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self._require(self.binary, f"num_classes must be 1, got {self.num_channels}; CELoss takes several classes")
        self.factors = [1.0, pos_weight]

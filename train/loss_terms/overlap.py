"""Overlap losses: Dice, Jaccard, Tversky and focal Tversky."""

from typing import Any

from torch import Tensor

from train.configs.fields import ClassIndices, ClassWeights, Fraction, NonNegative, PositiveNumber
from train.loss_terms.base import SegmentationLoss, divide, row, soft_counts


class DiceLoss(SegmentationLoss):
    """Soft Dice loss (Milletari et al. 2016, arXiv:1606.04797).

    The form of all overlap losses is
    L = Σ_c w_c (1 - S_c)^γ / Σ_c w_c with S_c = (TP_c + s) / (TP_c + α FP_c + β FN_c + s), from soft counts over all
    valid pixels of the batch; binary: of the target class alone. Here α = β = 1/2 and γ = 1.

    Args:
        smooth: Added to numerator and denominator of an overlap (s), in pixels. With the default of 1 the loss of a
            class that the batch lacks falls to 0 as its false positives vanish. With 0 it would be the constant 1, so
            the mean leaves such a class out then.
        eps: Keeps a denominator off zero. Also the least S_c under ``log_loss``.
        log_loss: -log(overlap) in place of 1 - overlap.
        classes: Only these classes enter the mean (multiclass).
        class_weights: A weight for each class (w_c), or auto: pixels / (classes x pixels of the class) in the train
            split. Overlap losses: multiclass only.
    """

    alpha, beta, gamma = 0.5, 0.5, 1.0
    of_several_classes = ("classes", "class_weights")

    def __init__(
        self,
        *,
        smooth: NonNegative = 1.0,
        eps: PositiveNumber = 1e-7,
        log_loss: bool = False,
        classes: ClassIndices | None = None,
        class_weights: ClassWeights | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.smooth, self.eps, self.log_loss = smooth, eps, log_loss
        self.weights = self._class_mean(classes, class_weights)

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        tp, fp, fn, _ = soft_counts(logits, onehot)
        error = self.alpha * fp + self.beta * fn
        total = (tp + error + self.smooth).clamp_min(self.eps)
        loss = -((tp + self.smooth) / total).clamp_min(self.eps).log() if self.log_loss else error / total
        if self.gamma != 1:
            loss = loss.clamp_min(self.eps) ** self.gamma * (loss > self.eps)  # below 1 the slope at 0 is infinite
        weights = row(self.weights, loss) * (onehot.amax((0, 2)) if self.smooth == 0 else 1.0)
        return divide((weights * loss).sum(), weights.sum())


class JaccardLoss(DiceLoss):
    """Soft Jaccard (IoU) loss (Rahman & Wang 2016, doi:10.1007/978-3-319-50835-1_22).

    The form of :class:`DiceLoss` with α = β = 1.
    """

    aliases = ("IoU",)
    alpha, beta = 1.0, 1.0


class TverskyLoss(DiceLoss):
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721).

    The form of :class:`DiceLoss`, and its ``options``, for any α, β and γ.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        gamma: Exponent of 1 - overlap; above 1 it turns attention to classes that are hard.
    """

    def __init__(
        self, *, alpha: NonNegative = 0.5, beta: NonNegative = 0.5, gamma: NonNegative = 1.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma


class FocalTverskyLoss(TverskyLoss):
    """Focal Tversky loss (Abraham & Khan 2019, arXiv:1810.07842).

    :class:`TverskyLoss` with α = 1 - δ and β = δ, in the notation of Yeung et al. (arXiv:2102.04525).

    Args:
        delta: Weight of false negatives; false positives weigh 1 - delta.
        gamma: Exponent of 1 - overlap; below 1 it raises the gradient of classes that are nearly right. The default of
            0.75 is the 1/γ of Abraham & Khan at their γ = 4/3.
    """

    def __init__(self, *, delta: Fraction = 0.7, gamma: NonNegative = 0.75, **options: Any) -> None:
        super().__init__(alpha=1 - delta, beta=delta, gamma=gamma, **options)

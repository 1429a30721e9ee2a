"""Sum of focal and Dice loss."""

from typing import Any

from train.configs.fields import Fraction, LossOptions
from train.loss_terms.base import SumOfLosses
from train.loss_terms.focal import FocalLoss
from train.loss_terms.overlap import DiceLoss


class FocalDiceComboLoss(SumOfLosses):
    """Sum of focal and Dice loss.

    Args:
        focal_kwargs: Options of its Focal.
        dice_kwargs: Options of its Dice.
        alpha: Share of Focal, Dice having 1 - alpha. Without it both have the weight 1.
    """

    def __init__(
        self,
        *,
        focal_kwargs: LossOptions | None = None,
        dice_kwargs: LossOptions | None = None,
        alpha: Fraction | None = None,
        **common: Any,
    ) -> None:
        losses = FocalLoss(**{**(focal_kwargs or {}), **common}), DiceLoss(**{**(dice_kwargs or {}), **common})
        super().__init__(losses, (1.0, 1.0) if alpha is None else (alpha, 1 - alpha))

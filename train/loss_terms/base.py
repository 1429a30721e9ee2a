"""Base class of the losses and what they share.

Logits are ``(N, C, H, W)``, labels ``(N, H, W)``, the loss is a scalar. One channel is binary (sigmoid; labels 0, 1),
more are one class each (softmax; labels 0..C-1). A sigmoid of z is the softmax of the pair (0, z), so each loss is
written once, over K classes with probabilities p and one-hot labels g, and binary is K = 2. For all of them:

* Ignored pixels count nowhere: not in a sum, nor in the divider of a mean, nor in the smoothing. Their gradient is
  exactly 0, even where their logits are infinite or NaN. A batch without a valid pixel gives 0, with a gradient of 0.
* The arithmetic is float32 (float64 for float64 logits) under any autocast: sums over pixels overflow float16.
* Nothing waits for the device (so a label that is no class isn't found out) and nothing in it is non-deterministic.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from train.configs.fields import ClassIndices, ClassWeights, FromLogits, Label, Task


class SegmentationLoss(nn.Module):
    """Base class of a loss: checks, blanking of ignored pixels, precision, and the options common to all losses.

    Class attributes:
        aliases: Further names in a config, beside the class's own with or without ``Loss``; case doesn't matter.
        only: ``"binary"`` or ``"multiclass"`` where the loss is for one task only; the config check refuses the other.
        instead: Loss to take instead of one that is refused.
        of_several_classes: Options that have a meaning with several classes only.

    Args:
        num_classes: Channels of the logits.
        ignore_index: That of segmentation_config; may be repeated here. Not a class.
        mode: Follows from num_classes; may be repeated here.
        from_logits: Our networks end in logits: only true is right.

    Raises:
        ValueError: Options that contradict each other or ``num_classes``.
    """

    aliases: tuple[str, ...] = ()
    only: Task | None = None
    instead: str = ""
    of_several_classes: tuple[str, ...] = ()

    def __init__(
        self, *, num_classes: int, ignore_index: Label, mode: Task | None = None, from_logits: FromLogits = True
    ) -> None:
        super().__init__()
        self.num_channels, self.ignore_index = num_classes, ignore_index
        self.binary, self.num_labels = num_classes == 1, max(num_classes, 2)
        expected = "binary" if self.binary else "multiclass"
        self._require(mode in (None, expected), f"mode is {mode!r}, but num_classes = {num_classes} means {expected!r}")
        self._require(from_logits is True, "from_logits must be true: the networks give logits, not probabilities")
        self._require(ignore_index not in range(self.num_labels), f"ignore_index {ignore_index} is also a class")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``logits`` (N, C, H, W), any float dtype, against integer labels ``target`` (N, H, W)."""
        with torch.autocast(logits.device.type, enabled=False):
            return self._loss(*self._prepared(logits, target))

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        # Both (N, K, P) over P = H·W pixels, and 0 in every class at ignored ones: onehot.sum(1) tells which are valid.
        raise NotImplementedError

    def _prepared(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and one-hot labels as `_loss` takes them, for the arguments of `forward`."""
        fits = target.ndim == 3 and logits.shape == (len(target), self.num_channels, *target.shape[1:])
        shapes = f"logits {tuple(logits.shape)} and labels {tuple(target.shape)}"
        self._require(fits, f"{shapes} are not (N, {self.num_channels}, H, W) and (N, H, W)")
        labels = target.long().flatten(1).unsqueeze(1)  # int64 first: in uint8, 156 equals an index of -100
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(2)
        logits = logits.masked_fill(labels == self.ignore_index, 0.0)  # a product with 0 would let NaN through
        if self.binary:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        classes = torch.arange(self.num_labels, device=target.device).view(1, -1, 1)
        return logits, (labels == classes).to(logits.dtype)

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def _per_class(self, option: str, values: Sequence[float] | Literal["auto"] | None) -> list[float]:
        if isinstance(values, str):
            raise ValueError(f"{type(self).__name__}: {option}: {values} has to be replaced by numbers beforehand")
        values = [1.0] * self.num_labels if values is None else list(values)
        self._require(len(values) == self.num_labels, f"{option} needs {self.num_labels} numbers, one a class")
        return values

    def _class_mean(self, classes: ClassIndices | None, class_weights: ClassWeights | None = None) -> list[float]:
        labels = set(range(self.num_labels))
        chosen = {1} if self.binary else labels if classes is None else set(classes)
        self._require(not self.binary or classes is class_weights is None, "classes, class_weights: multiclass only")
        self._require(set() < chosen <= labels, f"classes must be some of 0..{self.num_labels - 1}, got {classes}")
        return [w * (label in chosen) for label, w in enumerate(self._per_class("class_weights", class_weights))]


def soft_counts(logits: Tensor, onehot: Tensor) -> list[Tensor]:
    """Return TP, FP, FN and TN of each class, (K,), in pixels: four sums, as differences cancel where one is rare."""
    hit = logits.softmax(dim=1)
    miss, others = 1 - hit, onehot.sum(1, keepdim=True) - onehot
    return [product.sum((0, 2)) for product in (hit * onehot, hit * others, miss * onehot, miss * others)]


def row(values: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers as a tensor (K,) of the device and dtype of another, without waiting for the device."""
    return torch.cat([like.new_full((1,), value) for value in values])  # a copy from the host would wait


def divide(numerator: Tensor, weight: Tensor) -> Tensor:
    """Divide a sum by its weight, where there is any."""
    # A mean of nothing is its numerator, 0. By 1: the slope 1/tiny times a gradient scale would be infinite.
    return numerator / torch.where(weight > 0, weight, 1.0)


class SumOfLosses(nn.Module):
    """Weighted sum of losses of the same logits ``(N, C, H, W)`` and labels ``(N, H, W)``."""

    aliases: tuple[str, ...] = ()

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleList(losses), tuple(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum, a scalar."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # once, so that gradients add in float32
        return torch.stack([w * loss(logits, target) for w, loss in zip(self.weights, self.losses, strict=True)]).sum()

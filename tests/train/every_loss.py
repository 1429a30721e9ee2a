"""Losses with the options that change their shape, and what to try them on.

A loss with a test file of its own in `tests/train/loss_terms/` has its cases there: a list CASES of `Case`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from train.losses import build_loss

IGNORE = 255


@dataclass(frozen=True)
class Case:
    """A loss to try every property on.

    Attributes:
        name: Name of the loss.
        opts: Its options.
        num_classes: Channels to try it with.
        exempt: Properties that it can't have, each with the reason: "order" (a mean over a list of pixels), "zero" (0
            for what is right), "host" (computed on the device alone).
    """

    name: str
    opts: dict[str, Any] = field(default_factory=dict)
    num_classes: tuple[int, ...] = (1, 3)
    exempt: dict[str, str] = field(default_factory=dict)


# None of them is left out of a property without a reason.
SHARED: list[tuple[str, dict[str, Any]]] = [
    ("DiceLoss", {}),
    ("DiceLoss", {"smooth": 0.0}),
    ("DiceLoss", {"log_loss": True}),
    ("JaccardLoss", {}),
    ("TverskyLoss", {"alpha": 0.3, "beta": 0.7, "gamma": 1.5}),
    ("FocalTverskyLoss", {}),
    ("LovaszLoss", {}),
    ("LovaszLoss", {"per_image": True}),
    ("FocalLoss", {}),
    ("FocalLoss", {"alpha": 0.25, "gamma": 0.5}),
    ("FocalLoss", {"normalized": True}),
    ("FocalLoss", {"reduced_threshold": 0.5}),
    ("FocalLoss", {"reduction": "sum"}),
    ("CELoss", {"label_smoothing": 0.1}),
    ("MCCLoss", {}),
    ("FocalDiceComboLoss", {"alpha": 0.3, "focal_kwargs": {"gamma": 1.0}, "dice_kwargs": {"smooth": 0.5}}),
]
BINARY: list[tuple[str, dict[str, Any]]] = [
    ("BCELoss", {}),
    ("BCELoss", {"pos_weight": 30.0, "class_weights": [0.5, 20.0]}),
]
MULTICLASS: list[tuple[str, dict[str, Any]]] = [
    ("CELoss", {"class_weights": [0.5, 2.0, 30.0]}),
    ("DiceLoss", {"classes": [1, 2], "class_weights": [1.0, 2.0, 3.0]}),
    ("FocalLoss", {"alpha": [0.2, 0.3, 0.5]}),
    ("LovaszLoss", {"classes": "all"}),
    ("LovaszLoss", {"classes": [0, 2]}),
]


def make(name: str, opts: dict[str, Any], num_classes: int, ignore_index: int = IGNORE) -> nn.Module:
    return build_loss([{"name": name, "weight": 1.0, "opts": opts}], num_classes=num_classes, ignore_index=ignore_index)


def draw(
    num_classes: int,
    *,
    seed: int = 0,
    shape: tuple[int, int, int] = (2, 4, 5),
    scale: float = 2.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels with each class and some ignored pixels in every image."""
    generator = torch.Generator().manual_seed(seed)
    count, height, width = shape
    logits = torch.randn(count, num_classes, height, width, generator=generator, dtype=dtype) * scale
    pixels = height * width
    labels = torch.arange(pixels).repeat(count, 1) % (max(num_classes, 2) + 1)
    labels = torch.stack([row[torch.randperm(pixels, generator=generator)] for row in labels])
    target = labels.reshape(count, height, width)
    return logits, target.masked_fill(target == max(num_classes, 2), IGNORE)


def loss_and_grad(loss: nn.Module, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    (grad,) = torch.autograd.grad(value, logits)
    return value.detach(), grad


def pixel_list(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (M, K) and one-hot labels (M, K) of the M valid pixels, in NumPy."""
    z = logits.movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    labels = target.reshape(-1).numpy()
    z, labels = z[labels != IGNORE], labels[labels != IGNORE]
    if z.shape[1] == 1:
        positive = 1 / (1 + np.exp(-z[:, 0]))
        p = np.stack([1 - positive, positive], axis=1)
    else:
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return p, np.eye(p.shape[1])[labels]

"""Every loss with the options that change its shape, and what to try them on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from train.losses import build_loss

IGNORE = 255

# Every loss, with the options that change its shape. None of them is left out of a property below without a reason.
Case = tuple[str, dict[str, Any]]
SHARED: list[Case] = [
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
BINARY: list[Case] = [("BCELoss", {}), ("BCELoss", {"pos_weight": 30.0, "class_weights": [0.5, 20.0]})]
MULTICLASS: list[Case] = [
    ("CELoss", {"class_weights": [0.5, 2.0, 30.0]}),
    ("DiceLoss", {"classes": [1, 2], "class_weights": [1.0, 2.0, 3.0]}),
    ("FocalLoss", {"alpha": [0.2, 0.3, 0.5]}),
    ("LovaszLoss", {"classes": "all"}),
    ("LovaszLoss", {"classes": [0, 2]}),
]
CASES = [
    (name, opts, num_classes)
    for num_classes, cases in ((1, SHARED + BINARY), (3, SHARED + MULTICLASS))
    for name, opts in cases
]


def every_loss_but(left_out: Callable[[int, dict[str, Any]], bool]) -> pytest.MarkDecorator:
    """Every loss for which ``left_out(num_classes, options)`` doesn't hold; each use says why."""
    chosen = [case for case in CASES if not left_out(case[2], case[1])]
    ids = [f"{name}-{num_classes}-{'-'.join(opts)}" for name, opts, num_classes in chosen]
    return pytest.mark.parametrize(("name", "opts", "num_classes"), chosen, ids=ids)


every_loss = every_loss_but(lambda num_classes, opts: False)


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

"""Every loss with the options that change its shape, and what to try them on."""

import numpy as np
import pytest
import torch

from train.losses import build_loss

IGNORE = 255

# Every loss, with the options that change its shape. None of them is left out of a property below without a reason.
SHARED = [
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
BINARY = [("BCELoss", {}), ("BCELoss", {"pos_weight": 30.0, "class_weights": [0.5, 20.0]})]
MULTICLASS = [
    ("CELoss", {"class_weights": [0.5, 2.0, 30.0]}),
    ("DiceLoss", {"classes": [1, 2], "class_weights": [1.0, 2.0, 3.0]}),
    ("FocalLoss", {"alpha": [0.2, 0.3, 0.5]}),
    ("LovaszLoss", {"classes": "all"}),
    ("LovaszLoss", {"classes": [0, 2]}),
]
CASES = [
    pytest.param(name, opts, num_classes, id=f"{name}-{num_classes}-{'-'.join(opts)}")
    for num_classes, cases in ((1, SHARED + BINARY), (3, SHARED + MULTICLASS))
    for name, opts in cases
]
every_loss = pytest.mark.parametrize(("name", "opts", "num_classes"), CASES)


def every_loss_but(left_out):
    """Every loss for which ``left_out(num_classes, options)`` doesn't hold; each use says why."""
    chosen = [case for case in CASES if not left_out(case.values[2], case.values[1])]
    return pytest.mark.parametrize(("name", "opts", "num_classes"), chosen)


def make(name, opts, num_classes, ignore_index=IGNORE):
    return build_loss([{"name": name, "weight": 1.0, "opts": opts}], num_classes=num_classes, ignore_index=ignore_index)


def draw(num_classes, *, seed=0, shape=(2, 4, 5), scale=2.0, dtype=torch.float64):
    """Logits and labels with each class and some ignored pixels in every image."""
    generator = torch.Generator().manual_seed(seed)
    count, height, width = shape
    logits = torch.randn(count, num_classes, height, width, generator=generator, dtype=dtype) * scale
    pixels = height * width
    labels = torch.arange(pixels).repeat(count, 1) % (max(num_classes, 2) + 1)
    labels = torch.stack([row[torch.randperm(pixels, generator=generator)] for row in labels])
    target = labels.reshape(count, height, width)
    return logits, target.masked_fill(target == max(num_classes, 2), IGNORE)


def loss_and_grad(loss, logits, target):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    (grad,) = torch.autograd.grad(value, logits)
    return value.detach(), grad


def pixel_list(logits, target):
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

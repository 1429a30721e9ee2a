"""Losses by name, and the weighted sum of those that a config names.

Each loss stands in a file of `train/loss_terms/` and is an attribute of this module too (`train.losses.DiceLoss`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from train.configs.registries import losses
from train.loss_terms.base import SegmentationLoss, SumOfLosses

__all__ = ["LOSSES", "SegmentationLoss", "SumOfLosses", "build_loss"]

LOSSES: dict[str, type[nn.Module]] = {name: row.load() for name, row in losses.LOSSES.items()}
globals().update(LOSSES)


def build_loss(terms: Sequence[Mapping[str, Any]], *, num_classes: int, ignore_index: int) -> nn.Module:
    """Build the weighted sum of the losses that a config names.

    Args:
        terms: At least one ``{"name": a key of LOSSES, "weight": a float (1 if left out), "opts": {option: value}}``.
        num_classes: Channels of the logits; 1 is binary.
        ignore_index: Label of the pixels that count nowhere.

    Returns:
        A module that maps logits ``(N, C, H, W)`` and labels ``(N, H, W)`` to a scalar.

    Raises:
        ValueError: No term, an unknown name, or options that contradict each other or ``num_classes``.
        TypeError: An option that the loss doesn't have.
    """
    unknown = [term["name"] for term in terms if term["name"] not in LOSSES]
    if unknown or not terms:
        raise ValueError(f"unknown loss {', '.join(unknown) or '(none given)'}; allowed: {', '.join(LOSSES)}")
    common = {"num_classes": num_classes, "ignore_index": ignore_index}
    built = [LOSSES[term["name"]](**common, **(term.get("opts") or {})) for term in terms]
    return SumOfLosses(built, [float(term.get("weight", 1.0)) for term in terms])

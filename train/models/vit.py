"""What the networks on plain vision transformers share: which ones are plain, and which blocks to read."""

from collections.abc import Sequence

import timm
import torch

from inference.common.errors import UserError


def is_plain_vit(backbone: str) -> bool:
    """Whether all features of a timm backbone have one resolution, so that SMP's decoders refuse it.

    Args:
        backbone: Name in timm, with or without `tu-`; any other name is none.
    """
    name = backbone.removeprefix("tu-")
    if not timm.is_model(name):
        return False
    try:
        with torch.device("meta"):
            strides = timm.create_model(name, features_only=True).feature_info.reduction()
    except (RuntimeError, AttributeError):  # what timm raises for models that it can't cut into features
        return False
    return len(strides) > 1 and len(set(strides)) == 1


def block_indices(name: str, indices: Sequence[int] | None, levels: int) -> list[int]:
    """Checks the blocks whose output is used, or spreads them evenly.

    Args:
        name: A ViT of timm's.
        indices: Blocks from 0, or `None` for the last of each of `levels` equal parts: `[2, 5, 8, 11]` of 12 for 4.
        levels: How many are needed.

    Raises:
        UserError: Their number is not `levels`, they don't rise, or the ViT has no such block.
    """
    with torch.device("meta"):
        blocks = len(timm.create_model(name).blocks)
    spread = [blocks * (level + 1) // levels - 1 for level in range(levels)]
    chosen = spread if indices is None else list(indices)
    if len(chosen) != levels or chosen != sorted(set(chosen)) or not 0 <= chosen[0] <= chosen[-1] < blocks:
        raise UserError(
            f"encoder_indices: {chosen} must be {levels} rising block numbers from 0 to {blocks - 1} for {name}, "
            f"such as {spread}"
        )
    return chosen

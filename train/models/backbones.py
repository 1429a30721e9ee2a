"""timm backbones: building them for intermediate features, choice of ViT blocks, and padding to their stride."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from inference.common.errors import UserError
from train.models.pretrained import Weights, fetch_timm, local_file_options, resolve_weights
from train.models.weights_file import load_timm_encoder


def build_timm(
    name: str,
    in_channels: int,
    encoder_weights: Weights = None,
    *,
    indices: Sequence[int],
    keep_norm: bool = True,
    **kwargs: Any,
) -> Any:
    """Build a timm backbone without the layers that its intermediate features don't need.

    Blocks, norm and classifier behind the last feature are removed: they would use memory, and parameters without a
    gradient stop distributed training.

    Args:
        name: timm's name, with or without a tag.
        in_channels: Bands of the image; a first layer pretrained on three bands is adapted as in timm.
        encoder_weights: Pretrained weights, see `train.models.pretrained`.
        indices: Blocks or stages whose output is used, from 0.
        keep_norm: True if the final norm is used.
        **kwargs: Further arguments of `timm.create_model`.

    Returns:
        The timm model, with `forward_intermediates`.

    Raises:
        UserError: The weights are not available or don't match the backbone.
    """
    source = resolve_weights(encoder_weights)
    extra: dict[str, Any] = {}
    if isinstance(source, str):
        name, file = fetch_timm(name, source)
        extra = {"pretrained": True, **local_file_options(file)}
    model = timm.create_model(name, in_chans=in_channels, num_classes=0, **extra, **kwargs)
    model.prune_intermediate_layers(list(indices), prune_norm=not keep_norm, prune_head=True)
    if isinstance(source, Path):
        load_timm_encoder(model, source, name, in_channels, **kwargs)
    return model


def is_plain_vit(backbone: str) -> bool:
    """Return True if all features of a timm backbone have the same resolution, which SMP's decoders refuse.

    Args:
        backbone: timm's name, with or without `tu-`; False for any other name.
    """
    name = backbone.removeprefix("tu-")
    if not timm.is_model(name):
        return False
    try:
        with torch.device("meta"):
            strides = timm.create_model(name, features_only=True).feature_info.reduction()
    except (RuntimeError, AttributeError):  # raised by timm for models without a feature interface
        return False
    return len(strides) > 1 and len(set(strides)) == 1


def block_indices(name: str, indices: Sequence[int] | None, levels: int) -> list[int]:
    """Check the indices of the ViT blocks whose output is used, or spread them evenly.

    Args:
        name: timm's name of a ViT.
        indices: Blocks from 0; `None` for the last of each of `levels` equal parts: `[2, 5, 8, 11]` of 12 blocks.
        levels: Number of blocks needed.

    Raises:
        UserError: Their number is not `levels`, they are not ascending, or the ViT has no such block.
    """
    with torch.device("meta"):
        blocks = len(timm.create_model(name).blocks)
    spread = [blocks * (level + 1) // levels - 1 for level in range(levels)]
    chosen = spread if indices is None else list(indices)
    if len(chosen) != levels or chosen != sorted(set(chosen)) or not 0 <= chosen[0] <= chosen[-1] < blocks:
        raise UserError(
            f"encoder_indices: {chosen} must be {levels} ascending block numbers from 0 to {blocks - 1} for {name}, "
            f"such as {spread}"
        )
    return chosen


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad an image at its right and bottom edges by repeating its border pixels.

    Replication works for any size (reflection needs an image larger than the padding) and shows the network no values
    that are not in the image. The code has no branch on the size, so that a traced or exported graph computes the
    padding for every size.

    Args:
        image: Image `(N, B, H, W)`, float.
        multiple: Divisor of both sides of the result.

    Returns:
        `(N, B, H', W')` with the smallest such `H' >= H` and `W' >= W`; crop with `[..., :H, :W]`.
    """
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")

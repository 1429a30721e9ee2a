"""At which sizes an exported network is right."""

import segmentation_models_pytorch as smp
from torch import nn

from train.model import AerialFormer, DINOv2Segmentation, SegmentationModel


def fixed_size_reason(model: SegmentationModel) -> str | None:
    """Why a network's file can be right at one size only; None where it has been shown to be right at others.

    The table behind this is `docs/export.md`, made by `benchmarks/export.py`. Besides, the files of every network are
    held against the checkpoint at a second size before they get their names.
    """
    if isinstance(model, AerialFormer):
        return "AerialFormer's windows of attention are written down for one size"
    if isinstance(model.model, smp.DPT):
        return "DPT's positions are written down for one size"
    if isinstance(model, DINOv2Segmentation) and "dinov3" in str(model.config.segmentation_config.backbone):
        return "DINOv3's rotary positions are written down for one size"
    if name := _windowed(model.model):
        return f"the attention of {name} is written down for one size"
    return None


def _windowed(network: nn.Module) -> str | None:
    """The first module whose attention has windows or biases of the size that it was made for."""
    kinds = ("WindowAttention", "SwinTransformer", "MaxxVit", "RelPosBias", "CoAt", "Hiera", "LeViT", "Levit")
    return next((kind for m in network.modules() if (kind := type(m).__name__).startswith(kinds)), None)


def other_size(tile: int) -> tuple[int, int]:
    """A second size to compare at: no square, no multiple of anything.

    Larger, since every network that takes a tile takes it (PAN has no room for its pyramid in small images).
    """
    return tile + 33, tile * 5 // 4 + 1

"""LightningModules of the families of networks, which say how a network is built, and their registry.

All else is in `SegmentationModel`, their base class.
"""

import math
from collections.abc import Iterator, Mapping
from typing import cast

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from torch import Tensor, nn

from train.configs.config import Config
from train.configs.registries.families import FAMILIES
from train.models.aerial_former import AerialFormerNetwork
from train.models.backbones import is_plain_vit, pad_to_multiple
from train.models.dinov2 import DINOv2
from train.models.smp_models import build_smp_model
from train.models.vit_pyramid import ViTPyramidModel, build_vit_pyramid_model
from train.segmentation_model import SegmentationModel

__all__ = ["MODELS", "AerialFormer", "DINOv2Segmentation", "SMPSegmentationModel", "SegmentationModel", "smp_stride"]


class SMPSegmentationModel(SegmentationModel):
    """Architectures of segmentation-models-pytorch on any of its encoders, those of timm included."""

    @staticmethod
    def build(config: Config, weights: str | bool | None) -> nn.Module:
        """See `SegmentationModel.build`."""
        settings = config.segmentation_config
        architecture, backbone = cast(str, settings.architecture), cast(str, settings.backbone)
        opts = settings.opts.model_dump(exclude_none=True, exclude={"encoder_weights"})
        bands, classes = config.num_bands, config.num_classes
        if architecture != "DPT" and is_plain_vit(backbone):
            return build_vit_pyramid_model(architecture, backbone, bands, classes, encoder_weights=weights, **opts)
        # Of torchseg; an SMP decoder ends at the input's size, and its encoders' features have fixed places.
        opts.pop("head_upsampling", None)
        opts |= opts.pop("encoder_params", {})
        if indices := opts.pop("encoder_indices", None):
            opts["out_indices"] = indices
        return build_smp_model(architecture, backbone, bands, classes, weights, **opts)

    @staticmethod
    def run_network(network: nn.Module, image: Tensor) -> Tensor:
        """See `SegmentationModel.run_network`; SMP's networks need sides that their deepest stride divides."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, smp_stride(network))
        logits: Tensor = network(padded)
        if logits.shape[-2:] != padded.shape[-2:]:
            # `upsampling` and `encoder_output_stride` can leave the logits at another size.
            logits = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def smp_stride(network: nn.Module) -> int:
    """Return the number that both sides of an SMP network's input must be divisible by."""
    if isinstance(network, ViTPyramidModel):
        return 1  # pads inside
    output_stride = int(network.encoder.output_stride)  # type: ignore[union-attr, arg-type]
    # A shallow or dilated encoder still halves its input five times somewhere; a ViT's stride is its patch.
    return output_stride if isinstance(network, smp.DPT) else math.lcm(32, output_stride)


class DINOv2Segmentation(SegmentationModel):
    """DINOv2 or DINOv3 backbone with a light decoder."""

    @staticmethod
    def build(config: Config, weights: str | bool | None) -> nn.Module:
        """See `SegmentationModel.build`."""
        settings = config.segmentation_config
        opts = settings.opts.model_dump(exclude_none=True, exclude={"encoder_weights"})
        return DINOv2(
            cast(str, settings.backbone),
            config.num_bands,
            config.num_classes,
            decoder=settings.architecture,  # type: ignore[arg-type]
            encoder_weights=weights,
            **opts.pop("encoder_params", {}),
            **opts,
        )


class AerialFormer(SegmentationModel):
    """AerialFormer (arXiv:2306.06842), tiny, small or base."""

    @staticmethod
    def build(config: Config, weights: str | bool | None) -> nn.Module:
        """See `SegmentationModel.build`."""
        settings = config.segmentation_config
        opts = settings.opts.model_dump(exclude_none=True, exclude={"encoder_weights"})
        variant = cast(str, settings.architecture)[-1]
        return AerialFormerNetwork(
            variant,  # type: ignore[arg-type]
            config.num_bands,
            config.num_classes,
            encoder_weights=weights,
            **opts,
        )


class _Models(Mapping[str, type[SegmentationModel]]):
    """Classes of the registered families, looked up by name; those of other modules are imported when asked for."""

    def __getitem__(self, name: str) -> type[SegmentationModel]:
        return cast(type[SegmentationModel], FAMILIES[name].load())

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)


MODELS = _Models()

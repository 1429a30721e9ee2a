"""SMP's decoders on a plain vision transformer, by a feature pyramid of rescaled tokens.

SMP refuses plain ViTs, because they have a single resolution with one token per patch. As in Li et al., "Exploring
Plain Vision Transformer Backbones for Object Detection" (ViTDet), ECCV 2022, doi:10.1007/978-3-031-20077-9_17, the
tokens are rescaled to several resolutions, but here from several blocks and without additional weights: the output of
the earliest block is upsampled 4 times, of the next twice, and so on. With patches of 14 pixels and the scales 4, 2, 1,
1/2 the strides are 3.5, 7, 14 and 28; with patches of 16 pixels they are 4, 8, 16 and 32.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from torch import Tensor, nn

from inference.common.errors import UserError
from train.models.backbones import block_indices, build_timm, is_plain_vit, pad_to_multiple
from train.models.pretrained import Weights
from train.models.smp_models import check_options

# Supported decoders, with the smallest number of levels that each works with.
MIN_DEPTH = {"Unet": 2, "UnetPlusPlus": 2, "MAnet": 2, "Linknet": 2, "FPN": 4, "Segformer": 3, "UPerNet": 3}
_HEAD_UPSAMPLES = ("FPN", "Segformer", "UPerNet")  # their heads upsample 4 times by default
_DECODER_CHANNELS = (256, 128, 64, 32, 16)  # SMP's default, for five levels
_MAX_DEPTH = len(_DECODER_CHANNELS)


class ViTPyramidEncoder(nn.Module):
    """Plain ViT with the interface of an SMP encoder: returns the image, then features from fine to coarse.

    Args:
        backbone: timm's name of a ViT whose position embeddings can be interpolated.
        in_channels: Bands of the image.
        depth: Levels of the pyramid.
        indices: Blocks, from 0, one per level, fine to coarse; `None` for evenly spread ones.
        scale_factors: Scale of the tokens at each level, each half of the one before; `None` for scales that end with
            1/2.
        encoder_weights: Pretrained weights, see `train.models.pretrained`.
        placeholder: True to insert an empty feature after the image, for decoders that skip the second feature.
        **params: Further arguments of timm's model, such as `img_size` (the image size of the position embeddings).

    Attributes:
        out_channels: Channels of each feature, the image included.
        output_stride: Divisor of both sides of the input.

    Raises:
        UserError: An argument does not match the ViT, or the weights are not available or don't match.
    """

    def __init__(
        self,
        backbone: str,
        in_channels: int,
        depth: int = 4,
        indices: Sequence[int] | None = None,
        scale_factors: Sequence[float] | None = None,
        encoder_weights: Weights = None,
        *,
        placeholder: bool = False,
        **params: Any,
    ) -> None:
        super().__init__()
        self.name = backbone.removeprefix("tu-")
        if not is_plain_vit(self.name):
            raise UserError(
                f"backbone: {backbone} is not a plain vision transformer of timm, which a feature pyramid needs"
            )
        scales = (
            [2.0 ** (depth - 2 - level) for level in range(depth)] if scale_factors is None else list(scale_factors)
        )
        if len(scales) != depth or any(fine != 2 * coarse for fine, coarse in pairwise(scales)):
            raise UserError(
                f"encoder_params.scale_factors: {scales} must be {depth} numbers, "
                "each half of the one before, such as 4, 2, 1, 0.5"
            )
        self.indices = block_indices(self.name, indices, depth)
        self.scales = scales
        try:
            self.model = build_timm(
                self.name, in_channels, encoder_weights, indices=self.indices, **{"dynamic_img_size": True, **params}
            )
        except TypeError as error:
            raise UserError(f"encoder_params: {self.name} does not take them: {error}") from error
        self.output_stride = round(self.model.patch_embed.patch_size[0] / min(1.0, *scales))
        self.placeholder = placeholder
        self.out_channels = [in_channels] + [0] * placeholder + [int(self.model.embed_dim)] * depth
        self._in_channels, self._depth = in_channels, depth

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map `(N, B, H, W)`, sides divisible by `output_stride`, to `[image, (N, D, h s, w s) for each scale s]`."""
        tokens = self.model.forward_intermediates(
            x, indices=self.indices, norm=True, output_fmt="NCHW", intermediates_only=True
        )  # one (N, D, h, w) a level
        levels = [
            t if s == 1 else F.interpolate(t, scale_factor=s, mode="bilinear", align_corners=False)
            for t, s in zip(tokens, self.scales, strict=True)
        ]
        return [x, *([x[:, :0]] * self.placeholder), *levels]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Check the number of bands, which is fixed at construction; part of SMP's encoder interface."""
        if in_channels != self._in_channels:
            raise ValueError(f"built for {self._in_channels} bands, asked for {in_channels}")

    def make_dilated(self, output_stride: int) -> None:
        """Raise a ValueError, since a ViT can't be dilated; part of SMP's encoder interface."""
        raise ValueError(f"a vision transformer can't be dilated to stride {output_stride}")


class ViTPyramidModel(nn.Module):
    """SMP model on a ViT pyramid, for any image size; its parameters have the names of SMP's models.

    Args:
        model: SMP model with a `ViTPyramidEncoder`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder: ViTPyramidEncoder = model.encoder
        self.decoder: nn.Module = model.decoder
        self.segmentation_head: nn.Module = model.segmentation_head

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image `(N, B, H, W)` of any size to logits `(N, C, H, W)`."""
        height, width = image.shape[-2:]
        image = pad_to_multiple(image, self.encoder.output_stride)
        logits = self.segmentation_head(self.decoder(self.encoder(image)))
        logits = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def build_vit_pyramid_model(
    architecture: str,
    backbone: str,
    in_channels: int,
    classes: int,
    *,
    encoder_weights: Weights = None,
    encoder_depth: int = 4,
    encoder_indices: Sequence[int] | None = None,
    encoder_params: dict[str, Any] | None = None,
    head_upsampling: float | None = None,
    **opts: Any,
) -> ViTPyramidModel:
    """Build one of SMP's architectures on a plain ViT.

    Args:
        architecture: A key of `MIN_DEPTH`, in any case.
        backbone: timm's name of a plain ViT, with or without `tu-`.
        in_channels: Bands of the image.
        classes: Channels of the logits.
        encoder_weights: Pretrained weights, see `train.models.pretrained`.
        encoder_depth: Levels of the pyramid.
        encoder_indices: Blocks, from 0, one per level; `None` for evenly spread ones.
        encoder_params: `scale_factors` of the levels, and further arguments of timm's model.
        head_upsampling: Accepted for old configs, where it undid the remaining stride (1.75 for patches of 14). No
            effect: the logits are always resized to the image.
        **opts: Further arguments of the architecture, such as `decoder_channels`.

    Returns:
        The model, from `(N, B, H, W)` of any size to logits `(N, C, H, W)`.

    Raises:
        UserError: The architecture can't be built on a ViT, an option is wrong, or the weights are not available or
            don't match.
    """
    found = {name.lower(): name for name in MIN_DEPTH}.get(architecture.lower())
    if found is None:
        reason = "; DPT supports vision transformers without a pyramid" if architecture.lower() == "dpt" else ""
        raise UserError(
            f"{architecture} can't be built on the plain vision transformer {backbone} "
            f"(can: {', '.join(MIN_DEPTH)}{reason})"
        )
    if not MIN_DEPTH[found] <= encoder_depth <= _MAX_DEPTH:
        raise UserError(f"encoder_depth: {encoder_depth} must be from {MIN_DEPTH[found]} to {_MAX_DEPTH} for {found}")
    opts, _ = check_options(opts, getattr(smp, found), more=False)
    params = dict(encoder_params or {})
    encoder = ViTPyramidEncoder(
        backbone,
        in_channels,
        encoder_depth,
        encoder_indices,
        params.pop("scale_factors", None),
        encoder_weights,
        placeholder=found == "UPerNet",
        **params,
    )
    if found in _HEAD_UPSAMPLES:
        opts = {"upsampling": 1, **opts}
    elif found != "Linknet":
        opts = {"decoder_channels": _DECODER_CHANNELS[-encoder_depth:], **opts}
    return ViTPyramidModel(_assemble(found, encoder, encoder_depth, in_channels, classes, opts))


def _assemble(
    architecture: str, encoder: ViTPyramidEncoder, depth: int, in_channels: int, classes: int, opts: dict[str, Any]
) -> Any:
    """Build SMP's decoder and head on the encoder, which gets a temporary name because SMP finds encoders by name."""
    registry: dict[str, Any] = smp.encoders.encoders
    name = f"vit-pyramid-{id(encoder)}"
    # SMP passes depth and stride, which the encoder already has.
    registry[name] = {"encoder": lambda **_: encoder, "params": {}, "pretrained_settings": {}}
    try:
        return smp.create_model(
            architecture,
            encoder_name=name,
            encoder_weights=None,
            encoder_depth=depth,
            in_channels=in_channels,
            classes=classes,
            **opts,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{architecture} can't be built on {encoder.name}: {error}") from error
    finally:
        del registry[name]

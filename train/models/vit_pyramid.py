"""SMP's decoders on a plain vision transformer, which SMP refuses: a feature pyramid by rescaling tokens.

A plain ViT has one resolution, a token a patch. As in Li et al., "Exploring Plain Vision Transformer Backbones for
Object Detection" (ViTDet), ECCV 2022, doi:10.1007/978-3-031-20077-9_17, it is brought to several, but from several
blocks and without weights of its own: the output of the earliest block is magnified 4 times, of the next twice, and
so on. With patches of 14 pixels and the scales 4, 2, 1, 1/2 the strides are 3.5, 7, 14 and 28, with patches of 16
they are 4, 8, 16 and 32.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from torch import Tensor, nn

from inference.common.errors import UserError
from train.models.padding import pad_to_multiple
from train.models.pretrained import Weights, build_timm, check_options
from train.models.vit import block_indices, is_plain_vit

# What each decoder needs to be built upon a pyramid, beside its encoder: the fewest levels it can work with.
MIN_DEPTH = {"Unet": 2, "UnetPlusPlus": 2, "MAnet": 2, "Linknet": 2, "FPN": 4, "Segformer": 3, "UPerNet": 3}
_HEAD_UPSAMPLES = ("FPN", "Segformer", "UPerNet")  # their heads magnify 4 times unless told otherwise
_DECODER_CHANNELS = (256, 128, 64, 32, 16)  # SMP's default, for five levels
_MAX_DEPTH = len(_DECODER_CHANNELS)


class ViTPyramidEncoder(nn.Module):
    """A plain ViT in the shape of an SMP encoder: the image, then features from fine to coarse.

    Args:
        backbone: timm's name of a ViT whose positions can be interpolated.
        in_channels: Bands of the image.
        depth: Levels of the pyramid.
        indices: Blocks, from 0, one a level, fine to coarse; by default evenly spread.
        scale_factors: Magnification of the tokens at each level, each half of the one before; by default
            such that the last is 1/2.
        encoder_weights: See `train.models.pretrained`.
        placeholder: Whether an empty feature follows the image, for decoders that pass over the second.
        **params: What else timm's model takes, such as `img_size` (the size that positions are stored for).

    Attributes:
        out_channels: Channels of each feature, the image included.
        output_stride: What both sides of the input must divide by.

    Raises:
        UserError: An argument does not suit the ViT, or the weights can't be had or don't fit.
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
                f"backbone: {backbone} is no plain vision transformer of timm's, which a pyramid is made from"
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
        """Maps `(N, B, H, W)`, sides divisible by `output_stride`, to `[image, (N, D, h s, w s) for each scale s]`."""
        tokens = self.model.forward_intermediates(
            x, indices=self.indices, norm=True, output_fmt="NCHW", intermediates_only=True
        )  # one (N, D, h, w) a level
        levels = [
            t if s == 1 else F.interpolate(t, scale_factor=s, mode="bilinear", align_corners=False)
            for t, s in zip(tokens, self.scales, strict=True)
        ]
        return [x, *([x[:, :0]] * self.placeholder), *levels]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Part of SMP's protocol; the number of bands is fixed when the encoder is built."""
        if in_channels != self._in_channels:
            raise ValueError(f"built for {self._in_channels} bands, asked for {in_channels}")

    def make_dilated(self, output_stride: int) -> None:
        """Part of SMP's protocol; a ViT has no strides to trade for dilation."""
        raise ValueError(f"a vision transformer can't be dilated to stride {output_stride}")


class ViTPyramidModel(nn.Module):
    """The parts of an SMP model around a ViT pyramid, for any image size; parameters are named as SMP's.

    Args:
        model: An SMP model that was built upon a `ViTPyramidEncoder`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder: ViTPyramidEncoder = model.encoder
        self.decoder: nn.Module = model.decoder
        self.segmentation_head: nn.Module = model.segmentation_head

    def forward(self, image: Tensor) -> Tensor:
        """Maps a normalised image `(N, B, H, W)` of any size to logits `(N, C, H, W)`."""
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
    """Builds one of SMP's architectures upon a plain ViT.

    Args:
        architecture: A key of `MIN_DEPTH`, in any case.
        backbone: timm's name of a plain ViT, with or without `tu-`.
        in_channels: Bands of the image.
        classes: Channels of the logits.
        encoder_weights: See `train.models.pretrained`.
        encoder_depth: Levels of the pyramid.
        encoder_indices: Blocks, from 0, one a level; by default evenly spread.
        encoder_params: `scale_factors` of the levels, and what else timm's model takes.
        head_upsampling: Of old configs, where it had to undo the stride that is left (1.75 for patches of 14). Has no
            effect: logits are brought to the image's size whatever it is.
        **opts: What else the architecture takes, such as `decoder_channels`.

    Returns:
        The model: `(N, B, H, W)` of any size to logits `(N, C, H, W)`.

    Raises:
        UserError: The architecture can't be built so, an option is wrong, or the weights can't be had or don't fit.
    """
    found = {name.lower(): name for name in MIN_DEPTH}.get(architecture.lower())
    if found is None:
        reason = "; DPT takes vision transformers as they are" if architecture.lower() == "dpt" else ""
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
    """Has SMP build decoder and head around the encoder: it looks encoders up by name, so this one is lent a name."""
    registry: dict[str, Any] = smp.encoders.encoders
    name = f"vit-pyramid-{id(encoder)}"
    # SMP fills in depth and stride, which are settled already.
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

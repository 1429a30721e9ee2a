"""Segmentation on a plain vision transformer of DINOv2 or DINOv3: features of four blocks and a light decoder.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024, arXiv:2304.07193; with
registers: Darcet et al., "Vision Transformers Need Registers", ICLR 2024, arXiv:2309.16588. The backbones are timm's.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.common.errors import UserError
from train.models.padding import pad_to_multiple
from train.models.pretrained import Weights, build_timm
from train.models.vit import block_indices

_SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}
_SHORT = re.compile(r"dinov2_(?:vit)?(?P<size>[sblg])(?:14)?(?P<registers>_reg4?)?")
_LEVELS = 4


def timm_name(backbone: str) -> str:
    """The name that timm has for a DINO backbone.

    Args:
        backbone: `dinov2_s`, `dinov2_b`, `dinov2_l`, `dinov2_g`, each also with `_reg`; as torch.hub writes them,
            `dinov2_vits14`, `dinov2_vits14_reg`; or timm's own name of a ViT with dinov2 or dinov3 in it, with or
            without `tu-`.

    Raises:
        UserError: There is no such backbone; names the nearest that exists.
    """
    name = backbone.removeprefix("tu-")
    if short := _SHORT.fullmatch(name):
        registers = "_reg4" if short["registers"] else ""
        return f"vit_{_SIZES[short['size']]}_patch14{registers}_dinov2"
    if re.match(r"vit_.*dinov[23]", name) and timm.is_model(name):
        return name
    shorts = [f"dinov2_{size}{registers}" for size in _SIZES for registers in ("", "_reg")]
    known = shorts + timm.list_models("vit_*dinov2*") + timm.list_models("vit_*dinov3*")
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"backbone: there is no DINO backbone {backbone!r}{hint} "
        f"(allowed: {', '.join(shorts)}, and timm's vit_*dinov2* and vit_*dinov3*)"
    )


class LinearDecoder(nn.Module):
    """What precedes the linear classifier in the DINOv2 paper (section 7.4): BatchNorm on the joined patch tokens.

    Args:
        embed_dim: Channels D of each of the four features.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.out_channels = _LEVELS * embed_dim
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps four `(N, D, h, w)` to `(N, 4D, h, w)`."""
        normed: Tensor = self.norm(torch.cat(features, dim=1))
        return normed


class MultiLevelDecoder(nn.Module):
    """A pyramid from features of one size, fused from coarse to fine.

    "Reassemble" of Ranftl et al., "Vision Transformers for Dense Prediction" (DPT), ICCV 2021,
    doi:10.1109/ICCV48922.2021.01196: the earliest block becomes four times as fine as the tokens, the next twice, the
    third stays, the last becomes half as fine. Lighter than there: all levels have the same few channels, and each
    fusion has one 3x3 convolution in place of two residual units.

    Args:
        embed_dim: Channels D of each of the four features.
        channels: Channels of every level.
    """

    def __init__(self, embed_dim: int, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        resample = (
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )
        self.reassemble = nn.ModuleList(nn.Sequential(nn.Conv2d(embed_dim, channels, 1), layer) for layer in resample)
        self.fuse = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
            for _ in range(_LEVELS - 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps four `(N, D, h, w)`, earliest block first, to `(N, channels, 4h, 4w)`."""
        levels = [level(feature) for level, feature in zip(self.reassemble, features, strict=True)]
        x: Tensor = levels.pop()
        for fuse in self.fuse:
            finer = levels.pop()
            x = fuse(finer + F.interpolate(x, size=finer.shape[-2:], mode="bilinear", align_corners=False))
        return x


class DINOv2(nn.Module):
    """DINOv2 or DINOv3 with a decoder for segmentation, for any image size.

    The image is extended to a multiple of the patch (14 or 16), positions are interpolated to its size, and the
    logits are brought to the image's size bilinearly. A traced or exported DINOv2 holds at any size; a DINOv3 only at
    the one it was traced at, since timm's rotary positions keep that as a constant.

    Args:
        backbone: See `timm_name`.
        in_channels: Bands of the image.
        classes: Channels of the logits.
        decoder: "multilevel" for a pyramid (`MultiLevelDecoder`), "linear" for the paper's linear probe: BatchNorm
            and a 1x1 convolution on the joined tokens, coarse but a fair measure of the features.
        decoder_channels: Channels of the multilevel decoder.
        encoder_indices: Four blocks, from 0; by default evenly spread, `[2, 5, 8, 11]` of 12.
        encoder_weights: `None`, `True`, or a local file, from timm or as Meta published it. See
            `train.models.pretrained`.
        dropout: Share of the channels dropped before the classifier.
        **encoder_params: What else timm's model takes. `img_size` equal to the tile size interpolates the positions
            once, at building, in place of at each forward: quicker, and easier to export.

    Raises:
        UserError: There is no such backbone, the indices are wrong, or the weights can't be had or don't fit.
    """

    def __init__(
        self,
        backbone: str,
        in_channels: int,
        classes: int,
        decoder: Literal["multilevel", "linear"] = "multilevel",
        *,
        decoder_channels: int = 256,
        encoder_indices: Sequence[int] | None = None,
        encoder_weights: Weights = None,
        dropout: float = 0.1,
        **encoder_params: Any,
    ) -> None:
        super().__init__()
        name = timm_name(backbone)
        self.indices = block_indices(name, encoder_indices, _LEVELS)
        self.encoder = build_timm(
            name, in_channels, encoder_weights, indices=self.indices, **{"dynamic_img_size": True, **encoder_params}
        )
        self.patch = int(self.encoder.patch_embed.patch_size[0])
        embed_dim = int(self.encoder.embed_dim)
        self.decoder: LinearDecoder | MultiLevelDecoder
        if decoder == "linear":
            self.decoder = LinearDecoder(embed_dim)
        else:
            self.decoder = MultiLevelDecoder(embed_dim, decoder_channels)
        self.segmentation_head = nn.Sequential(
            nn.Dropout2d(dropout), nn.Conv2d(self.decoder.out_channels, classes, kernel_size=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Maps a normalised image `(N, B, H, W)` of any size to logits `(N, C, H, W)`."""
        height, width = image.shape[-2:]
        image = pad_to_multiple(image, self.patch)  # (N, B, H', W') with H' = h * patch
        features = self.encoder.forward_intermediates(
            image, indices=self.indices, norm=True, output_fmt="NCHW", intermediates_only=True
        )  # four (N, D, h, w)
        logits = self.segmentation_head(self.decoder(features))  # (N, C, h, w) or (N, C, 4h, 4w)
        logits = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

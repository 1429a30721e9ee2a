"""Segmentation network with a DINOv2 or DINOv3 backbone: features of four ViT blocks and a light decoder.

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
from train.models.backbones import block_indices, build_timm, pad_to_multiple
from train.models.pretrained import Weights

_SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}
_SHORT = re.compile(r"dinov2_(?:vit)?(?P<size>[sblg])(?:14)?(?P<registers>_reg4?)?")
_LEVELS = 4


def timm_name(backbone: str) -> str:
    """Return timm's name of a DINO backbone.

    Args:
        backbone: `dinov2_s`, `dinov2_b`, `dinov2_l`, `dinov2_g`, each also with `_reg`; a name of torch.hub such as
            `dinov2_vits14` or `dinov2_vits14_reg`; or timm's name of a ViT that contains dinov2 or dinov3, with or
            without `tu-`.

    Raises:
        UserError: There is no such backbone; the message names the nearest one.
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
    """Decoder of the DINOv2 paper's linear probe (section 7.4): BatchNorm on the concatenated patch tokens.

    Args:
        embed_dim: Channels D of each of the four features.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.out_channels = _LEVELS * embed_dim
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map four features `(N, D, h, w)` to `(N, 4D, h, w)`."""
        normed: Tensor = self.norm(torch.cat(features, dim=1))
        return normed


class MultiLevelDecoder(nn.Module):
    """Decoder that makes a pyramid from features of one size and fuses it from coarse to fine.

    "Reassemble" of Ranftl et al., "Vision Transformers for Dense Prediction" (DPT), ICCV 2021,
    doi:10.1109/ICCV48922.2021.01196: the features of the earliest block are upsampled 4 times, those of the next twice,
    the third keep their size, and the last are downsampled by 2. Lighter than DPT: all levels have the same number of
    channels, and each fusion has one 3x3 convolution instead of two residual units.

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
        """Map four features `(N, D, h, w)`, earliest block first, to `(N, channels, 4h, 4w)`."""
        levels = [level(feature) for level, feature in zip(self.reassemble, features, strict=True)]
        x: Tensor = levels.pop()
        for fuse in self.fuse:
            finer = levels.pop()
            x = fuse(finer + F.interpolate(x, size=finer.shape[-2:], mode="bilinear", align_corners=False))
        return x


class DINOv2(nn.Module):
    """DINOv2 or DINOv3 with a segmentation decoder, for any image size.

    The image is padded to a multiple of the patch size (14 or 16), position embeddings are interpolated to its size,
    and the logits are resized bilinearly to the image. A traced or exported DINOv2 is valid for any size; a DINOv3 only
    for the traced size, because timm's rotary position embeddings store it as a constant.

    Args:
        backbone: Name of the backbone, see `timm_name`.
        in_channels: Bands of the image.
        classes: Channels of the logits.
        decoder: "multilevel" for a pyramid (`MultiLevelDecoder`), "linear" for the paper's linear probe: BatchNorm
            and a 1x1 convolution on the concatenated tokens, coarse but a fair comparison of features.
        decoder_channels: Channels of the multilevel decoder.
        encoder_indices: Four blocks, from 0; `None` for evenly spread ones, `[2, 5, 8, 11]` of 12.
        encoder_weights: `None`, `True`, or a local file in timm's or Meta's format, see `train.models.pretrained`.
        dropout: Share of the channels dropped before the classifier, 0 to 1.
        **encoder_params: Further arguments of timm's model. `img_size` equal to the tile size interpolates the position
            embeddings once at construction instead of in each forward pass: faster, and easier to export.

    Raises:
        UserError: There is no such backbone, the indices are wrong, or the weights are not available or don't match.
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
        """Map a normalised image `(N, B, H, W)` of any size to logits `(N, C, H, W)`."""
        height, width = image.shape[-2:]
        image = pad_to_multiple(image, self.patch)  # (N, B, H', W') with H' = h * patch
        features = self.encoder.forward_intermediates(
            image, indices=self.indices, norm=True, output_fmt="NCHW", intermediates_only=True
        )  # four (N, D, h, w)
        logits = self.segmentation_head(self.decoder(features))  # (N, C, h, w) or (N, C, 4h, 4w)
        logits = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

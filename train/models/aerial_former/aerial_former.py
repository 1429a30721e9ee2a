"""AerialFormer: Swin encoder, decoder of multi-dilated convolutions, and a fine skip connection from a CNN stem.

Hanyu et al., "AerialFormer: Multi-Resolution Transformer for Aerial Image Segmentation", Remote Sensing 2024, 16(16),
2930, doi:10.3390/rs16162930. The encoder is Liu et al., "Swin Transformer", ICCV 2021,
doi:10.1109/ICCV48922.2021.00986.

    image ──▶ CNN stem ────────────────────────────── C/2 at 1/2 ──▶ MDC ──▶ 1x1 ──▶ x2
      └─▶ Swin ──▶ C at 1/4, 2C at 1/8, 4C at 1/16, 8C at 1/32 ──▶ MDC ──▶ deconvolution ──┘

With 16 classes it has 42.71, 64.03 and 113.82 million parameters (T, S, B), as published.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.backbones import build_timm, pad_to_multiple
from train.models.pretrained import Weights


@dataclass(frozen=True, slots=True)
class Variant:
    """Parameters of one of the three sizes."""

    swin: str
    """timm's name of the Swin, with the tag of the ImageNet weights that the authors started from."""
    width: int
    """Channels of the first stage, the paper's C."""


VARIANTS = {
    "T": Variant("swin_tiny_patch4_window7_224.ms_in1k", 96),
    "S": Variant("swin_small_patch4_window7_224.ms_in1k", 96),
    "B": Variant("swin_base_patch4_window12_384.ms_in22k", 128),
}

# One entry per decoder level, from the deepest (1/32) to the finest (1/2): kernel and dilation of the three branches.
# At coarse levels the branches are 3, 5 and 7 pixels wide; at the finest levels they are 1 or 3 pixels wide.
MDC_KERNELS = ((3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (1, 3, 3))
MDC_DILATIONS = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 1, 1), (1, 1, 1))

STEM_WIDTH = 64
STRIDE = 32  # of the deepest features: both sides must divide by it for the skips to meet


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, activation: nn.Module, stride: int = 1
) -> nn.Sequential:
    """Return convolution (without bias, which BatchNorm makes redundant), BatchNorm and activation."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), activation)


class Stem(nn.Sequential):
    """CNN stem for fine detail that the patch embedding loses: `(N, B, H, W)` to `(N, C/2, H/2, W/2)`.

    The paper's text describes four 3x3 convolutions; in its code and parameter count the last one is 1x1, as here.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            conv_norm(in_channels, STEM_WIDTH, 3, nn.GELU(), stride=2),
            conv_norm(STEM_WIDTH, STEM_WIDTH, 3, nn.GELU()),
            conv_norm(STEM_WIDTH, STEM_WIDTH, 3, nn.GELU()),
            conv_norm(STEM_WIDTH, out_channels, 1, nn.GELU()),
        )


class MultiDilatedConv(nn.Module):
    """Multi-dilated convolution (MDC) block: 1x1 mixing, three parallel branches, 1x1 and 3x3 mixing.

    The first 1x1 and the three branches are linear: norm and activation follow only after the second 1x1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernels: tuple[int, ...], dilations: tuple[int, ...]
    ) -> None:
        super().__init__()
        third = -(-in_channels // 3)  # rounded up; the last branch gets the rest, as with torch.chunk
        self.widths = [third, third, in_channels - 2 * third]
        self.pre_mixer = nn.Conv2d(in_channels, in_channels, 1, bias=False)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False)
            for width, kernel, dilation in zip(self.widths, kernels, dilations, strict=True)
        )
        self.post_mixer = nn.Sequential(
            conv_norm(in_channels, out_channels, 1, nn.ReLU(inplace=True)),
            conv_norm(out_channels, out_channels, 3, nn.ReLU(inplace=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, in, h, w)` to `(N, out, h, w)`."""
        parts = self.pre_mixer(x).split(self.widths, dim=1)
        seen = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        mixed: Tensor = self.post_mixer(torch.cat(seen, dim=1))
        return mixed


class Decoder(nn.Module):
    """Decoder from the deepest skip to the finest: an MDC block per level, a transposed convolution between levels.

    Args:
        channels: Channels of the skips, deepest first: 8C, 4C, 2C, C, C/2.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.upsample = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(deep, fine, 2, stride=2, bias=False), nn.BatchNorm2d(fine), nn.ReLU(inplace=True)
            )
            for deep, fine in pairwise(channels)
        )
        inputs = [channels[0]] + [2 * fine for fine in channels[1:]]  # the deepest level has no features to concatenate
        self.blocks = nn.ModuleList(
            MultiDilatedConv(*level) for level in zip(inputs, channels, MDC_KERNELS, MDC_DILATIONS, strict=True)
        )

    def forward(self, skips: list[Tensor]) -> Tensor:
        """Map `[(N, 8C, H/32, W/32), ..., (N, C/2, H/2, W/2)]` to `(N, C/2, H/2, W/2)`."""
        x: Tensor = self.blocks[0](skips[0])
        for upsample, block, skip in zip(self.upsample, self.blocks[1:], skips[1:], strict=True):
            x = block(torch.cat([upsample(x), skip], dim=1))
        return x


class AerialFormerNetwork(nn.Module):
    """AerialFormer-T, -S or -B.

    Attention windows have a fixed size (7 or 12 tokens) and are shifted at every stage for any image size, so that the
    same weights work for all sizes. The input is padded to a multiple of 32 and the logits are cropped. The paper
    trains S and B with synchronised BatchNorm.

    `encoder` is the Swin alone, for which pretrained weights exist. The stem, the LayerNorms of the four features,
    `decoder` and `segmentation_head` are initialised randomly and stay trainable when the encoder is frozen.

    Args:
        variant: "T", "S" or "B".
        in_channels: Bands of the image.
        classes: Channels of the logits.
        drop_path_rate: Stochastic depth of the last Swin block, increasing linearly from 0 at the first; 0 to 1.
        dropout: Share of the channels dropped before the classifier, 0 to 1.
        encoder_weights: `None` for random weights; `True` or "imagenet" for those the authors started from; a tag of
            timm's; or a local file in timm's or Microsoft's format. See `train.models.pretrained`.

    Raises:
        UserError: The weights are not available or don't match.
    """

    def __init__(
        self,
        variant: Literal["T", "S", "B"],
        in_channels: int,
        classes: int,
        drop_path_rate: float = 0.3,
        dropout: float = 0.1,
        encoder_weights: Weights = None,
    ) -> None:
        super().__init__()
        swin, width = VARIANTS[variant].swin, VARIANTS[variant].width
        channels = [width // 2, width, 2 * width, 4 * width, 8 * width]  # of the skips, finest first
        self.encoder = build_timm(
            swin,
            in_channels,
            encoder_weights,
            indices=range(4),
            keep_norm=False,  # each feature has its own norm, below
            strict_img_size=False,  # compute attention masks for the size of each image
            always_partition=True,  # otherwise windows and shifts would depend on timm's nominal image size
            drop_path_rate=drop_path_rate,
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels[1:])
        self.stem = Stem(in_channels, channels[0])
        self.decoder = Decoder(channels[::-1])
        classifier = nn.Conv2d(channels[0], classes, 1)
        self.segmentation_head = nn.Sequential(nn.Dropout2d(dropout), classifier)
        for part in (self.stem, self.decoder):
            part.apply(_initialise)
        nn.init.normal_(classifier.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image `(N, B, H, W)` of any size to logits `(N, C, H, W)`."""
        height, width = image.shape[-2:]
        image = pad_to_multiple(image, STRIDE)  # (N, B, H', W')
        skips = [self.stem(image)]  # (N, C/2, H'/2, W'/2)
        x = self.encoder.patch_embed(image)  # (N, H'/4, W'/4, C), channels last within Swin
        for stage, norm in zip(self.encoder.layers, self.norms, strict=True):
            x = stage(x)  # timm merges patches as a stage begins, so this is the feature before merging
            skips.append(norm(x).permute(0, 3, 1, 2))  # (N, C, H'/4, W'/4) ... (N, 8C, H'/32, W'/32)
        logits = self.segmentation_head(self.decoder(skips[::-1]))  # (N, classes, H'/2, W'/2)
        logits = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def _initialise(module: nn.Module) -> None:
    """Initialise convolutions for ReLUs as in He et al. 2015, doi:10.1109/ICCV.2015.123."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

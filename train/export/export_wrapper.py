"""Export wrapper: normalised pixels in, probabilities or logits out, with every operation exportable at any size."""

import copy
from typing import Any, Literal, cast

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import Tensor, nn

from train.model import AerialFormer, DINOv2Segmentation, SegmentationModel

Output = Literal["probabilities", "logits"]


class AdaptiveAveragePool(nn.Module):
    """Adaptive average pooling as two matrix products, so that an exported graph is right at every size.

    Exporters write `AdaptiveAvgPool2d(k)` as pooling with the window of the traced size, which gives wrong values at
    any other size without an error. The bins are PyTorch's: bin i of k over a side of n pixels is
    [floor(i n / k), ceil((i + 1) n / k)).

    Args:
        bins: Rows and columns of the result.
    """

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, features: Tensor) -> Tensor:
        """Average `(N, C, H, W)` over the bins: `(N, C, *bins)`."""
        height, width = features.shape[-2:]
        rows = self._weights(height, self.bins[0], features)
        columns = self._weights(width, self.bins[1], features)
        return rows @ features @ columns.transpose(0, 1)

    @staticmethod
    def _weights(side: int, bins: int, like: Tensor) -> Tensor:
        """Return the weights `(bins, side)`: each row averages one bin."""
        at = torch.arange(side, device=like.device)
        first = torch.arange(bins, device=like.device)[:, None] * side
        # Integers, since a rounded quotient could move a border: floor(a / k) <= x is a < (x + 1) k.
        inside = (first < (at + 1) * bins) & (first + side > at * bins)
        weights = inside.to(like.dtype)
        return weights / weights.sum(dim=1, keepdim=True)


class _PyramidPooling(nn.Module):
    """SMP's PSPBlock without its branch for exporters, which fixes the traced size."""

    def __init__(self, block: PSPBlock) -> None:
        super().__init__()
        self.pool = block.pool

    def forward(self, features: Tensor) -> Tensor:
        return F.interpolate(self.pool(features), size=features.shape[-2:], mode="bilinear", align_corners=True)


class ExportWrapper(nn.Module):
    """A trained network with its activation, in the form that is exported.

    Args:
        model: The model, in evaluation mode.
        output: Kind of output.
    """

    def __init__(self, model: SegmentationModel, output: Output) -> None:
        super().__init__()
        self.network = model.model
        self.run_network = model.run_network
        self.channels = model.config.num_classes
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised pixels `(N, bands, H, W)` float32 to probabilities or logits `(N, channels, H, W)`."""
        logits = self.run_network(self.network, image)
        if self.output == "logits":
            return logits
        return logits.sigmoid() if self.channels == 1 else logits.softmax(dim=1)

    def exportable(self) -> "ExportWrapper":
        """Return a copy in which every operation can be exported for any size."""
        return cast(ExportWrapper, _replace_layers(copy.deepcopy(self)).eval())


def _replace_layers(module: nn.Module) -> nn.Module:
    """Replace the layers that fix the traced size by exportable ones, at any depth, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size: Any = child.output_size
            rows, columns = (size, size) if isinstance(size, int) else size
            if rows is not None and columns is not None and (rows, columns) != (1, 1):
                setattr(module, name, AdaptiveAveragePool((rows, columns)))
            continue
        replaced = _replace_layers(child)
        setattr(module, name, _PyramidPooling(replaced) if isinstance(replaced, PSPBlock) else replaced)
    return module


def fixed_size_reason(model: SegmentationModel) -> str | None:
    """Return the reason why an export of a network is right at one size only; None where it is right at any size.

    The table behind this is `docs/export.md`, made by `benchmarks/export.py`. In addition every exported file is
    compared with its checkpoint at a second size.
    """
    if isinstance(model, AerialFormer):
        return "the export fixes the size of AerialFormer's attention windows"
    if isinstance(model.model, smp.DPT):
        return "the export fixes the size of DPT's position embeddings"
    if isinstance(model, DINOv2Segmentation) and "dinov3" in str(model.config.segmentation_config.backbone):
        return "the export fixes the size of DINOv3's rotary position embeddings"
    if name := _windowed_attention(model.model):
        return f"the export fixes the size of {name}'s attention"
    return None


def _windowed_attention(network: nn.Module) -> str | None:
    """Return the class name of the first module whose attention windows or biases depend on the image size."""
    kinds = ("WindowAttention", "SwinTransformer", "MaxxVit", "RelPosBias", "CoAt", "Hiera", "LeViT", "Levit")
    return next((kind for m in network.modules() if (kind := type(m).__name__).startswith(kinds)), None)

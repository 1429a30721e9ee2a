"""The network as it leaves the house: normalised pixels in, probabilities out, every operation exportable."""

import copy
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import Tensor, nn

from train.model import SegmentationModel

Output = Literal["probabilities", "logits"]


class BinAverage(nn.Module):
    """Adaptive average pooling as two matrix products, so that an exported graph is right at every size.

    Exporters write `AdaptiveAvgPool2d(k)` down as pooling with the window of the traced size: at any other size the
    answer is silently wrong. The bins are PyTorch's: bin i of k
    over a side of n is [floor(i n / k), ceil((i + 1) n / k)).

    Args:
        bins: Rows and columns of the result.
    """

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, features: Tensor) -> Tensor:
        """`(N, C, H, W)` to `(N, C, *bins)`."""
        height, width = features.shape[-2:]
        rows = self._weights(height, self.bins[0], features)
        columns = self._weights(width, self.bins[1], features)
        return rows @ features @ columns.transpose(0, 1)

    @staticmethod
    def _weights(side: int, bins: int, like: Tensor) -> Tensor:
        """`(bins, side)`: each row averages one bin."""
        at = torch.arange(side, device=like.device)
        first = torch.arange(bins, device=like.device)[:, None] * side
        # Integers, since a rounded quotient could move a border: floor(a / k) <= x is a < (x + 1) k.
        inside = (first < (at + 1) * bins) & (first + side > at * bins)
        weights = inside.to(like.dtype)
        return weights / weights.sum(dim=1, keepdim=True)


class _PyramidPooling(nn.Module):
    """SMP's PSPBlock without its branch for exporters, which pools at the traced size."""

    def __init__(self, block: PSPBlock) -> None:
        super().__init__()
        self.pool = block.pool

    def forward(self, features: Tensor) -> Tensor:
        return F.interpolate(self.pool(features), size=features.shape[-2:], mode="bilinear", align_corners=True)


class ExportedNetwork(nn.Module):
    """A trained model as others run it.

    Args:
        model: The model, in evaluation mode.
        output: Whether probabilities or logits come out.
    """

    def __init__(self, model: SegmentationModel, output: Output) -> None:
        super().__init__()
        self.network = model.model
        self.run_network = model.run_network
        self.channels = model.config.num_classes
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        """Normalised `(N, bands, H, W)` float32 to `(N, channels, H, W)`."""
        logits = self.run_network(self.network, image)
        if self.output == "logits":
            return logits
        return logits.sigmoid() if self.channels == 1 else logits.softmax(dim=1)

    def exportable(self) -> "ExportedNetwork":
        """A copy in which every operation can be written down for any size."""
        return cast(ExportedNetwork, _replaced(copy.deepcopy(self)).eval())


def _replaced(module: nn.Module) -> nn.Module:
    """Puts what can be exported in the place of what can't, at any depth."""
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size: Any = child.output_size
            rows, columns = (size, size) if isinstance(size, int) else size
            if rows is not None and columns is not None and (rows, columns) != (1, 1):
                setattr(module, name, BinAverage((rows, columns)))
            continue
        replaced = _replaced(child)
        setattr(module, name, _PyramidPooling(replaced) if isinstance(replaced, PSPBlock) else replaced)
    return module

"""Division of any encoder into a sequence of layers, for layer-wise learning rates and unfreezing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

MAX_LAYERS = 12
"""Largest number of layers, as in a ViT-Base; in deeper encoders a layer has several blocks."""


@dataclass(frozen=True)
class EncoderLayers:
    """Layers of an encoder, from its input to its output.

    Attributes:
        names: Names of the parameters of each layer, within the encoder; the first layer includes the stem.
    """

    names: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the index of the layer that a parameter belongs to."""
        return next(index for index, names in enumerate(self.names) if name in names)


def encoder_layers(encoder: nn.Module) -> EncoderLayers:
    """Divide an encoder into layers for fine-tuning (Clark et al. 2020, arXiv:2003.10555, for transformers).

    A layer is one block or, where there are more than `MAX_LAYERS` blocks, several consecutive ones, shared out evenly
    as in ConvNeXt (Liu et al. 2022, arXiv:2201.03545). Parameters before the first block (stem, position embeddings)
    belong to the first layer; those between blocks (such as downsampling) or after them belong to the block before.

    Args:
        encoder: Encoder of any family.
    """
    blocks = [name for name, _ in encoder_blocks(encoder)]
    parameters = [name for name, _ in encoder.named_parameters()]
    count = min(MAX_LAYERS, max(1, len(blocks)))
    names: list[list[str]] = [[] for _ in range(count)]
    current = 0
    # MiT lists the patch embeddings of all stages before all blocks: patch_embed3 belongs before block3.
    order = sorted(parameters, key=_stage) if "patch_embed2.proj.weight" in parameters else parameters
    for name in order:
        inside = [i for i, block in enumerate(blocks) if name.startswith(f"{block}.")]
        if inside:
            current = inside[0] * count // len(blocks)
        names[current].append(name)
    return EncoderLayers(tuple(tuple(layer) for layer in names))


def _stage(name: str) -> tuple[int, int]:
    found = re.match(r"(patch_embed|block|norm)(\d)\.", name)
    return (0, 0) if found is None else (int(found[2]), ("patch_embed", "block", "norm").index(found[1]))


def encoder_blocks(encoder: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of an encoder's repeated blocks, in the order of the data flow.

    Blocks are the innermost members of `nn.Sequential` and `nn.ModuleList` with at least two weight matrices or
    kernels; a convolution with its norm is no block, nor is a shortcut. An encoder without blocks, such as VGG, yields
    its single convolutions.
    """
    yield from list(_blocks(encoder, "", 2)) or list(_blocks(encoder, "", 1))


def _blocks(module: nn.Module, prefix: str, matrices: int) -> Iterator[tuple[str, nn.Module]]:
    sequence = isinstance(module, nn.Sequential | nn.ModuleList)
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inner = list(_blocks(child, f"{path}.", matrices))
        if inner:
            yield from inner
        elif sequence and sum(parameter.ndim >= 2 for parameter in child.parameters()) >= matrices:
            yield path, child

"""An encoder as a sequence of layers, whatever its architecture."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

MOST_LAYERS = 12
"""An encoder has at most as many layers, as a ViT-Base does; deeper ones have several blocks in each."""


@dataclass(frozen=True)
class Layers:
    """The layers of an encoder, from its input to its output.

    Attributes:
        names: Of each layer, the names of its parameters within the encoder; the first holds the stem as well.
    """

    names: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def of(self, name: str) -> int:
        """The layer, from 0, that a parameter belongs to."""
        return next(index for index, names in enumerate(self.names) if name in names)


def encoder_layers(encoder: nn.Module) -> Layers:
    """Cuts an encoder into layers, as fine-tuning knows them (Clark et al. 2020, arXiv:2003.10555, for transformers).

    A layer is a run of consecutive blocks: with more than `MOST_LAYERS` of them, they are put together evenly, as the
    authors of ConvNeXt do. What comes before the first block (stem, positions) is in the first layer; what stands
    between blocks (such as a change of resolution) or behind them is with the block before.
    """
    blocks = [name for name, _ in encoder_blocks(encoder)]
    parameters = [name for name, _ in encoder.named_parameters()]
    count = min(MOST_LAYERS, max(1, len(blocks)))
    names: list[list[str]] = [[] for _ in range(count)]
    current = 0
    # MiT lists the patch embeddings of all stages before all blocks: patch_embed3 belongs before block3.
    order = sorted(parameters, key=_stage) if "patch_embed2.proj.weight" in parameters else parameters
    for name in order:
        inside = [i for i, block in enumerate(blocks) if name.startswith(f"{block}.")]
        if inside:
            current = inside[0] * count // len(blocks)
        names[current].append(name)
    return Layers(tuple(tuple(layer) for layer in names))


def _stage(name: str) -> tuple[int, int]:
    found = re.match(r"(patch_embed|block|norm)(\d)\.", name)
    return (0, 0) if found is None else (int(found[2]), ("patch_embed", "block", "norm").index(found[1]))


def encoder_blocks(encoder: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The repeated blocks of an encoder in the order of its data flow: the innermost members of its sequences.

    A block has at least two layers with a matrix of weights: a convolution with its norm is none, nor is a shortcut.
    Where there is no block, as in VGG, its single convolutions are meant.
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

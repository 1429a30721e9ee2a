"""Staged unfreezing: which part of the encoder is trained from which epoch on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from train.optim.layers import encoder_layers

Unfrozen = Literal["decoder", "all"] | int


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Attributes:
        epoch: The first epoch of it, from 0.
        unfreeze: `decoder`: the encoder is frozen; n: but for its last n layers; `all`: nothing is.
        lr: Highest learning rate of the stage.
    """

    epoch: int
    unfreeze: Unfrozen
    lr: float


def stage_at(stages: Sequence[Stage], epoch: float) -> int:
    """Which stage an epoch belongs to; `epoch` may lie within one."""
    # Steps are whole and epochs are shares of them: a rounding must not put an epoch's first step into the one before.
    return max(i for i, stage in enumerate(stages) if stage.epoch <= epoch + 1e-9)


def set_trainable(encoder: nn.Module, unfreeze: Unfrozen) -> list[nn.Module]:
    """Freezes an encoder but for what a stage trains.

    Returns:
        Modules that are frozen as a whole: they belong in evaluation mode, so that norms keep their statistics and
        nothing is dropped.
    """
    names = dict(encoder.named_parameters())
    if unfreeze == "all":
        trained = set(names)
    elif unfreeze == "decoder":
        trained = set()
    else:
        layers = encoder_layers(encoder)
        trained = {name for layer in layers.names[max(0, len(layers) - int(unfreeze)) :] for name in layer}
    for name, parameter in names.items():
        parameter.requires_grad_(name in trained)
    if not trained:
        return [encoder]
    frozen = []
    for module in encoder.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            frozen.append(module)
    return frozen

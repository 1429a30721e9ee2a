"""Staged unfreezing: the trained part of the encoder changes from stage to stage of training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from train.optim.layers import encoder_layers

Unfreeze = Literal["decoder", "all"] | int


@dataclass(frozen=True)
class UnfreezingStage:
    """Stage of fine-tuning.

    Attributes:
        epoch: First epoch of the stage, from 0.
        unfreeze: `decoder` trains the decoder only, n also the last n layers of the encoder, `all` the whole network.
        lr: Highest learning rate of the stage.
    """

    epoch: int
    unfreeze: Unfreeze
    lr: float


def stage_at(stages: Sequence[UnfreezingStage], epoch: float) -> int:
    """Return the index of the stage that an epoch, whole or fractional, belongs to."""
    # Fractional epochs are computed from steps; rounding must not put the first step of an epoch into the one before.
    return max(i for i, stage in enumerate(stages) if stage.epoch <= epoch + 1e-9)


def set_trainable(encoder: nn.Module, unfreeze: Unfreeze) -> list[nn.Module]:
    """Freeze the parameters of an encoder, except those that a stage trains.

    Args:
        encoder: Encoder, modified in place.
        unfreeze: See `UnfreezingStage`.

    Returns:
        Modules all of whose parameters are frozen. Put them into evaluation mode, so that norm layers keep their
        statistics and dropout is off.
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

"""Groups of parameters for the optimiser, and learning rate schedules."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from train.configs.registries.schedules import SCHEDULES
from train.optim.layers import encoder_layers
from train.optim.unfreezing import Stage, stage_at


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Group the parameters of a network for AdamW, with no weight decay on norms, biases and positions.

    Args:
        network: Network with an `encoder`.
        lr: Learning rate of the decoder.
        weight_decay: Weight decay of matrices and kernels.
        layer_decay: Learning rate of the encoder's last layer over the decoder's, of the layer before over that, and so
            on (Clark et al. 2020, arXiv:2003.10555); None: one rate for all.

    Returns:
        Groups with `params`, `lr` and `weight_decay`; the decoder's first. Frozen parameters are in them too: without
        a gradient they are passed over, and the state fits whatever is frozen.
    """
    encoder = network.encoder
    layers = encoder_layers(encoder) if layer_decay is not None else None  # type: ignore[arg-type]
    rates = {}
    for name, parameter in encoder.named_parameters():  # type: ignore[union-attr]
        depth = 0 if layers is None else len(layers) - layers.index(name)
        rates[id(parameter)] = lr * (layer_decay or 1.0) ** depth
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(lr, weight_decay): [], (lr, 0.0): []}
    for name, parameter in network.named_parameters():
        decay = 0.0 if parameter.ndim <= 1 or _is_position(name) else weight_decay
        groups.setdefault((rates.get(id(parameter), lr), decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _is_position(name: str) -> bool:
    return name.endswith(("pos_embed", "cls_token", "reg_token", "mask_token", "relative_position_bias_table"))


def learning_rate(schedule: str, warmup: float) -> Callable[[float], float]:
    """Return the learning rate as a share of its highest value, as a function of the share of training that is done.

    Args:
        schedule: Key of `train.configs.registries.schedules.SCHEDULES`.
        warmup: Share of training in which it rises, in [0, 1).
    """
    shape = SCHEDULES[schedule].load()
    return lambda done: shape(done, warmup)


def onecycle(done: float, warmup: float) -> float:
    """Rise by half a cosine from 1/25, fall by half a cosine to 1/250000."""
    if done < warmup:
        return _half_cosine(1 / 25, 1.0, done / warmup)
    return _half_cosine(1.0, 1 / 250_000, _rest(done, warmup))


def cosine(done: float, warmup: float) -> float:
    """Rise linearly, fall by half a cosine to 0."""
    return _rise(done, warmup) if done < warmup else _half_cosine(1.0, 0.0, _rest(done, warmup))


def poly(done: float, warmup: float) -> float:
    """Rise linearly, fall linearly to 0."""
    return _rise(done, warmup) if done < warmup else 1.0 - _rest(done, warmup)


def constant(done: float, warmup: float) -> float:
    """Rise linearly, then stay."""
    return _rise(done, warmup) if done < warmup else 1.0


def _rise(done: float, warmup: float) -> float:
    return max(1e-6, done / warmup)  # never 0: the first step should count


def _rest(done: float, warmup: float) -> float:
    return (done - warmup) / (1 - warmup)


def _half_cosine(begin: float, finish: float, x: float) -> float:
    return finish + (begin - finish) * (1 + math.cos(math.pi * x)) / 2


def staged(
    factor: Callable[[float], float], stages: Sequence[Stage], lr: float, epochs: int
) -> Callable[[float], float]:
    """Repeat a schedule in every stage of fine-tuning, up to that stage's own highest value.

    Args:
        factor: Schedule, see `learning_rate`.
        stages: Stages in the order of their first epochs.
        lr: Learning rate that the result is a share of.
        epochs: Number of epochs of the whole training.
    """
    ends = [*(stage.epoch for stage in stages[1:]), epochs]

    def over_all(done: float) -> float:
        at = stage_at(stages, done * epochs)
        begin, end = stages[at].epoch, ends[at]
        share = (done * epochs - begin) / (end - begin) if end > begin else 1.0  # begun with the very last step
        return stages[at].lr / lr * factor(min(1.0, max(0.0, share)))

    return over_all


def held(factor: Callable[[float], float], epoch: int, share: float | None, epochs: int) -> Callable[[float], float]:
    """Hold a schedule from an epoch on, for averaging weights (Izmailov et al. 2018, arXiv:1803.05407).

    Args:
        factor: Schedule, see `learning_rate`.
        epoch: First epoch in which it is held, counted from 0.
        share: Value that it is held at, reached by half a cosine within that epoch; None: its value by then.
        epochs: Number of epochs of the whole training.
    """
    begin = epoch / epochs
    level = factor(begin)
    end = level if share is None else share

    def over_all(done: float) -> float:
        if done < begin:
            return factor(done)
        x = min(1.0, (done - begin) * epochs)
        return _half_cosine(level, end, x)

    return over_all

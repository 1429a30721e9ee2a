"""How a model is optimised: groups of parameters, and the way of the learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from train.optim.layers import encoder_layers
from train.optim.unfreezing import Stage, stage_at


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """The parameters of a network for AdamW; no weight decay on norms, biases and positions.

    Args:
        network: With an `encoder`, and a decoder around it.
        lr: Of the decoder.
        weight_decay: Of matrices and kernels.
        layer_decay: The learning rate of the encoder's last layer is this times the decoder's, that of the layer before
            this times that, and so on (Clark et al. 2020, arXiv:2003.10555); null: one rate for all.

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
    """The learning rate as a share of its highest value, over the share of training that is done.

    Args:
        schedule: onecycle: both flanks are half cosines, from 1/25 and down to 1/250000 (Smith and Topin,
            arXiv:1708.07120, as in PyTorch's OneCycleLR). cosine: a straight rise, then half a cosine down to 0
            (Loshchilov and Hutter, arXiv:1608.03983). poly: a straight rise, then a straight fall to 0 (power 1, as
            AerialFormer and Swin have it). constant: a straight rise, then 1.
        warmup: Share of training in which it rises.
    """
    start, end = {"onecycle": (1 / 25, 1 / 250_000), "constant": (0.0, 1.0)}.get(schedule, (0.0, 0.0))

    def half_cosine(begin: float, finish: float, x: float) -> float:
        return finish + (begin - finish) * (1 + math.cos(math.pi * x)) / 2

    def factor(done: float) -> float:
        if done < warmup:
            rise = done / warmup
            # Never 0: the first step should count.
            return half_cosine(start, 1.0, rise) if schedule == "onecycle" else max(1e-6, rise)
        rest = (done - warmup) / (1 - warmup)
        if schedule in {"onecycle", "cosine"}:
            return half_cosine(1.0, end, rest)
        return 1.0 + (end - 1.0) * rest

    return factor


def staged(
    factor: Callable[[float], float], stages: Sequence[Stage], lr: float, epochs: int
) -> Callable[[float], float]:
    """A learning rate that goes its whole way in every stage, up to that stage's own highest value.

    Args:
        factor: See `learning_rate`.
        stages: By their first epoch.
        lr: What the result is a share of.
        epochs: Of the whole training.
    """
    ends = [*(stage.epoch for stage in stages[1:]), epochs]

    def over_all(done: float) -> float:
        at = stage_at(stages, done * epochs)
        begin, end = stages[at].epoch, ends[at]
        share = (done * epochs - begin) / (end - begin) if end > begin else 1.0  # begun with the very last step
        return stages[at].lr / lr * factor(min(1.0, max(0.0, share)))

    return over_all


def held(factor: Callable[[float], float], epoch: int, share: float | None, epochs: int) -> Callable[[float], float]:
    """A learning rate that is held from an epoch on, as averaging weights wants it (Izmailov et al., arXiv:1803.05407).

    Args:
        factor: See `learning_rate`.
        epoch: From which on, counted from 0.
        share: What it is held at, to which it goes by half a cosine within that epoch; None: what it is by then.
        epochs: Of the whole training.
    """
    begin = epoch / epochs
    level = factor(begin)
    end = level if share is None else share

    def over_all(done: float) -> float:
        if done < begin:
            return factor(done)
        x = min(1.0, (done - begin) * epochs)
        return end + (level - end) * (1 + math.cos(math.pi * x)) / 2

    return over_all

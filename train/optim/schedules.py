"""Learning rate schedules: as a share of the highest learning rate, over the share of training that is done."""

import math
from collections.abc import Callable, Sequence

from train.configs.registries.schedules import SCHEDULES
from train.optim.unfreezing import UnfreezingStage, stage_at


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


def restart_per_stage(
    factor: Callable[[float], float], stages: Sequence[UnfreezingStage], lr: float, epochs: int
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


def hold_from_epoch(
    factor: Callable[[float], float], epoch: int, share: float | None, epochs: int
) -> Callable[[float], float]:
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

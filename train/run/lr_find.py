"""`python -m train CONFIG --lr-find`: the loss over a rising learning rate, which shows at which rate training learns.

The learning rate range test (Smith 2017, arXiv:1506.01186): from the first step to the last the rate rises
exponentially, the loss falls, and at some point it rises again. Nothing of it is kept but a picture and a table.
"""

import csv
import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.files import write_text
from inference.common.progress import progress
from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.bare_loop import Trial
from train.run.callbacks import say
from train.run.figures import rate_curve
from train.run.fit import build_model, settle
from train.run.results import explained

LOWEST, HIGHEST = 1e-7, 1.0
STEPS = 100
"""Optimiser steps; `trainer.max_steps` is taken in their place."""
_WIDTH = 0.04  # of the smoothing, as a share of all steps
_HOPELESS = 4.0  # times the lowest loss, both means of some steps: the rest of the way would tell nothing more
_SOME = 5


@dataclass(frozen=True)
class Suggestion:
    """What a curve says.

    Attributes:
        steepest: Learning rate at which the loss falls fastest.
        end: Learning rate at which that fall ends: the loss rises there for the first time.
    """

    steepest: float
    end: float


def find_learning_rate(config: Config, notices: Sequence[str]) -> str:
    """Runs the test, and writes `SAVE_DIR/PROJECT/NAME-lr_find-TIMESTAMP.png` and `.csv`.

    Returns:
        What to tell the user.

    Raises:
        UserError: Data, weights or hardware don't fit the config, or the folder can't be written to.
    """
    for notice in notices:
        say(f"note: {notice}")
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    data = DataModule(config)
    data.prepare()
    for notice in data.notices:
        say(f"note: {notice}")
    config = settle(config, data, say)
    model = build_model(config, data, pretrained=True)
    picture = _picture(config)
    steps = config.trainer.max_steps if config.trainer.max_steps > 0 else STEPS
    with explained(config):
        rates, losses = range_test(config, data, model, steps)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["lr", "loss"])
    rows.writerows([f"{rate:.6g}", f"{loss:.6g}"] for rate, loss in zip(rates, losses, strict=True))
    write_text(picture.with_suffix(".csv"), table.getvalue())
    found = suggest(rates, losses)
    smooth = smoothed(losses)
    rate_curve(rates, losses, smooth, None if found is None else found.steepest, config.segmentation_config.lr, picture)
    return _report(config, rates, losses, found, picture)


def _picture(config: Config) -> Path:
    folder = Path(config.logging.save_dir).expanduser() / config.logging.project
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be written to: {error.strerror} (logging.save_dir)") from None
    return folder / f"{config.logging.name}-lr_find-{datetime.now().strftime('%Y%m%d-%H%M%S')}.png"


def _report(
    config: Config, rates: NDArray[np.float64], losses: NDArray[np.float64], found: Suggestion | None, picture: Path
) -> str:
    own = config.segmentation_config.lr
    lines = [f"learning rates  {rates[0]:.1e} to {rates[-1]:.1e} in {len(rates)} steps"]
    if found is None:
        lines.append(f"no suggestion   the loss, {losses[0]:.4f} at first, doesn't fall clearly at any of them")
    else:
        lines.append(f"steepest fall   {found.steepest:.1e}")
        lines.append(f"the fall ends   {found.end:.1e}")
    lines.append(f"picture         {picture}")
    if found is not None:
        lines += ["", f"suggestion: segmentation_config.lr={found.steepest:.1e} (the config has {own:g})"]
    return "\n".join(lines)


def range_test(
    config: Config, data: DataModule, model: SegmentationModel, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Trains with a rising learning rate, all groups of parameters at their own share of it.

    Args:
        config: Its optimiser, precision, batches and recipes are those of a run; averaging and compilation are left out.
        data: Prepared.
        model: Is worthless afterwards.
        steps: Optimiser steps from the lowest to the highest rate; fewer are taken where the loss is beyond hope.

    Returns:
        Learning rates of the decoder, (n,), and the loss of each step, (n,), all finite.
    """  # noqa: E501
    trial = Trial(config, model)
    shares = [group["lr"] / config.segmentation_config.lr for group in trial.optimizer.param_groups]
    batches = _batches(data)
    every = config.trainer.accumulate_grad_batches
    rates: list[float] = []
    losses: list[float] = []
    means: list[float] = []
    for step in progress(range(steps), steps, "raising the learning rate"):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(1, steps - 1))
        for group, share in zip(trial.optimizer.param_groups, shares, strict=True):
            group["lr"] = rate * share
        together = sum(trial.backward(next(batches), 1 / every) for _ in range(every))
        if not math.isfinite(together):
            break
        rates.append(rate)
        losses.append(together)
        means.append(sum(losses[-_SOME:]) / len(losses[-_SOME:]))
        if len(means) > _SOME and means[-1] > _HOPELESS * min(means[_SOME - 1 :]):
            break
        trial.step()
    if not rates:
        raise UserError(f"segmentation_config.loss: the first step's loss is {together}, no finite number")
    return np.array(rates), np.array(losses)


def _batches(data: DataModule) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of the train split, epoch after epoch."""
    loader = data.train_dataloader()
    epoch = 0
    while True:
        cast(Any, loader.batch_sampler).set_epoch(epoch)
        yield from cast(Any, loader)
        epoch += 1


def smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve, (n,), each value a mean of its neighbours with Gaussian weights, in steps."""
    at = np.arange(len(losses))
    weights = np.exp(-(((at[:, None] - at) / max(0.5, _WIDTH * len(losses))) ** 2) / 2)
    mean: NDArray[np.float64] = weights @ losses / weights.sum(axis=1)
    return mean


def suggest(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> Suggestion | None:
    """Where the smoothed curve falls most steeply on its way to its lowest point.

    Args:
        rates: Learning rates, (n,), each a constant times the one before.
        losses: Loss at each.

    Returns:
        None where the fall can't be told from the losses' own scatter.
    """
    if len(losses) < 10:
        return None
    smooth = smoothed(losses)
    lowest = int(np.argmin(smooth))
    high = smooth[: lowest + 1].max()
    scatter = float(np.std(np.diff(losses[: max(lowest, 10)]))) / math.sqrt(2)
    if high - smooth[lowest] <= 2 * scatter or lowest < 2:
        return None
    slope = np.gradient(smooth)
    steepest = int(np.argmin(slope[:lowest]))
    end = (
        steepest + int(np.argmax(slope[steepest : lowest + 1] >= 0)) if (slope[steepest:lowest] >= 0).any() else lowest
    )
    return Suggestion(float(rates[steepest]), float(rates[end]))

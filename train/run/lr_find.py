"""`python -m train CONFIG --lr-find`: the learning rate range test (Smith 2017, arXiv:1506.01186).

The learning rate rises exponentially from step to step; the loss falls and at some point rises again. The steepest fall
suggests a learning rate. A figure and a table are written; the trained weights are discarded.
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
from inference.common.paths import user_path
from inference.common.progress import progress
from inference.common.targets import make_folder
from train.configs.config import Config
from train.data.labelled_images import LabelledImages
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.errors import translate_errors
from train.run.figures import lr_curve
from train.run.fit import build_model, resolve_auto_values
from train.run.manual_loop import ManualLoop
from train.run.preflight import check_run
from train.run.progress import print_message

LOWEST, HIGHEST = 1e-7, 1.0
"""Learning rates of the first and the last step."""
STEPS = 100
"""Number of optimiser steps, unless `trainer.max_steps` is given."""
_SMOOTHING = 0.04  # standard deviation, as a share of all steps
_DIVERGED = 4.0  # the test stops when the mean loss of some steps is this many times the lowest such mean
_MEAN_STEPS = 5


@dataclass(frozen=True)
class Suggestion:
    """Learning rates read from a curve.

    Attributes:
        steepest: Learning rate at which the loss falls fastest.
        end: Learning rate at which that fall ends: from there the loss rises for the first time.
    """

    steepest: float
    end: float


def find_learning_rate(config: Config, notices: Sequence[str], images: LabelledImages) -> str:
    """Run the test, and write `SAVE_DIR/PROJECT/NAME-lr_find-TIMESTAMP.png` and `.csv`.

    Args:
        config: Resolved config.
        notices: Notices about how the config was read, to be shown to the user.
        images: Images of the config, prepared.

    Returns:
        The report for the user.

    Raises:
        UserError: Data, weights or hardware don't fit the config, or the folder can't be written to.
    """
    for notice in notices:
        print_message(f"note: {notice}")
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    data = DataModule(config, images)
    data.prepare()
    config = data.config
    for notice in data.notices:
        print_message(f"note: {notice}")
    config = resolve_auto_values(config, data, print_message)
    model = build_model(config, data, pretrained=True)
    check_run(config, data, model)
    picture = _picture(config)
    steps = config.trainer.max_steps if config.trainer.max_steps > 0 else STEPS
    with translate_errors(config):
        rates, losses = range_test(config, data, model, steps)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["lr", "loss"])
    rows.writerows([f"{rate:.6g}", f"{loss:.6g}"] for rate, loss in zip(rates, losses, strict=True))
    write_text(picture.with_suffix(".csv"), table.getvalue())
    found = suggest(rates, losses)
    smooth = smoothed(losses)
    lr_curve(rates, losses, smooth, None if found is None else found.steepest, config.segmentation_config.lr, picture)
    return _report(config, rates, losses, found, picture)


def _picture(config: Config) -> Path:
    """Return the path of the figure, in a folder that exists."""
    folder = make_folder(
        user_path(config.logging.save_dir, "logging.save_dir") / config.logging.project, "logging.save_dir"
    )
    return folder / f"{config.logging.name}-lr_find-{datetime.now().strftime('%Y%m%d-%H%M%S')}.png"


def _report(
    config: Config, rates: NDArray[np.float64], losses: NDArray[np.float64], found: Suggestion | None, picture: Path
) -> str:
    own = config.segmentation_config.lr
    lines = [f"learning rates  {rates[0]:.1e} to {rates[-1]:.1e} in {len(rates)} steps"]
    if found is None:
        lines.append(f"no suggestion   the loss starts at {losses[0]:.4f} and does not clearly fall at any of them")
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
    """Train with a rising learning rate; each parameter group keeps its ratio to that of the decoder.

    Args:
        config: Resolved config; training is as in a run, without weight averaging and compilation.
        data: Prepared data module.
        model: Model to train. Modified in place; do not reuse.
        steps: Optimiser steps from the lowest to the highest rate; fewer are taken where the loss diverges.

    Returns:
        Learning rates of the decoder, (n,), and the loss of each step, (n,), all finite.

    Raises:
        UserError: The loss of the first step is not finite.
    """
    loop = ManualLoop(config, model)
    ratios = [group["lr"] / config.segmentation_config.lr for group in loop.optimizer.param_groups]
    batches = _batches(data)
    every = config.trainer.accumulate_grad_batches
    rates: list[float] = []
    losses: list[float] = []
    means: list[float] = []
    for step in progress(range(steps), steps, "raising the learning rate"):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(1, steps - 1))
        for group, ratio in zip(loop.optimizer.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio
        loss = sum(loop.backward(next(batches), 1 / every) for _ in range(every))
        if not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        means.append(sum(losses[-_MEAN_STEPS:]) / len(losses[-_MEAN_STEPS:]))
        if len(means) > _MEAN_STEPS and means[-1] > _DIVERGED * min(means[_MEAN_STEPS - 1 :]):
            break
        loop.step()
    if not rates:
        raise UserError(f"segmentation_config.loss: the loss of the first step is {loss}, not a finite number")
    return np.array(rates), np.array(losses)


def _batches(data: DataModule) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of the train split, epoch after epoch."""
    loader = data.train_dataloader()
    epoch = 0
    while True:
        cast(Any, loader.batch_sampler).set_epoch(epoch)
        yield from cast(Any, loader)
        epoch += 1


def smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a curve, (n,), smoothed by a mean over neighbouring steps with Gaussian weights."""
    at = np.arange(len(losses))
    weights = np.exp(-(((at[:, None] - at) / max(0.5, _SMOOTHING * len(losses))) ** 2) / 2)
    mean: NDArray[np.float64] = weights @ losses / weights.sum(axis=1)
    return mean


def suggest(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> Suggestion | None:
    """Find where the smoothed curve falls most steeply on its way to its lowest point.

    Args:
        rates: Learning rates, (n,), each a constant times the one before.
        losses: Loss at each learning rate, (n,).

    Returns:
        The suggestion; None where the fall is no larger than the scatter of the losses.
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

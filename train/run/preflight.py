"""Checks before a run: everything that training would refuse later is refused in its first second, and by `--check`.

The numbers of batches follow Lightning's own rules (`FitLoop.setup_data`, `_parse_num_batches`), so that an epoch in
the middle of a night doesn't find out.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from inference.common.errors import UserError, first_line
from inference.common.text import clean_line
from train.configs.config import Config
from train.data.datasets import GridBatchSampler, TrainBatchSampler
from train.data.windows import batches
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.errors import translate_errors
from train.run.trainer import trainer_devices


def check_run(config: Config, data: DataModule, model: SegmentationModel) -> None:
    """Check devices, numbers of batches and the network, before a run writes anything.

    Args:
        config: Resolved config, without `auto`.
        data: Prepared data module.
        model: Model; not changed.

    Raises:
        UserError: Training would be refused, now or later.
    """
    world = trainer_devices(config).world
    if world > 1:
        _check_strategy(config)
    number = check_batches(config, data, world)
    smallest = min(len(batch) for batch in batches(data.windows_per_epoch, config.batch, world)[0][:number])
    check_network(config, model, smallest)


def check_batches(config: Config, data: DataModule, world: int) -> int:
    """Check that each phase has a batch, and that validation comes within an epoch.

    Args:
        config: Resolved config, without `auto`.
        data: Prepared data module.
        world: Number of devices, over all machines.

    Returns:
        Number of training batches of an epoch on each device.

    Raises:
        UserError: A share of the batches is less than one, or an epoch ends before the first validation.
    """
    trainer, windows = config.trainer, data.windows_per_epoch
    found = {"train": len(TrainBatchSampler(windows, config.batch, 0, world))}
    for split in data.scenes.keys() - {"train"}:
        found[split] = len(GridBatchSampler(len(data.grid_dataset(split)), config.batch, 0, world))
    limits = {split: getattr(trainer, f"limit_{split}_batches") for split in found}
    used = {split: limited_batches(found[split], limits[split]) for split in found}
    problems = [
        f"trainer.limit_{split}_batches: {limits[split]} of {_batches(count)} is less than one (allowed: "
        f"{math.ceil(1e4 / count) / 1e4:g} to 1.0, or a number of batches such as 1)"
        for split, count in sorted(found.items())
        if used[split] == 0 and limits[split] > 0
    ]
    every, number = trainer.val_check_interval, used["train"]
    if isinstance(every, int) and 0 < number < every and trainer.limit_val_batches > 0:
        devices = f" on each of {world} devices" if world > 1 else ""
        kept = f", of which limit_train_batches keeps {number}" if number < found["train"] else ""
        problems.append(
            f"trainer.val_check_interval: {every} batches is more than an epoch has ({windows} windows in batches of "
            f"{config.batch} are {_batches(found['train'])}{devices}{kept}; allowed: 1 to {number}, or a fraction of "
            "an epoch such as 0.5)"
        )
    if problems:
        raise UserError("\n".join(problems))
    return number


def limited_batches(count: int, limit: float) -> int:
    """Return how many batches Lightning takes: at most `limit`, or that share of them where it is a float."""
    return min(count, limit) if isinstance(limit, int) else int(count * limit)


def _batches(count: int) -> str:
    return f"{count} batch{'' if count == 1 else 'es'}"


def _check_strategy(config: Config) -> None:
    """Check that the strategy allows the set of trained parameters to change: DDP fixes it at the start by default."""
    if config.segmentation_config.finetune and config.trainer.strategy != "ddp_find_unused_parameters_true":
        raise UserError(
            "segmentation_config.finetune: with several devices it needs trainer.strategy: "
            "ddp_find_unused_parameters_true, because the trained parameters change from stage to stage"
        )


def check_network(config: Config, model: SegmentationModel, batch: int) -> None:
    """Check that the network can process a training batch at the tile size.

    Only shapes are computed at first (PyTorch's device `meta`), which takes a tenth of a second at any size. Some
    operations have no such form: a failure counts if it occurs with numbers, too.

    Args:
        config: Resolved config.
        model: Model; not changed.
        batch: Number of windows.

    Raises:
        UserError: It can't.
    """
    training = model.training
    model.train()
    try:
        for device in ("meta", "cpu"):
            error = _failure(model, (batch, config.num_bands, config.tile_size, config.tile_size), device)
            if error is None:
                return
    finally:
        model.train(training)
    assert error is not None
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        if config.batch_size == 1:
            raise UserError("batch_size: this network normalises over a single pixel, which needs batches of 2 or more")
        with translate_errors(config):
            raise error
    settings = config.segmentation_config
    raise UserError(
        f"tile_size: {settings.architecture} on {settings.backbone} can't process {batch} "
        f"window{'' if batch == 1 else 's'} of {config.tile_size} px: {clean_line(first_line(error), 300)} (choose "
        "another tile_size, architecture or opts)"
    )


def _failure(model: SegmentationModel, shape: tuple[int, ...], device: str) -> Exception | None:
    """Return the error of one forward pass with copies of the model's buffers; None where it succeeds."""
    state: Mapping[str, Tensor] = {
        name: tensor.detach().to(device, copy=True)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            functional_call(model, dict(state), (torch.zeros(shape, device=device),))
    except Exception as error:  # networks raise errors of any kind
        return error
    return None

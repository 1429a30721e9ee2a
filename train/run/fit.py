"""Training from a config: one straight list of steps."""

import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only

from inference.common.errors import UserError
from train.configs.config import Config
from train.data.class_weights import wants_class_weights, with_class_weights
from train.datamodule import DataModule
from train.model import MODELS, SegmentationModel
from train.optim.precision import native_precision
from train.run.auto_batch import with_batch_size
from train.run.callbacks import Bar, Interrupted, MetricsTable, ProgressLines, Speed, StopOnInterrupt, say
from train.run.card import model_card
from train.run.checkpoints import LAST, AtomicCheckpointIO, Checkpoints, read_checkpoint
from train.run.folder import RunFolder, forget_run, new_run
from train.run.results import RunResult, draw_windows, explained, finish
from train.run.wandb import Tracker


def train(config: Config, notices: Sequence[str] = (), resume: RunFolder | None = None) -> RunResult:
    """Trains a model, and judges its best checkpoint on the test split.

    Args:
        config: What to train on what.
        notices: What the user should know of how the config was read.
        resume: The folder of a run to go on with.

    Raises:
        UserError: Data, weights or hardware don't fit the config.
        Interrupted: The user pressed Ctrl-C; `last.ckpt` holds the state.
    """
    began = time.monotonic()
    rank: int = getattr(rank_zero_only, "rank", 0)
    tell: Callable[[str], None] = say if rank == 0 else lambda line: None
    _quieten()
    for notice in notices:
        tell(f"note: {notice}")
    _seed(config.seed)

    data = DataModule(config)
    data.prepare()
    for notice in data.notices:
        tell(f"note: {notice}")
    config = settle(config, data, tell)
    last = _state(resume) if resume is not None else None
    model = build_model(config, data, pretrained=last is None)
    if config.trainer.channels_last:
        model.model.to(memory_format=torch.channels_last)

    folder = resume or new_run(config, rank)
    _check_interval(config, data)
    trainer, checkpoints, table, stop = _trainer(config, folder, tell, rank)
    if trainer.world_size > 1:
        _check_stages(config)
        model.freeze_unreached()
    try:
        if rank == 0:
            folder.write_config(config)
            tell(f"run {folder.path}")
            if config.data_module.preview_augmentations and resume is None:
                tell(f"what the network sees: {draw_windows(data, folder)}")
        table.tracker = Tracker(config, folder, tell) if _logs(config) and rank == 0 else None
        with explained(config):
            trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
        if stop.asked:
            raise Interrupted
        return finish(config, folder, trainer, model, data, checkpoints, table, began)
    except Interrupted:
        _close(table.tracker, 130)
        raise Interrupted(str(folder.path)) from None
    except BaseException as error:
        _close(table.tracker, 1)
        if isinstance(error, UserError) and resume is None and rank == 0 and not any(folder.checkpoints.iterdir()):
            shutil.rmtree(folder.path)
        raise
    finally:
        forget_run()


def settle(config: Config, data: DataModule, tell: Callable[[str], None]) -> Config:
    """Puts numbers in the place of what a config leaves to the data and the machine.

    Args:
        config: The config.
        data: Prepared; takes the numbers over.
        tell: Takes lines for the user.
    """
    if wants_class_weights(config):
        config, notice = with_class_weights(config, data)
        tell(f"note: {notice}")
    if config.batch_size == "auto":
        config, notice = with_batch_size(config, data, build_model(config, data, pretrained=False))
        tell(f"note: {notice}")
        _seed(config.seed)  # as if the number had stood there
    return config


def build_model(config: Config, data: DataModule, pretrained: bool) -> SegmentationModel:
    """The model of a config for a data set that has been prepared."""
    card = model_card(config, data)
    return MODELS[config.segmentation_model_cls](config.plain(), card.model_dump(mode="json"), pretrained=pretrained)


def _logs(config: Config) -> bool:
    return config.enable_logging and config.logging.mode != "disabled"


def _close(tracker: Tracker | None, code: int) -> None:
    if tracker is not None:
        tracker.close(code)


def _quieten() -> None:
    """Lightning's hints speak of its own interface, which our users don't see."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        r".*does not have many workers.*",
        r".*is smaller than the logging interval.*",
        r".*your dataloader is not resumable.*",  # ours is: windows are a function of epoch and index
        r".*ended before the epoch ended.*",
        r".*Checkpoint directory .* exists.*",
        r".*LeafSpec.*",
        r".*in eval mode at the start of training.*",  # a frozen encoder
        r".*`_get_pl_dtype`.*",
        r".*GPU available but not used.*",
        r".*lr_scheduler\.step\(\).*before.*optimizer\.step.*",  # a float16 step that was skipped
    ):
        warnings.filterwarnings("ignore", message)


def _seed(seed: int) -> None:
    import random

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still use the global generator
    torch.manual_seed(seed)


def _state(folder: RunFolder) -> Path:
    """`last.ckpt` of a run, read once to be sure that it is whole."""
    last = folder.checkpoints / LAST
    if not last.is_file():
        found = ", ".join(sorted(p.name for p in folder.checkpoints.glob("*.ckpt"))) or "none"
        raise UserError(f"{last}: no such file, so there is nothing to go on from (checkpoints: {found})")
    read_checkpoint(last)
    return last


def _check_stages(config: Config) -> None:
    """Several devices are told at the start which gradients to exchange."""
    if config.segmentation_config.finetune and config.trainer.strategy != "ddp_find_unused_parameters_true":
        raise UserError(
            "segmentation_config.finetune: with several devices it needs trainer.strategy: "
            "ddp_find_unused_parameters_true, because what is trained changes"
        )


def _check_interval(config: Config, data: DataModule) -> None:
    """Whether an epoch has as many batches as are asked for between validations."""
    windows = data.windows_per_epoch
    batches = math.ceil(windows / config.batch)
    every = config.trainer.val_check_interval
    if isinstance(every, int) and every > batches:
        raise UserError(
            f"trainer.val_check_interval: {every} batches is more than an epoch has ({windows} windows in batches of "
            f"{config.batch} are {batches}; allowed: 1 to {batches}, or a share such as 0.5)"
        )


def _trainer(
    config: Config, folder: RunFolder, tell: Callable[[str], None], rank: int
) -> tuple[L.Trainer, Checkpoints, MetricsTable, StopOnInterrupt]:
    settings = config.trainer
    precision, notice = native_precision(settings.precision, settings.accelerator)
    if notice:
        tell(f"note: {notice}")
    validates = settings.limit_val_batches != 0
    checkpoints = Checkpoints(config.checkpoint, folder.checkpoints, validates)
    table = MetricsTable(folder.metrics)
    stop = StopOnInterrupt(checkpoints, tell)
    callbacks: list[L.Callback] = [table, ProgressLines(checkpoints, tell), stop, checkpoints]
    if config.segmentation_config.gradient_checkpointing or settings.compile:
        callbacks.append(Speed(config, tell))
    if config.early_stopping is not None:
        callbacks.append(_early_stopping(config))
    bar = sys.stderr.isatty() and rank == 0
    if bar:
        callbacks.append(Bar(config.checkpoint.monitor))
    # It would fill every new tensor, which costs time and protects only against reading what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        trainer = L.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            sync_batchnorm=settings.sync_batchnorm,
            precision=cast(Any, precision),
            accumulate_grad_batches=settings.accumulate_grad_batches,
            gradient_clip_val=settings.gradient_clip_val,
            max_epochs=config.max_epoch,
            max_steps=settings.max_steps,
            limit_train_batches=settings.limit_train_batches,
            limit_val_batches=settings.limit_val_batches,
            limit_test_batches=settings.limit_test_batches,
            val_check_interval=settings.val_check_interval,
            log_every_n_steps=settings.log_every_n_steps,
            # Some losses have no deterministic form on CUDA: a warning, where an error would end the run.
            deterministic="warn" if settings.deterministic else False,
            benchmark=settings.benchmark,
            logger=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder.path,
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # ours deals windows out itself, none twice
        )
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None
    return trainer, checkpoints, table, stop


def _early_stopping(config: Config) -> L.Callback:
    from lightning.pytorch.callbacks import EarlyStopping

    settings = config.early_stopping
    assert settings is not None
    monitor = settings.monitor or config.checkpoint.monitor
    return EarlyStopping(
        monitor,
        mode="min" if monitor.endswith("/loss") else "max",
        patience=settings.patience,
        min_delta=settings.min_delta,
        check_finite=False,
        check_on_train_epoch_end=monitor.startswith("train/"),
    )

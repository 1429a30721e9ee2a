"""Training from a config: prepare the data, build the model, fit, test the best checkpoint, write the results."""

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from inference.common.errors import UserError, is_interruption
from inference.common.signals import exit_status
from train.configs.config import Config
from train.data.class_weights import with_class_weights
from train.data.labelled_images import LabelledImages
from train.data.statistics import has_labels
from train.datamodule import DataModule
from train.model import MODELS, SegmentationModel
from train.run.agreement import ProcessAgreement
from train.run.auto_batch import resolve_batch_size
from train.run.card import model_card
from train.run.checkpoint_state import check_state
from train.run.checkpoints import Checkpoints
from train.run.claim import ClaimedRun
from train.run.early_stopping import EarlyStopping
from train.run.errors import translate_errors
from train.run.folder import LAST, RunFolder, forget_run_folder, new_run
from train.run.interrupt import Interrupted, StopOnInterrupt
from train.run.lock import RunLock
from train.run.metrics_table import MetricsTable, read_rows
from train.run.preflight import check_run
from train.run.previews import draw_training_windows
from train.run.progress import EpochLines, print_message
from train.run.results import RunResult, write_results
from train.run.resume import changed_data, check_config, is_prolonged, read_last_checkpoint, write_record
from train.run.trainer import build_trainer, trainer_devices
from train.run.wandb import WandbRun


def train(
    config: Config,
    notices: Sequence[str] = (),
    resume: RunFolder | None = None,
    force: bool = False,
    images: LabelledImages | None = None,
    claimed: ClaimedRun | None = None,
) -> RunResult:
    """Train a model, and test its best checkpoint on the test split.

    Args:
        config: Resolved config.
        notices: Notices about how the config was read, to be shown to the user.
        resume: Folder of an earlier run to resume.
        force: True to resume also with other keys of the config and on other data.
        images: Images of the config; None to prepare them here.
        claimed: Run folder that was claimed for this run, instead of `resume`.

    Raises:
        UserError: Data, weights or hardware don't fit the config, or the run can't be resumed.
        Interrupted: Ctrl-C, SIGTERM or SIGUSR1; `last.ckpt` holds the state.
        KeyboardInterrupt: The same before there was a state to save; the run folder is removed.
    """
    with ExitStack() as held:
        held.callback(forget_run_folder)
        if claimed is not None and claimed.resumes:
            resume = claimed.folder
        return _train(DataModule(config, images), notices, resume, force, claimed, held)


def _train(
    data: DataModule,
    notices: Sequence[str],
    resume: RunFolder | None,
    force: bool,
    claimed: ClaimedRun | None,
    held: ExitStack,
) -> RunResult:
    """Train as `train` does; the lock of the run folder goes to `held`."""
    started = time.monotonic()
    config = data.config
    rank = trainer_devices(config).rank
    notify: Callable[[str], None] = print_message if rank == 0 else lambda line: None
    for notice in notices:
        notify(f"note: {notice}")
    _seed(config.seed)
    if resume is not None and rank == 0 and claimed is None:
        held.callback(RunLock(resume.path).release)
    state = read_last_checkpoint(resume) if resume is not None else None
    rows = read_rows(resume.metrics) if resume is not None else []

    data.prepare()
    config = data.config
    for notice in data.notices:
        notify(f"note: {notice}")
    changes: list[str] = []
    if resume is not None and state is not None:
        changes = changed_data(resume, data.images, state, force)
        for change in changes:
            notify(f"note: the data changed during this run: {change}")
    if reason := _not_validated(config, data):
        notify(f"warning: {reason}: nothing will be validated, and the newest checkpoint will count as the best")
    automatic = config.batch_size == "auto"
    config = resolve_auto_values(config, data, notify)
    if resume is not None and state is not None:
        check_config(resume, state, config, force)
    model = build_model(config, data, pretrained=state is None, changes=changes)
    check_run(config, data, model)
    if config.trainer.channels_last:
        model.model.to(memory_format=torch.channels_last)

    if claimed is not None:
        folder = claimed.folder
    else:
        folder = resume or new_run(config, rank)
        if resume is None and rank == 0:
            held.callback(RunLock(folder.path).release)
    checkpoints = Checkpoints(config.checkpoint, folder.checkpoints, validates=config.trainer.limit_val_batches != 0)
    table = MetricsTable(folder.metrics, earlier=rows)
    interrupt = StopOnInterrupt(checkpoints, notify)
    agreement = ProcessAgreement(data, folder, checkpoints, table, automatic, notify)
    callbacks: list[L.Callback] = [
        agreement,  # first: the others use the folder that it finds
        table,
        EpochLines(checkpoints, notify, bar=sys.stderr.isatty()),
        interrupt,
        checkpoints,
    ]
    if config.early_stopping is not None:
        goes_on = state is not None and (force or is_prolonged(state, config))
        callbacks.append(EarlyStopping(config, notify, goes_on))
    trainer = build_trainer(config, folder, callbacks, rank, notify)
    if state is not None:
        check_state(folder, state, model, trainer, force)
        state = None  # Lightning reads the file itself
    if trainer.world_size > 1:
        model.prepare_for_several_devices()
    held.enter_context(interrupt)
    try:
        if rank == 0:
            folder.write_config(config)
            write_record(folder, data.images, changes)
            notify(f"run {folder.path}")
            if config.data_module.preview_augmentations and resume is None:
                notify(f"training windows as the network sees them: {draw_training_windows(data, folder)}")
        table.wandb = WandbRun(config, folder, notify) if _logs_to_wandb(config) and rank == 0 else None
        last = None if resume is None else folder.checkpoints / LAST
        with translate_errors(config):
            trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
        folder = agreement.folder
        if interrupt.stops(trainer):
            raise Interrupted
        return write_results(config, folder, trainer, model, data, checkpoints, table, started)
    except BaseException as error:
        folder = agreement.folder
        stopped = isinstance(error, Interrupted) or is_interruption(error)
        if not isinstance(error, Interrupted):
            _end_processes(trainer)
        _close(table.wandb, exit_status(interrupt.number) if stopped else 1)
        if stopped and (folder.checkpoints / LAST).is_file():
            raise Interrupted(str(folder.path), interrupt.number) from None
        empty = resume is None and rank == 0 and not any(folder.checkpoints.iterdir())
        if (stopped or isinstance(error, UserError)) and empty:
            if claimed is None:
                shutil.rmtree(folder.path)
            else:
                claimed.clear()
        if isinstance(error, Interrupted):  # without `save_last`, a run stopped in its last batch has no state
            raise Interrupted("", interrupt.number) from None
        raise


def resolve_auto_values(config: Config, data: DataModule, notify: Callable[[str], None]) -> Config:
    """Replace `class_weights: auto` and `batch_size: auto` by numbers.

    Args:
        config: Resolved config.
        data: Prepared data module; takes over the numbers.
        notify: Called with each line for the user.

    Returns:
        A config in which nothing is left to the data or the machine.
    """
    config, weights = with_class_weights(config, data.images)
    for notice in weights:
        notify(f"note: {notice}")
    if config.batch_size == "auto":
        config, notice = resolve_batch_size(config, data, build_model(config, data, pretrained=False))
        notify(f"note: {notice}")
        _seed(config.seed)  # so that the run is the same as with the number in the config
    return config


def build_model(config: Config, data: DataModule, pretrained: bool, changes: Sequence[str] = ()) -> SegmentationModel:
    """Build the model of a config for prepared data.

    Args:
        config: Resolved config.
        data: Prepared data module.
        pretrained: True to load the encoder weights that the config names.
        changes: Changes of the data during the run, for the card.
    """
    card = model_card(config, data.images, changes=changes)
    return MODELS[config.segmentation_model_cls](config.plain(), card.model_dump(mode="json"), pretrained=pretrained)


def _logs_to_wandb(config: Config) -> bool:
    return config.enable_logging and config.logging.mode != "disabled"


def _end_processes(trainer: L.Trainer) -> None:
    """End the processes that Lightning has started on this machine; without rank 0 they would wait for half an hour."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGTERM)


def _close(wandb: WandbRun | None, code: int) -> None:
    if wandb is not None:
        wandb.close(code)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still use the global generator
    torch.manual_seed(seed)


def _not_validated(config: Config, data: DataModule) -> str | None:
    """Return why the monitored score of validation can't be computed; None if it can, or is not monitored."""
    if not config.checkpoint.monitor.startswith("val/"):
        return None
    if config.trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches is 0"
    reader = data.reader()
    try:
        return None if has_labels(data.scenes["val"], data.bands, reader) else "val has no pixel with a label"
    finally:
        reader.close()

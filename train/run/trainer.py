"""The Lightning trainer of a run, built from the config."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from inference.common.errors import UserError
from inference.common.text import clean_line
from train.configs.config import Config
from train.model import SegmentationModel
from train.optim.compilation import compile_network
from train.optim.gradient_checkpointing import checkpoint_blocks
from train.optim.precision import native_precision
from train.run.checkpoints import AtomicCheckpointIO
from train.run.folder import RunFolder
from train.run.launch import check_launched
from train.run.progress import ProgressBar

_IRRELEVANT_WARNINGS = (
    r".*does not have many workers.*",
    r".*is smaller than the logging interval.*",
    r".*your dataloader is not resumable.*",  # it is: windows are a function of epoch and index
    r".*ended before the epoch ended.*",
    r".*Checkpoint directory .* exists.*",
    r".*LeafSpec.*",
    r".*in eval mode at the start of training.*",  # a frozen encoder
    r".*`_get_pl_dtype`.*",
    r".*GPU available but not used.*",
    r".*It is recommended to use `self\.log\(.*sync_dist=True.*",  # scores come from the counts of all devices
    r".*Grad strides do not match bucket view strides.*",
    r".*lr_scheduler\.step\(\).*before.*optimizer\.step.*",  # a float16 step that was skipped
)


def silence_lightning() -> None:
    """Silence hints that Lightning gives about its own interface, which users of this command don't see."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in _IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message)


def build_trainer(
    config: Config, folder: RunFolder, callbacks: Sequence[L.Callback], rank: int, notify: Callable[[str], None]
) -> L.Trainer:
    """Build the trainer.

    Args:
        config: Resolved config.
        folder: Run folder.
        callbacks: Callbacks that every run has; those that the config asks for are added.
        rank: Rank of this process; rank 0 shows the progress bar.
        notify: Called with each line for the user.

    Raises:
        UserError: The settings don't fit together or this machine lacks the device.
    """
    settings = config.trainer
    precision, notice = native_precision(settings.precision, settings.accelerator)
    if notice:
        notify(f"note: {notice}")
    chosen = list(callbacks)
    if config.segmentation_config.gradient_checkpointing or settings.compile:
        chosen.append(NetworkOptimizations(config, notify))
    bar = sys.stderr.isatty() and rank == 0
    if bar:
        chosen.append(ProgressBar(config.checkpoint.monitor))
    # Filling every new tensor costs time, and protects only against reading uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        return L.Trainer(
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
            # Some losses have no deterministic form on CUDA: warn, because an error would end the run.
            deterministic="warn" if settings.deterministic else False,
            benchmark=settings.benchmark,
            logger=False,
            callbacks=chosen,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder.path,
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the batch sampler of `DataModule` shares out the windows, none twice
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = clean_line(" ".join(str(error).split()), 300)
        if "device" in reason.lower() or "gpu" in reason.lower():
            raise UserError(
                f"trainer.devices: {settings.devices} with trainer.accelerator: {settings.accelerator} isn't possible "
                f"on this machine: {reason} (allowed: a number of devices, auto, or a list of GPUs that exist)"
            ) from None
        raise UserError(f"trainer: {reason}") from None


@dataclass(frozen=True)
class Devices:
    """Devices of a run.

    Attributes:
        world: Number of devices, over all nodes.
        on_node: Number of devices of each node.
        rank: Rank of this process.
        gpu: Index of the GPU of this process; None where it has none.
    """

    world: int
    on_node: int
    rank: int
    gpu: int | None


def trainer_devices(config: Config) -> Devices:
    """Return the devices of a run, by Lightning's own rules.

    Raises:
        UserError: This machine lacks them, or a launcher has started another number of processes.
    """
    silence_lightning()
    trainer = build_trainer(config, RunFolder(Path()), [], rank=1, notify=lambda line: None)
    check_launched(trainer.world_size)
    device = trainer.strategy.root_device
    gpu = device.index if device.type == "cuda" else None
    return Devices(trainer.world_size, trainer.num_devices, trainer.global_rank, gpu)


class NetworkOptimizations(L.Callback):
    """Gradient checkpointing and compilation of the network, for as long as it is being fitted.

    Args:
        config: Resolved config; says which of the two are used.
        notify: Called with each line for the user.
    """

    def __init__(self, config: Config, notify: Callable[[str], None]) -> None:
        self.config = config
        self.notify = notify
        self._undo: Callable[[], None] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Change the network, which is on its device by now."""
        network = cast(SegmentationModel, pl_module).model
        if self.config.segmentation_config.gradient_checkpointing:
            self._undo = checkpoint_blocks(cast(Any, network.encoder))
        if self.config.trainer.compile:
            size = self.config.tile_size
            shape = (self.config.batch, self.config.num_bands, size, size)
            with trainer.precision_plugin.forward_context():
                compile_network(network, torch.zeros(shape, device=pl_module.device), self.notify)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove gradient checkpointing: the unchanged network is saved, drawn and tested."""
        if self._undo is not None:
            self._undo()
            self._undo = None

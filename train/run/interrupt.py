"""Ctrl-C, SIGTERM and SIGUSR1 during training: stop between two batches, with the state saved in `last.ckpt`."""

import contextlib
import signal
from collections.abc import Callable
from typing import Any, cast

import lightning as L
import torch

from inference.common.signals import StopHandler, raise_stopped
from train.run.checkpoints import Checkpoints


class Interrupted(Exception):
    """Training was stopped by a signal, and can be resumed.

    Not a `KeyboardInterrupt`, which Lightning would turn into `SystemExit`.

    Args:
        folder: Path of the run folder; empty where the caller knows it.
        number: Number of the signal.
    """

    def __init__(self, folder: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(folder)
        self.number = number


class StopOnInterrupt(L.Callback):
    """Handler of the stop signals, as a context around a run.

    While the model is being fitted, the first signal saves and stops after the current batch of training or
    validation, and a second Ctrl-C stops at once. Before and after fitting, a signal raises `KeyboardInterrupt`.

    Args:
        checkpoints: Callback that saves the state.
        notify: Called with each line for the user.

    Attributes:
        requested: True once a signal has asked to stop the fit.
    """

    def __init__(self, checkpoints: Checkpoints, notify: Callable[[str], None]) -> None:
        self.checkpoints = checkpoints
        self.notify = notify
        self.requested = False
        self._fitting = False
        self._number: int | None = None
        self._handler = StopHandler(self._on_stop)

    @property
    def number(self) -> int:
        """Number of the first signal, of several processes that of any of them; SIGINT before."""
        return self._number or self._handler.number or signal.SIGINT

    def __enter__(self) -> "StopOnInterrupt":
        self._handler.install()
        return self

    def __exit__(self, *_: object) -> None:
        self._handler.restore()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace Lightning's handler of SIGTERM, which ends the process without saving."""
        self._handler.install()
        self._fitting = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let further signals stop at once: the end of the fit has saved the state."""
        self._fitting = False

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace Lightning's handler of SIGTERM, which in one of several processes waits for the others."""
        self._handler.install()

    def _on_stop(self, number: int) -> None:
        if not self._fitting or (self.requested and number == signal.SIGINT):
            raise_stopped(number)
        if self.requested:
            return
        self.requested = True
        by = "" if number == signal.SIGINT else f"{signal.Signals(number).name}: "
        # Printing fails where the signal interrupts another print, or the terminal is gone.
        with contextlib.suppress(RuntimeError, OSError):
            self.notify(f"{by}stopping after this step (press Ctrl-C again to stop at once, without saving)")

    def stops(self, trainer: L.Trainer) -> bool:
        """Return True if a signal has asked any process to stop the fit; all processes must call this."""
        if trainer.world_size == 1:
            return self.requested
        # A signal reaches the processes at different batches, or only one of them; all must stop at the same one.
        stops = trainer.strategy.reduce_boolean_decision(self.requested, all=False)
        if stops and self._number is None:
            own = torch.tensor(self._handler.number or 0, device=trainer.strategy.root_device)
            self._number = int(cast(Any, trainer.strategy.reduce(own, reduce_op="max")))
        return stops

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, except where validation or the end of an epoch follows: both save, and come first."""
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        every: Any = trainer.val_check_batch
        validates = trainer.enable_validation and (batch_idx + 1) % every == 0
        if self.stops(trainer) and not last and not validates:
            self.checkpoints.save_last(trainer)
            raise Interrupted

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop before the first batch of a new epoch: the end of the last epoch has saved the state."""
        if batch_idx == 0 and self.checkpoints.config.save_last and self.stops(trainer):
            raise Interrupted

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Save and stop within validation; the resumed run repeats the validation from its first batch."""
        if not self._fitting or trainer.sanity_checking or not self.stops(trainer):
            return
        # Lightning resumes within a validation if one batch of it was started but not processed. Of the batches of
        # this validation none counts as completed, because the resumed run counts the pixels of all of them again.
        progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.reset()
        progress.total.ready = progress.total.started = 1
        self.checkpoints.save_last(trainer)
        raise Interrupted

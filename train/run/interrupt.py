"""Ctrl-C during training: stop between two batches, with the state saved in `last.ckpt`."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning as L

from train.run.checkpoints import Checkpoints


class Interrupted(Exception):
    """Training was stopped by Ctrl-C. The argument, where given, is the path of the run folder."""


class StopOnInterrupt(L.Callback):
    """Handler of Ctrl-C: the first press saves and stops after the current step, the second stops at once.

    Args:
        checkpoints: Callback that saves the state.
        notify: Called with each line for the user.

    Attributes:
        requested: True once Ctrl-C was pressed.
    """

    def __init__(self, checkpoints: Checkpoints, notify: Callable[[str], None]) -> None:
        self.checkpoints = checkpoints
        self.notify = notify
        self.requested = False
        self._previous_handler: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the signal handler; Python allows that in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_signal)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the previous signal handler."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.notify("stopping after this step (press Ctrl-C again to stop at once, without saving)")

    def _should_stop(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.requested
        # A signal reaches the processes at different batches; all must stop at the same one.
        return trainer.strategy.reduce_boolean_decision(self.requested, all=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, except after the last batch of an epoch: the end of the epoch saves, and comes first."""
        if self._should_stop(trainer) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.checkpoints.save_last(trainer)
            raise Interrupted

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop before the first batch of a new epoch: the end of the last epoch has saved the state."""
        if batch_idx == 0 and self.checkpoints.config.save_last and self._should_stop(trainer):
            raise Interrupted

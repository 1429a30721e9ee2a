"""Early stopping, also of a run that is resumed after it had stopped early."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from train.configs.config import Config


class EarlyStopping(LightningEarlyStopping):
    """Early stopping that a resumed run obeys: a run that had stopped early stays finished, unless it is to go on.

    The name of the class stands in checkpoints, as Lightning's does.

    Args:
        config: Resolved config with a section `early_stopping`.
        notify: Called with each line for the user.
        goes_on: True to train on where a resumed run had stopped early; its patience begins anew.
    """

    def __init__(self, config: Config, notify: Callable[[str], None], goes_on: bool = False) -> None:
        settings = config.early_stopping
        assert settings is not None
        monitor = settings.monitor or config.checkpoint.monitor
        super().__init__(
            monitor,
            mode="min" if monitor.endswith("/loss") else "max",
            patience=settings.patience,
            min_delta=settings.min_delta,
            check_finite=False,
            check_on_train_epoch_end=monitor.startswith("train/"),
        )
        self.notify = notify
        self.goes_on = goes_on
        self.had_stopped = False
        self._epoch_ends = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of validations without an improvement; the patience is that of the config."""
        patience = self.patience
        super().load_state_dict(state_dict)
        self.patience = patience
        if self.wait_count >= patience:
            self._resume_stopped()

    def _resume_stopped(self) -> None:
        """Go on with a run that had stopped early, or take it for finished; say which."""
        best = float(self.best_score)
        why = f"has not been better than {best:.4f}" if math.isfinite(best) else "never had a finite value"
        said = f"note: this run had stopped early: {self.monitor} {why} (early_stopping.patience: {self.patience})"
        if self.goes_on:
            self.wait_count = self.stopped_epoch = 0
            self.notify(f"{said}; it goes on until that happens again")
        else:
            self.had_stopped = True
            self.notify(f"{said}; nothing is left to train (to go on, raise trainer.max_epochs or add --force)")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End a run that had stopped early before its next batch."""
        epochs: Any = trainer.fit_loop.epoch_progress.current
        # Where the checkpoint was written between the last batch of an epoch and its end, that end comes first.
        self._epoch_ends = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and epochs.processed < epochs.ready
        if self.had_stopped and not self._epoch_ends:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check a score of training, which the checkpoint of a resumed run may not have counted yet."""
        if self.had_stopped:
            trainer.should_stop = True
            return
        super().on_train_epoch_end(trainer, pl_module)
        if self._epoch_ends and trainer.should_stop:
            self._resume_stopped()
            trainer.should_stop = self.had_stopped
        self._epoch_ends = False

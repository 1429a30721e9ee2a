"""Progress of training for the user: one line per epoch, and a bar on a terminal."""

import math
import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from inference.common.text import print_line
from train.run.checkpoints import Checkpoints

LINE_SECONDS = 30.0
"""Seconds between two lines of progress where stderr is not a terminal."""


def print_message(line: str) -> None:
    """Print a line to stderr; stdout is for results."""
    print_line(line)


def duration(seconds: float) -> str:
    """Return a duration for people, such as "45 s", "12 min" or "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class TimeLeft:
    """Estimate of the time until the end of a run, from the batches trained so far; validation is included."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first = 0

    def start(self, trainer: L.Trainer) -> None:
        """Start the clock, at the first batch of a run or of its resumed part."""
        self._started, self._first = time.monotonic(), self._done(trainer)

    def __call__(self, trainer: L.Trainer) -> str | None:
        """Return the time left, such as "12 min left"; None where it can't be known."""
        new = self._done(trainer) - self._first
        ends = []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs * float(trainer.num_training_batches))
        if trainer.max_steps > 0:
            ends.append(float(trainer.max_steps * trainer.accumulate_grad_batches))
        if not ends or new <= 0:
            return None
        left = max(0.0, min(ends) - self._first - new)
        return f"{duration((time.monotonic() - self._started) / new * left)} left"

    @staticmethod
    def _done(trainer: L.Trainer) -> int:
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        return int(progress.processed)


class EpochLines(L.Callback):
    """Printer of one line per epoch: losses, monitored score, best score so far, and time.

    Within a long epoch, a line every 30 seconds shows the progress where there is no bar; at the end, a line says
    whether the run was stopped early.

    Args:
        checkpoints: Callback that has the monitored score and the best checkpoint.
        notify: Called with each line for the user.
        bar: True if a progress bar is shown.
    """

    def __init__(self, checkpoints: Checkpoints, notify: Callable[[str], None], bar: bool = False) -> None:
        self.checkpoints = checkpoints
        self.notify = notify
        self.bar = bar
        self._started = time.monotonic()
        self._shown = time.monotonic()
        self._left = TimeLeft()
        self._worked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks, also where a run resumes in the middle of an epoch."""
        self._left.start(trainer)
        self._started = self._shown = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line of progress, if one is due."""
        self._worked = True
        if self._is_due(trainer):
            of, loss = trainer.num_training_batches, float(outputs["loss"])
            left = self._left(trainer)
            self._show(trainer, f"step {batch_idx + 1}/{of}  loss {loss:.4f}{f'  {left}' if left else ''}")

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line of progress, if one is due."""
        self._worked = True
        if trainer.state.fn == "fit" and self._is_due(trainer):
            self._show(trainer, f"validating {batch_idx + 1}/{sum(trainer.num_val_batches)}")

    def _is_due(self, trainer: L.Trainer) -> bool:
        return trainer.is_global_zero and not self.bar and time.monotonic() - self._shown >= LINE_SECONDS

    def _show(self, trainer: L.Trainer, what: str) -> None:
        self._shown = time.monotonic()
        self.notify(f"{_epoch(trainer)}  {what}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the epoch, unless a finished run was resumed and nothing was left to do."""
        if not trainer.is_global_zero or not self._worked:
            return
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        parts = [_epoch(trainer)]
        monitor = self.checkpoints.config.monitor
        shown = dict.fromkeys(("train/loss", "val/loss", monitor))
        parts += [f"{key} {metrics[key]:.4f}" for key in shown if key in metrics]
        best = self.checkpoints.best_after(trainer)
        if best is not None and math.isfinite(best["score"]):
            parts.append(f"best {best['score']:.4f} (epoch {best['epoch'] + 1})")
        parts.append(f"{time.monotonic() - self._started:.1f} s")
        self._shown = time.monotonic()
        self.notify("  ".join(parts))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say that early stopping has ended the run, and why."""
        for callback in trainer.early_stopping_callbacks:
            stopping: Any = callback
            if not trainer.should_stop or not trainer.is_global_zero or stopping.had_stopped:
                continue
            score, best = float(trainer.callback_metrics.get(stopping.monitor, math.nan)), float(stopping.best_score)
            if not math.isfinite(best):
                why = f"{stopping.monitor} never had a finite value"
            elif not math.isfinite(score):
                why = f"{stopping.monitor} is {score}, and was {best:.4f} at best"
            else:
                why = f"{stopping.monitor} has not been better than {best:.4f}"
            self.notify(f"stopped early: {why} (early_stopping.patience: {stopping.patience})")


def _epoch(trainer: L.Trainer) -> str:
    """Return the number of the current epoch, counted from 1, and of all."""
    epoch = trainer.fit_loop.epoch_progress.current.completed + 1
    of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"epoch {epoch:>{len(of) - 1 if of else 1}}{of}"


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar with the loss, the monitored score and the time left of the whole run.

    It counts epochs from 1, and is cleared when an epoch is done.

    Args:
        monitor: Name of the monitored score.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__(leave=False)
        self.monitor = monitor
        self._left = TimeLeft()

    def on_train_start(self, *arguments: Any) -> None:
        """Start the clock."""
        super().on_train_start(*arguments)
        self._left.start(arguments[0])

    def on_train_epoch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Name the epoch as the table does."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(_epoch(trainer))

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the values that are shown after the bar."""
        shown = {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
        if self.monitor in trainer.callback_metrics:
            shown[self.monitor] = f"{float(trainer.callback_metrics[self.monitor]):.4f}"
        left = self._left(trainer)
        return shown | ({"run": left} if left else {})

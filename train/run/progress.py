"""Progress of training for the user: one line per epoch, and a bar on a terminal."""

import math
import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from inference.common.text import print_line
from train.run.checkpoints import Checkpoints


def print_message(line: str) -> None:
    """Print a line to stderr; stdout is for results."""
    print_line(line)


class EpochLines(L.Callback):
    """Printer of one line per epoch: losses, monitored score, best score so far, and time.

    Args:
        checkpoints: Callback that has the monitored score and the best checkpoint.
        notify: Called with each line for the user.
    """

    def __init__(self, checkpoints: Checkpoints, notify: Callable[[str], None]) -> None:
        self.checkpoints = checkpoints
        self.notify = notify
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        epoch = trainer.fit_loop.epoch_progress.current.completed + 1
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        parts = [f"epoch {epoch:>{len(of) - 1 if of else 1}}{of}"]
        monitor = self.checkpoints.config.monitor
        shown = dict.fromkeys(("train/loss", "val/loss", monitor))
        parts += [f"{key} {metrics[key]:.4f}" for key in shown if key in metrics]
        best = self.checkpoints.best
        if best is not None and not math.isnan(best["score"]):
            parts.append(f"best {best['score']:.4f} (epoch {best['epoch'] + 1})")
        parts.append(f"{time.monotonic() - self._started:.1f} s")
        self.notify("  ".join(parts))


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar with the loss and the monitored score; it is cleared when an epoch is done.

    Args:
        monitor: Name of the monitored score.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__(leave=False)
        self.monitor = monitor

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the values that are shown after the bar."""
        shown = {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
        if self.monitor in trainer.callback_metrics:
            shown[self.monitor] = f"{float(trainer.callback_metrics[self.monitor]):.4f}"
        return shown

"""What happens around the training loop: the table of metrics, progress for the user, and a clean stop."""

import csv
import io
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from inference.common.files import write_text
from train.configs.config import Config
from train.model import SegmentationModel
from train.optim.compilation import compile_network
from train.optim.gradient_checkpointing import checkpoint_blocks
from train.run.checkpoints import Checkpoints
from train.run.wandb import Tracker


class Interrupted(Exception):
    """The user pressed Ctrl-C, and the state of the run is safe."""


class MetricsTable(L.Callback):
    """`metrics.csv`: a row for each optimiser step at which something was measured; also to W&B.

    A resumed run drops rows of steps that it is going to take again.

    Args:
        path: Where the table is kept.
        tracker: Where it goes as well.
    """

    def __init__(self, path: Path, tracker: Tracker | None = None) -> None:
        self.path = path
        self.tracker = tracker
        self.rows: list[dict[str, float]] = []
        self.train_seconds = 0.0
        self.windows = 0
        self._since: float | None = None

    def take_up(self, step: int) -> None:
        """Reads the rows that an earlier part of this run wrote up to an optimiser step."""
        if self.path.is_file() and not self.rows:
            with self.path.open(encoding="utf-8", newline="") as file:
                read = [{k: float(v) for k, v in row.items() if v not in {"", None}} for row in csv.DictReader(file)]
            self.rows = [row for row in read if row["step"] <= step]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._since = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock where an epoch is taken up in the middle, and takes up the table."""
        if trainer.is_global_zero:
            self.take_up(trainer.global_step)
        self._since = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock: validation is no training."""
        self._stop_clock()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the scores of validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add(trainer, "val/")
            self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts windows, and sends the loss to W&B now and then."""
        self.windows += len(batch["image"]) * trainer.world_size
        if self.tracker is not None and trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.tracker.log({"train/loss_step": float(outputs["loss"]), "lr": rate}, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the scores of the training epoch."""
        self._stop_clock()
        cast(SegmentationModel, pl_module).publish("train")
        self._add(trainer, "train/")

    def _stop_clock(self) -> None:
        if self._since is not None:
            self.train_seconds += time.monotonic() - self._since
            self._since = None

    def _add(self, trainer: L.Trainer, phase: str) -> None:
        if not trainer.is_global_zero:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(phase)}
        if not values:
            return
        step = trainer.global_step
        if not self.rows or self.rows[-1]["step"] != step:
            done: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            epoch = trainer.fit_loop.epoch_progress.current.completed + done.processed / trainer.num_training_batches
            self.rows.append(
                {"epoch": round(epoch, 4), "step": step, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
            )
        self.rows[-1] |= values
        write_text(self.path, self._text())
        if self.tracker is not None:
            self.tracker.log({**values, "epoch": self.rows[-1]["epoch"]}, step)

    def _text(self) -> str:
        first = ["epoch", "step", "lr"]
        columns = first + sorted({k for row in self.rows for k in row} - set(first))
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _shown(v) for k, v in row.items()} for row in self.rows)
        return out.getvalue()


def _shown(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


class ProgressLines(L.Callback):
    """A line an epoch: its losses, the monitored score and the best so far.

    Args:
        checkpoints: Knows what is monitored and what was best.
        say: Takes lines for the user.
    """

    def __init__(self, checkpoints: Checkpoints, say: Callable[[str], None]) -> None:
        self.checkpoints = checkpoints
        self.say = say
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says how the epoch went."""
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
        parts.append(f"{time.monotonic() - self._since:.1f} s")
        self.say("  ".join(parts))


class Bar(TQDMProgressBar):
    """Lightning's bar, with the loss and the monitored score; the lines of `ProgressLines` stay, the bar goes."""

    def __init__(self, monitor: str) -> None:
        super().__init__(leave=False)
        self.monitor = monitor

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        shown = {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
        if self.monitor in trainer.callback_metrics:
            shown[self.monitor] = f"{float(trainer.callback_metrics[self.monitor]):.4f}"
        return shown


class StopOnInterrupt(L.Callback):
    """Ctrl-C ends a run between two batches, with everything saved; pressed again, at once.

    Args:
        checkpoints: Saves the state.
        say: Takes lines for the user.
    """

    def __init__(self, checkpoints: Checkpoints, say: Callable[[str], None]) -> None:
        self.checkpoints = checkpoints
        self.say = say
        self.asked = False
        self._before: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes the signal over from Python; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Gives the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _ask(self, _: int, __: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.say("stopping after this step (Ctrl-C again: at once, without saving)")

    def _wanted(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.asked
        # A signal reaches the processes at different batches; all must stop at the same one.
        return trainer.strategy.reduce_boolean_decision(self.asked, all=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops, unless the epoch is done: then its end comes first, which saves too."""
        if self._wanted(trainer) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self.checkpoints.save_last(trainer)
            raise Interrupted

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stops before the first batch of a new epoch: the end of the last one has saved."""
        if batch_idx == 0 and self.checkpoints.config.save_last and self._wanted(trainer):
            raise Interrupted


class Speed(L.Callback):
    """Trades time for memory, or the start for the rest, while a run lasts: gradient checkpointing, compilation.

    Args:
        config: Says which.
        say: Takes lines for the user.
    """

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self.config = config
        self.say = say
        self._undo: Callable[[], None] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Once the network is on its device."""
        network = cast(SegmentationModel, pl_module).model
        if self.config.segmentation_config.gradient_checkpointing:
            self._undo = checkpoint_blocks(cast(Any, network.encoder))
        if self.config.trainer.compile:
            size = self.config.tile_size
            shape = (self.config.batch, self.config.num_bands, size, size)
            with trainer.precision_plugin.forward_context():
                compile_network(network, torch.zeros(shape, device=pl_module.device), self.say)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What is saved, drawn and tested next is the network by itself."""
        if self._undo is not None:
            self._undo()
            self._undo = None


def say(line: str) -> None:
    """A line for the user, on stderr: stdout is for results."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

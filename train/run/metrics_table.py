"""The table `metrics.csv`, every score of a run by epoch and optimiser step, which is also sent to W&B."""

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L

from inference.common.errors import UserError, first_line
from inference.common.files import write_text
from inference.common.text import clean_line
from train.data.pairs import join_some
from train.model import SegmentationModel
from train.run.wandb import WandbRun

_FIRST = ("epoch", "step", "lr")  # columns of every row


def read_rows(path: Path) -> list[dict[str, float]]:
    """Read the rows of a run's table, so that a resumed run continues it; none where there is no table.

    Raises:
        UserError: Another program has written the file in a format of its own.
    """
    if not path.is_file():
        return []
    fix = "save it as CSV with commas and decimal points, or move it away: the table then begins with the resumed part"
    try:
        # Spreadsheets put a byte order mark first.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            if absent := [name for name in _FIRST if name not in found]:
                raise UserError(
                    f"{path}:1: has no column {join_some(absent)}, found {clean_line(' '.join(found), 100)} ({fix})"
                )
            rows = []
            for row in reader:
                try:
                    rows.append({k: float(v) for k, v in row.items() if k is not None and v not in {"", None}})
                except (TypeError, ValueError) as error:
                    raise UserError(f"{path}:{reader.line_num}: {clean_line(str(error), 100)} ({fix})") from None
                if absent := [name for name in _FIRST if name not in rows[-1]]:
                    raise UserError(f"{path}:{reader.line_num}: has no {join_some(absent)} ({fix})")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: can't be read as a table of scores: {first_line(error)} ({fix})") from None
    return rows


class MetricsTable(L.Callback):
    """Writer of `metrics.csv`: one row for each optimiser step at which something was measured.

    The same values go to W&B. A resumed run drops the rows of steps that it will repeat.

    Args:
        path: Path of the CSV file.
        wandb: W&B run to log to as well.
        earlier: Rows that earlier parts of this run wrote; see `read_rows`.

    Attributes:
        rows: Rows of the table.
        train_seconds: Time spent in training batches, without validation.
        windows: Number of windows trained on, over all devices.
    """

    def __init__(self, path: Path, wandb: WandbRun | None = None, earlier: Sequence[dict[str, float]] = ()) -> None:
        self.path = path
        self._earlier = earlier
        self.wandb = wandb
        self.rows: list[dict[str, float]] = []
        self.train_seconds = 0.0
        self.windows = 0
        self._started: float | None = None

    def load_rows(self, step: int) -> None:
        """Take over the rows of earlier parts of this run, up to an optimiser step."""
        if not self.rows:
            self.rows = [dict(row) for row in self._earlier if row["step"] <= step]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Load the earlier rows; start the clock in case the run resumes in the middle of an epoch."""
        if trainer.is_global_zero:
            self.load_rows(trainer.global_step)
        self._started = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock: validation doesn't count as training time."""
        self._stop_clock()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the validation scores."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add(trainer, "val/")
            self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the windows; log the loss to W&B every `log_every_n_steps`."""
        self.windows += len(batch["image"]) * trainer.world_size
        if self.wandb is not None and trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.wandb.log({"train/loss_step": float(outputs["loss"]), "lr": rate}, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the training scores of the epoch."""
        self._stop_clock()
        cast(SegmentationModel, pl_module).publish("train")
        self._add(trainer, "train/")

    def _stop_clock(self) -> None:
        if self._started is not None:
            self.train_seconds += time.monotonic() - self._started
            self._started = None

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
        if self.wandb is not None:
            self.wandb.log({**values, "epoch": self.rows[-1]["epoch"]}, step)

    def _text(self) -> str:
        columns = [*_FIRST, *sorted({k for row in self.rows for k in row} - set(_FIRST))]
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _formatted(v) for k, v in row.items()} for row in self.rows)
        return out.getvalue()


def _formatted(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"

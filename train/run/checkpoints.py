"""Checkpoints: written atomically, named by their score, and read without executing any code in them."""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from inference.common.errors import UserError
from inference.common.files import clear_temporaries, write_atomically
from inference.common.paths import path_within
from inference.common.torch_files import read_torch_file
from train.configs.config import CheckpointConfig
from train.run.folder import LAST

# Keys under which other tools keep the weights; `model` is torchvision's.
_WEIGHTS = ("model_state_dict", "model")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint writer that writes beside the target, syncs, then renames; Lightning's own doesn't sync."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; see `lightning.fabric.plugins.io.CheckpointIO.save_checkpoint`."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)

        def write(temporary: Path) -> None:
            # Through Python's file, so that a full disk is an OSError; PyTorch's own writer hides the reason.
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)

        write_atomically(target, write)


class Checkpoints(Checkpoint):
    """Writer of the best checkpoints of a run, and of `last.ckpt`.

    Args:
        config: Section `checkpoint` of the config.
        folder: Folder of the checkpoints.
        validates: True if the run validates; without validation, checkpoints are written at the end of each epoch.

    Attributes:
        kept: `{score, file, epoch, step}` of each of the best checkpoints.
        saved_step: Optimiser steps of the newest checkpoint that was written; None before.
    """

    def __init__(self, config: CheckpointConfig, folder: Path, validates: bool = True) -> None:
        self.config = config
        self.folder = folder
        self.after_validation = validates and config.monitor.startswith("val/")
        self.kept: list[dict[str, Any]] = []
        self.saved_step: int | None = None

    @property
    def best(self) -> dict[str, Any] | None:
        """`{score, file, epoch, step}` of the best checkpoint; of the newest one where none has a finite score."""
        return next(iter(self._ranked(self.kept)), None)

    def best_after(self, trainer: L.Trainer) -> dict[str, Any] | None:
        """Return what `best` is at the end of the current epoch, whether or not its checkpoint is saved yet."""
        pending = [] if self.after_validation else [e for e in [self._entry(trainer)] if self._is_due(e)]
        return next(iter(self._ranked([*self.kept, *pending])), None)

    @property
    def best_path(self) -> Path | None:
        """Path of the best checkpoint; `last.ckpt` where none of the best is kept; None without any."""
        if self.best is not None and (self.folder / self.best["file"]).is_file():
            return self.folder / str(self.best["file"])
        last = self.folder / LAST
        return last if last.is_file() else None

    def _ranked(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return entries from best to worst: of equal scores the oldest first, without a finite score the newest."""
        sign = -1 if self.config.mode == "max" else 1
        scored = [entry for entry in entries if math.isfinite(entry["score"])]
        others = [entry for entry in entries if not math.isfinite(entry["score"])]
        return [
            *sorted(scored, key=lambda entry: (sign * entry["score"], entry["step"])),
            *sorted(others, key=lambda entry: -entry["step"]),
        ]

    def scores_anything(self, metrics: Mapping[str, float]) -> bool:
        """Return True if the monitored phase saw a labelled pixel, so that it has a loss."""
        return not math.isnan(metrics.get(f"{self.config.monitor.partition('/')[0]}/loss", math.nan))

    def note(self, metrics: Mapping[str, float]) -> str | None:
        """Return why the newest checkpoint counts as the best; None if the best one has a finite score.

        Args:
            metrics: Scores of the best checkpoint by name, such as `val/loss`.
        """
        if self.best is None or math.isfinite(self.best["score"]):
            return None
        unvalidated = self.config.monitor.startswith("val/") and not self.scores_anything(metrics)
        reason = "nothing was validated" if unvalidated else f"no epoch has a finite {self.config.monitor}"
        return f"{reason}, so the newest checkpoint is used"

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the note to the card, which goes from the checkpoint into exported files."""
        if note := self.note({k: float(v) for k, v in trainer.callback_metrics.items()}):
            card = checkpoint["hyper_parameters"]["card"]
            checkpoint["hyper_parameters"]["card"] = {**card, "notes": [note]}

    def _is_due(self, entry: dict[str, Any]) -> bool:
        return self.config.save_top_k != 0 and (entry["epoch"] + 1) % self.config.every_n_epochs == 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remove temporary files that a killed run left behind."""
        if stage == "fit" and trainer.is_global_zero and self.folder.is_dir():
            clear_temporaries(self.folder)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if the monitored score is one of validation."""
        if self.after_validation and not trainer.sanity_checking and trainer.state.fn == "fit":
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if the monitored score is one of training."""
        if not self.after_validation:
            self.save(trainer)

    def _entry(self, trainer: L.Trainer) -> dict[str, Any]:
        """Return `{score, file, epoch, step}` of the current state."""
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        return {
            "score": metrics.get(self.config.monitor, math.nan),
            "file": self._name(trainer, metrics),
            "epoch": trainer.fit_loop.epoch_progress.current.completed,
            "step": trainer.global_step,
        }

    def save(self, trainer: L.Trainer) -> None:
        """Save the current state, if it is due; all ranks must call this."""
        entry = self._entry(trainer)
        dropped: list[dict[str, Any]] = []
        kept = False
        if self._is_due(entry):
            ranked = self._ranked([*self.kept, entry])
            limit = len(ranked) if self.config.save_top_k == -1 else self.config.save_top_k
            self.kept, dropped = ranked[:limit], ranked[limit:]
            kept = entry in self.kept
        last = self.folder / LAST
        if kept:
            target = self.folder / entry["file"]
            trainer.save_checkpoint(target)
            self.saved_step = trainer.global_step
            if self.config.verbose and trainer.is_global_zero:
                print(f"kept {target}")  # noqa: T201
            if self.config.save_last and trainer.is_global_zero:
                _link(target, last)
        elif self.config.save_last:
            self.save_last(trainer)
        if trainer.is_global_zero:
            for old in dropped:
                if old is not entry:
                    (self.folder / old["file"]).unlink(missing_ok=True)

    def save_last(self, trainer: L.Trainer) -> None:
        """Save `last.ckpt` only, at any point of training; all ranks must call this."""
        trainer.save_checkpoint(self.folder / LAST)
        self.saved_step = trainer.global_step

    def _name(self, trainer: L.Trainer, metrics: dict[str, float]) -> str:
        phase = self.config.monitor.partition("/")[0]
        values = {k.partition("/")[2]: v for k, v in metrics.items() if k.startswith(f"{phase}/") and k.count("/") == 1}
        epoch = trainer.fit_loop.epoch_progress.current.completed + 1  # people count from 1
        fields = {"epoch": epoch, "step": trainer.global_step} | values
        if not math.isfinite(metrics.get(self.config.monitor, math.nan)):
            stem = f"{epoch:03d}-{'no-score' if self.scores_anything(metrics) else 'not-validated'}"
        else:
            try:
                stem = self.config.filename.format(**fields)
            except KeyError:
                stem = f"{epoch:03d}"
        taken = {entry["file"] for entry in self.kept}
        return f"{stem}.ckpt" if f"{stem}.ckpt" not in taken else f"{stem}-step{trainer.global_step}.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """Return the best checkpoints by file name, without the folder: a run folder may be moved."""
        return {"kept": [dict(entry) for entry in self.kept]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best checkpoints whose files still exist."""
        source = f"{self.folder / LAST}: callbacks.{self.state_key}.kept"
        # Those that drop out of the best are removed, so that a name must not lead to a file elsewhere.
        self.kept = [e for e in state_dict["kept"] if path_within(self.folder, e["file"], source).is_file()]


def _link(source: Path, target: Path) -> None:
    """Give a file a second name by a hard link; copy it where the file system has no links."""

    def write(temporary: Path) -> None:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

    write_atomically(target, write)


def read_checkpoint(path: Path, bare: bool = False) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain data; code in it is never executed.

    Args:
        path: Path of the `.ckpt` file.
        bare: True to accept weights without a training run too, as `torch.save(model.state_dict())` writes them.

    Returns:
        The content, with at least `state_dict`; `bare` is true in it for weights without a training run.

    Raises:
        UserError: The file is missing, damaged, not a checkpoint, or holds more than plain data.
    """
    content = read_torch_file(path, torch)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        found = _bare_weights(content) if bare else None
        if found is None:
            others = f", nor weights alone or under {' or '.join(_WEIGHTS)}" if bare else ""
            raise UserError(f"{path}: is not a checkpoint of a training run (it has no state_dict{others})")
        return found
    return content


def _bare_weights(content: Any) -> dict[str, Any] | None:
    """Return the content of a file of other tools, its weights as `state_dict`; None if it has none."""
    if not isinstance(content, dict):
        return None
    key = next((key for key in _WEIGHTS if isinstance(content.get(key), dict)), None)
    weights = content if key is None else content[key]
    if not weights or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in weights.items()):
        return None
    # Averages may lie beside the weights.
    return {**({} if key is None else content), "state_dict": dict(weights), "bare": True}

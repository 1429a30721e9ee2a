"""Results of a run: scores of the best checkpoint, model card, summary, figures, and the report for the user."""

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from inference.common.errors import first_line, is_interruption
from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.card import model_card
from train.run.checkpoints import Checkpoints, read_checkpoint
from train.run.errors import translate_errors
from train.run.figures import learning_curves
from train.run.folder import RunFolder
from train.run.interrupt import Interrupted
from train.run.metrics_table import MetricsTable
from train.run.previews import draw_previews
from train.run.provenance import git_revision, now, versions


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        folder: Run folder.
        best: `{score, monitor, epoch, step, checkpoint}` of the best checkpoint.
        val: Scores of the best checkpoint on the val split, by name.
        test: Its scores on the test split; empty without one.
        seconds: Duration of this call.
        images_per_second: Training windows per second, without the time of validation.
    """

    folder: RunFolder
    best: dict[str, Any]
    val: dict[str, float]
    test: dict[str, float]
    seconds: float
    images_per_second: float


def write_results(
    config: Config,
    folder: RunFolder,
    trainer: L.Trainer,
    model: SegmentationModel,
    data: DataModule,
    checkpoints: Checkpoints,
    table: MetricsTable,
    started: float,
) -> RunResult:
    """Test the best checkpoint; write `card.json`, `summary.json`, `curves.png` and `previews/`.

    Args:
        config: Resolved config.
        folder: Run folder.
        trainer: Trainer, after `fit`.
        model: Model; the weights of the best checkpoint are loaded into it.
        data: Data module.
        checkpoints: Callback that has the best checkpoint.
        table: Scores of all epochs.
        started: Start of the run, by `time.monotonic()`.

    Returns:
        The result. All ranks must call this; rank 0 writes the files.

    Raises:
        Exception: That of the test, after all files that don't need it were written.
    """
    best_path = checkpoints.best_path
    if best_path is not None:
        state = read_checkpoint(best_path)["state_dict"]
        model.load_state_dict(state)
    test: dict[str, float] = {}
    failure: Exception | None = None
    if "test" in data.scenes and config.trainer.limit_test_batches != 0:
        # Training is done: whatever fails from here on must not cost its results.
        try:
            with translate_errors(config):
                trainer.test(model, datamodule=data, verbose=False)
            test = _phase(trainer.callback_metrics, "test/")
        except Exception as error:
            if isinstance(error, Interrupted) or is_interruption(error):
                raise
            failure = error
    table.load_rows(trainer.global_step)  # a resumed run that was complete has not loaded them yet
    best = _best(config, checkpoints, best_path)
    row: dict[str, float] = next((r for r in table.rows if r["step"] == best.get("step")), {})
    val = _phase(row, "val/")
    if note := checkpoints.note(row):
        best["note"] = note
    seconds = time.monotonic() - started
    speed = table.windows / table.train_seconds if table.train_seconds else 0.0
    result = RunResult(folder, best, val, test, seconds, speed)
    if not trainer.is_global_zero:
        if failure is not None:
            raise failure
        return result

    scored = {f"val/{k}": v for k, v in val.items()} | {f"test/{k}": v for k, v in test.items()}
    changes = model.card.training_data.changes if model.card.training_data else []
    card = model_card(config, data.images, {k: v for k, v in scored.items() if not math.isnan(v)}, now(), changes)
    card.notes = [best["note"]] if "note" in best else []
    folder.write_json(folder.card, card.model_dump(mode="json"))
    summary = {
        "best": best,
        "val": val,
        "test": test,
        "seconds": round(seconds, 1),
        "images_per_second": round(speed, 2),
        "steps": trainer.global_step if checkpoints.saved_step is None else checkpoints.saved_step,
        "finished": now(),
        "git_revision": git_revision(),
        "versions": versions(),
    }
    if failure is not None:
        summary["test_failed"] = first_line(failure)
    if changes:
        summary["data_changes"] = changes
    folder.write_json(folder.summary, summary)
    pictures = []
    title = folder.path.resolve().name + (f", epoch {best['epoch']}" if "epoch" in best else "")
    if table.rows:
        learning_curves(table.rows, config.checkpoint.monitor, best.get("step"), folder.curves, title)
        pictures.append(folder.curves)
    pictures += draw_previews(model, data, folder, title)
    if table.wandb is not None:
        table.wandb.log({f"test/{k}": v for k, v in test.items()}, trainer.global_step)
        table.wandb.finish(best_path, val.get("dice"), pictures, config.logging.log_model)
    if failure is not None:
        raise failure
    return result


def _phase(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the scores of one phase, by their names without the prefix."""
    return {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)}


def _best(config: Config, checkpoints: Checkpoints, path: Path | None) -> dict[str, Any]:
    """Return what is reported of the best checkpoint; see `RunResult.best`."""
    best: dict[str, Any] = {"monitor": config.checkpoint.monitor}
    if path is not None:
        best["checkpoint"] = f"checkpoints/{path.name}"
    if checkpoints.best is not None:
        entry = checkpoints.best
        best |= {"score": entry["score"], "epoch": entry["epoch"] + 1, "step": entry["step"]}
    return best


def report(config: Config, config_path: str, result: RunResult) -> str:
    """Return the report of a run: table of scores, paths, and the command that converts the checkpoint.

    Args:
        config: Resolved config.
        config_path: Path of the config as the user gave it.
        result: Result of the run.
    """
    names = ["dice", "iou", "precision", "recall", "accuracy", "loss"]
    lines = [""]
    if "note" in result.best:
        lines.append(f"best: {result.best['note']} (epoch {result.best['epoch']})")
    elif "score" in result.best:
        lines.append(f"best: epoch {result.best['epoch']}, {result.best['monitor']} {result.best['score']:.4f}")
    lines.append("      " + "".join(f"{name:>11}" for name in names))
    for phase, scores in (("val", result.val), ("test", result.test)):
        if scores:
            lines.append(f"{phase:<6}" + "".join(f"{scores.get(name, math.nan):>11.4f}" for name in names))
    per_class = sorted(k for k in (result.test or result.val) if k.startswith("iou/"))
    if per_class:
        shown = result.test or result.val
        lines.append("IoU of each class: " + ", ".join(f"{k.removeprefix('iou/')} {shown[k]:.4f}" for k in per_class))
        lines[-1] += f" (mean {statistics.fmean([v for k in per_class if not math.isnan(v := shown[k])] or [0]):.4f})"
    folder = result.folder
    lines += [
        "",
        f"run         {folder.path}",
        f"checkpoint  {folder.path / result.best['checkpoint']}" if "checkpoint" in result.best else "checkpoint  none",
        f"pictures    {folder.curves}  {folder.previews / 'overview.png'}",
        f"numbers     {folder.summary}  {folder.metrics}  {folder.card}",
        f"time        {result.seconds:.0f} s, {result.images_per_second:.1f} training images/s",
        "",
        "next: python train/convert_checkpoint.py "
        f"{folder.path} {config_path} --model_name {config.logging.name} --task {config.logging.project}",
    ]
    return "\n".join(lines)

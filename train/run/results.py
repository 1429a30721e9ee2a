"""What a run came to: the best checkpoint judged, drawn, and written down for people and programs."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from inference.common.errors import UserError
from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run import figures
from train.run.callbacks import MetricsTable
from train.run.card import model_card
from train.run.checkpoints import Checkpoints, read_checkpoint
from train.run.folder import RunFolder, git_revision, now, versions

PREVIEWS = 6
_PREVIEW_CANDIDATES = 200
_WINDOWS = 12


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: Where everything lies.
        best: `{score, monitor, epoch, step, checkpoint}` of the best checkpoint.
        val: Scores of the best checkpoint on the val split, by name.
        test: Its scores on the test split; empty without one.
        seconds: Time of this call.
        images_per_second: Training windows a second, validation not counted.
    """

    folder: RunFolder
    best: dict[str, Any]
    val: dict[str, float]
    test: dict[str, float]
    seconds: float
    images_per_second: float


class explained:
    """Turns what hardware and workers raise into words for the user."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            size, batch = self.config.tile_size, self.config.batch
            raise UserError(
                f"out of memory on the device with batch_size {batch} at tile_size {size}: try batch_size="
                f"{max(1, batch // 2)} trainer.accumulate_grad_batches="
                f"{self.config.trainer.accumulate_grad_batches * 2}, or a smaller tile_size"
            ) from None
        if isinstance(error, UserError) and "DataLoader worker" in str(error):
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error) and "killed" in str(error):
            raise UserError(
                "a worker that reads data was killed, most likely for want of memory (try data_module.num_workers=1)"
            ) from None
        if isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error):
            raise UserError(
                f"batch_size: {self.config.batch} leaves a batch of one window, with which the batch norm "
                f"of {self.config.segmentation_config.architecture} can't work (choose 3 or more, or an even "
                "data_module.samples_per_epoch)"
            ) from None
        if isinstance(error, OSError) and error.errno == 28:
            raise UserError(f"the disk is full: {error.filename or self.config.logging.save_dir}") from None


def finish(
    config: Config,
    folder: RunFolder,
    trainer: L.Trainer,
    model: SegmentationModel,
    data: DataModule,
    checkpoints: Checkpoints,
    table: MetricsTable,
    began: float,
) -> RunResult:
    """Tests the best checkpoint, draws, and writes down what the run came to."""
    best_path = checkpoints.best_path
    if best_path is not None:
        state = read_checkpoint(best_path)["state_dict"]
        model.load_state_dict(state)
    test: dict[str, float] = {}
    if "test" in data.scenes and config.trainer.limit_test_batches != 0:
        with explained(config):
            trainer.test(model, datamodule=data, verbose=False)
        test = _phase(trainer.callback_metrics, "test/")
    table.take_up(trainer.global_step)  # nothing was left to train, so nothing has asked for it
    best = _best(config, checkpoints, best_path)
    row: dict[str, float] = next((r for r in table.rows if r["step"] == best.get("step")), {})
    val = _phase(row, "val/")
    seconds = time.monotonic() - began
    speed = table.windows / table.train_seconds if table.train_seconds else 0.0
    result = RunResult(folder, best, val, test, seconds, speed)
    if not trainer.is_global_zero:
        return result

    scored = {f"val/{k}": v for k, v in val.items()} | {f"test/{k}": v for k, v in test.items()}
    card = model_card(config, data, {k: v for k, v in scored.items() if not math.isnan(v)}, now())
    folder.write_json(folder.card, card.model_dump(mode="json"))
    summary = {
        "best": best,
        "val": val,
        "test": test,
        "seconds": round(seconds, 1),
        "images_per_second": round(speed, 2),
        "finished": now(),
        "git_revision": git_revision(),
        "versions": versions(),
    }
    folder.write_json(folder.summary, summary)
    pictures = []
    if table.rows:
        figures.curves(table.rows, config.checkpoint.monitor, best.get("step"), folder.curves)
        pictures.append(folder.curves)
    panels = _panels(config, model, data)
    pictures += figures.previews(panels, *_legend(config), folder.previews)
    if table.tracker is not None:
        table.tracker.log({f"test/{k}": v for k, v in test.items()}, trainer.global_step)
        table.tracker.finish(best_path, val.get("dice"), pictures, config.logging.log_model)
    return result


def _phase(metrics: Any, prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)}


def _best(config: Config, checkpoints: Checkpoints, path: Path | None) -> dict[str, Any]:
    best: dict[str, Any] = {"monitor": config.checkpoint.monitor}
    if path is not None:
        best["checkpoint"] = f"checkpoints/{path.name}"
    if checkpoints.best is not None:
        entry = checkpoints.best
        best |= {"score": entry["score"], "epoch": entry["epoch"] + 1, "step": entry["step"]}
    return best


def draw_windows(data: DataModule, folder: RunFolder) -> Path:
    """Draws the first training windows of a run as the network sees them, and says where.

    Their places and changes are those of the first epoch: what is drawn is what is trained on.
    """
    dataset = data.train_dataset()
    samples = [dataset[(0, index)] for index in range(min(_WINDOWS, len(dataset.windows)))]
    dataset.reader.close()
    path = folder.previews / "augmentations.png"
    folder.previews.mkdir(exist_ok=True)
    figures.windows([s[0] for s in samples], [s[1] for s in samples], *_legend(data.config), path)
    return path


def _legend(config: Config) -> tuple[list[str], int | None, int]:
    return config.class_names, config.background_index, config.ignore_index


@torch.inference_mode()
def _panels(config: Config, model: SegmentationModel, data: DataModule) -> list[figures.Panel]:
    """Windows of the val split with their predictions: from those with most foreground to those with none."""
    dataset = data.grid_dataset("val")
    every = max(1, math.ceil(len(dataset) / _PREVIEW_CANDIDATES))
    background = config.background_index
    found = []
    for index in range(0, len(dataset), every):
        label = dataset[index][1]
        labelled = label[label != config.ignore_index]
        if labelled.size:
            found.append((labelled.size / label.size, float((labelled != background).mean()), index))
    # A window that is mostly beyond the edge shows little, but may be all there is.
    enough = next((s for s in (0.8, 0.3, 0.0) if sum(f[0] > s for f in found) >= PREVIEWS), 0.0)
    shares = sorted(((foreground, index) for size, foreground, index in found if size > enough), reverse=True)
    if not shares:
        return []
    wanted = np.unique(np.linspace(0, len(shares) - 1, min(PREVIEWS, len(shares))).round().astype(int))
    device = next(model.parameters()).device
    model.eval()
    panels = []
    for index in (shares[i][1] for i in wanted):
        image, label, (scene, row, col) = dataset[index]
        batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2).to(device)
        prediction = model.predict_classes(batch)[0].cpu().numpy().astype(np.uint8)
        title = f"{dataset.scenes[scene].pair.name} r{row} c{col}"
        panels.append(figures.Panel(title, image, label, prediction))
    return panels


def report(config: Config, config_path: str, result: RunResult) -> str:
    """What a run came to, as a table for a person, and what to do next."""
    names = ["dice", "iou", "precision", "recall", "accuracy", "loss"]
    lines = [""]
    if "score" in result.best:
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

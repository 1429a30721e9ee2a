"""Training from a config: one straight list of steps."""

import logging
import math
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.fabric.utilities.exceptions import MisconfigurationException

from train import figures
from train.callbacks import Bar, Interrupted, MetricsTable, ProgressLines, StopOnInterrupt, say
from train.card import model_card
from train.checkpoints import LAST, AtomicCheckpointIO, Checkpoints, read_checkpoint
from train.configs.config import Config
from train.datamodule import DataModule, background_index, class_names
from train.errors import UserError
from train.model import MODELS, SegmentationModel
from train.precision import native_precision
from train.run_folder import RunFolder, forget_run, git_revision, new_run, now, versions
from train.tracking import Tracker

PREVIEWS = 6
_PREVIEW_CANDIDATES = 200


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


def train(config: Config, notices: Sequence[str] = (), resume: RunFolder | None = None) -> RunResult:
    """Trains a model, and judges its best checkpoint on the test split.

    Args:
        config: What to train on what.
        notices: What the user should know of how the config was read.
        resume: The folder of a run to go on with.

    Raises:
        UserError: Data, weights or hardware don't fit the config.
        Interrupted: The user pressed Ctrl-C; `last.ckpt` holds the state.
    """
    began = time.monotonic()
    rank: int = getattr(rank_zero_only, "rank", 0)
    tell: Callable[[str], None] = say if rank == 0 else lambda line: None
    _quieten()
    for notice in notices:
        tell(f"note: {notice}")
    _seed(config.seed)

    data = DataModule(config)
    data.prepare()
    for notice in data.notices:
        tell(f"note: {notice}")
    last = _state(resume) if resume is not None else None
    model = build_model(config, data, pretrained=last is None)

    folder = resume or new_run(config, rank)
    trainer, checkpoints, table, stop = _trainer(config, folder, tell, rank, _steps(config, data))
    try:
        if rank == 0:
            folder.write_config(config)
            tell(f"run {folder.path}")
        table.tracker = Tracker(config, folder, tell) if _logs(config) and rank == 0 else None
        with _explained(config):
            trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
        if stop.asked:
            raise Interrupted
        return _finish(config, folder, trainer, model, data, checkpoints, table, began)
    except Interrupted:
        _close(table.tracker, 130)
        raise Interrupted(str(folder.path)) from None
    except BaseException as error:
        _close(table.tracker, 1)
        if isinstance(error, UserError) and resume is None and rank == 0 and not any(folder.checkpoints.iterdir()):
            shutil.rmtree(folder.path)
        raise
    finally:
        forget_run()


def build_model(config: Config, data: DataModule, pretrained: bool) -> SegmentationModel:
    """The model of a config for a data set that has been prepared."""
    card = model_card(config, data)
    model = MODELS[config.segmentation_model_cls](config.plain(), card.model_dump(mode="json"), pretrained=pretrained)
    return model


def _logs(config: Config) -> bool:
    return config.enable_logging and config.logging.mode != "disabled"


def _close(tracker: Tracker | None, code: int) -> None:
    if tracker is not None:
        tracker.close(code)


def _quieten() -> None:
    """Lightning's hints speak of its own interface, which our users don't see."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        r".*does not have many workers.*",
        r".*is smaller than the logging interval.*",
        r".*your dataloader is not resumable.*",  # ours is: windows are a function of epoch and index
        r".*ended before the epoch ended.*",
        r".*Checkpoint directory .* exists.*",
        r".*LeafSpec.*",
        r".*in eval mode at the start of training.*",  # a frozen encoder
        r".*`_get_pl_dtype`.*",
        r".*GPU available but not used.*",
        r".*lr_scheduler\.step\(\).*before.*optimizer\.step.*",  # a float16 step that was skipped
    ):
        warnings.filterwarnings("ignore", message)


def _seed(seed: int) -> None:
    import random

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still use the global generator
    torch.manual_seed(seed)


def _state(folder: RunFolder) -> Path:
    """`last.ckpt` of a run, read once to be sure that it is whole."""
    last = folder.checkpoints / LAST
    if not last.is_file():
        found = ", ".join(sorted(p.name for p in folder.checkpoints.glob("*.ckpt"))) or "none"
        raise UserError(f"{last}: no such file, so there is nothing to go on from (checkpoints: {found})")
    read_checkpoint(last)
    return last


def _steps(config: Config, data: DataModule) -> int:
    """Training batches an epoch; checks what depends on their number."""
    from train.windows import quotas

    sizes = [(s.height, s.width) for s in data.scenes["train"]]
    windows = config.data_module.samples_per_epoch or sum(quotas(sizes, config.tile_size))
    batches = math.ceil(windows / config.batch_size)
    every = config.trainer.val_check_interval
    if isinstance(every, int) and every > batches:
        raise UserError(
            f"trainer.val_check_interval: {every} batches is more than an epoch has ({windows} windows in batches of "
            f"{config.batch_size} are {batches}; allowed: 1 to {batches}, or a share such as 0.5)"
        )
    return batches


def _trainer(
    config: Config, folder: RunFolder, tell: Callable[[str], None], rank: int, steps: int
) -> tuple[L.Trainer, Checkpoints, MetricsTable, StopOnInterrupt]:
    settings = config.trainer
    precision, notice = native_precision(settings.precision, settings.accelerator)
    if notice:
        tell(f"note: {notice}")
    validates = settings.limit_val_batches != 0
    checkpoints = Checkpoints(config.checkpoint, folder.checkpoints, validates)
    table = MetricsTable(folder.metrics)
    stop = StopOnInterrupt(checkpoints, tell)
    callbacks: list[L.Callback] = [table, ProgressLines(checkpoints, tell), stop, checkpoints]
    if config.early_stopping is not None:
        callbacks.append(_early_stopping(config))
    import sys

    bar = sys.stderr.isatty() and rank == 0
    if bar:
        callbacks.append(Bar(config.checkpoint.monitor))
    # It would fill every new tensor, which costs time and protects only against reading what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        trainer = L.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            sync_batchnorm=settings.sync_batchnorm,
            precision=cast(Any, precision),
            accumulate_grad_batches=settings.accumulate_grad_batches,
            gradient_clip_val=settings.gradient_clip_val,
            max_epochs=config.max_epoch,
            max_steps=settings.max_steps,
            limit_train_batches=settings.limit_train_batches,
            limit_val_batches=settings.limit_val_batches,
            limit_test_batches=settings.limit_test_batches,
            val_check_interval=settings.val_check_interval,
            log_every_n_steps=settings.log_every_n_steps,
            # Some losses have no deterministic form on CUDA: a warning, where an error would end the run.
            deterministic="warn" if settings.deterministic else False,
            benchmark=settings.benchmark,
            logger=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder.path,
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # ours deals windows out itself, none twice
        )
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None
    return trainer, checkpoints, table, stop


def _early_stopping(config: Config) -> L.Callback:
    from lightning.pytorch.callbacks import EarlyStopping

    settings = config.early_stopping
    assert settings is not None
    monitor = settings.monitor or config.checkpoint.monitor
    return EarlyStopping(
        monitor,
        mode="min" if monitor.endswith("/loss") else "max",
        patience=settings.patience,
        min_delta=settings.min_delta,
        check_finite=False,
        check_on_train_epoch_end=monitor.startswith("train/"),
    )


class _explained:  # noqa: N801 - reads as a word in a with statement
    """Turns what hardware and workers raise into words for the user."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            size, batch = self.config.tile_size, self.config.batch_size
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
        if isinstance(error, OSError) and error.errno == 28:
            raise UserError(f"the disk is full: {error.filename or self.config.logging.save_dir}") from None


def _finish(
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
        with _explained(config):
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
    pictures += figures.previews(
        panels, class_names(config), background_index(config), config.ignore_index, folder.previews
    )
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


@torch.inference_mode()
def _panels(config: Config, model: SegmentationModel, data: DataModule) -> list[figures.Panel]:
    """Windows of the val split with their predictions: from those with most foreground to those with none."""
    dataset = data.grid_dataset("val")
    every = max(1, math.ceil(len(dataset) / _PREVIEW_CANDIDATES))
    background = background_index(config)
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

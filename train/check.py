"""`python -m train CONFIG --check`: everything that can be wrong before a long run, found before it; trains nothing."""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from train.callbacks import say
from train.card import ground_sample_distance
from train.configs.config import Config
from train.datamodule import DataModule, class_names, cores
from train.datasets import TrainDataset, collate
from train.errors import UserError
from train.geotiff import Reader
from train.model import SegmentationModel
from train.overlap import overlaps
from train.precision import native_precision
from train.progress import progress
from train.run import build_model
from train.scenes import Scene
from train.survey import Survey, survey
from train.windows import TrainingWindows, quotas

STEP_SIZE = 256
_SHOWN = 20


@dataclass(frozen=True)
class Step:
    """What one training step told.

    Attributes:
        loss: Of the step.
        seconds: It took.
        size: Side of its windows, pixels.
        batch: Windows in it.
        activations: Bytes that the backward pass keeps, for one window of that size.
    """

    loss: float
    seconds: float
    size: int
    batch: int
    activations: int


def check(config: Config, notices: Sequence[str]) -> int:
    """Prints what a run would work with.

    Returns:
        0 where a run could start.

    Raises:
        UserError: Something must be mended first: a line for each problem.
    """
    for notice in notices:
        say(f"note: {notice}")
    data = DataModule(config)
    data.prepare()
    for notice in data.notices:
        say(f"note: {notice}")
    surveys = _surveys(config, data)
    for line in _data_table(config, data, surveys):
        sys.stdout.write(line + "\n")
    model = build_model(config, data, pretrained=True)
    step = one_step(config, data, model)
    for line in _model_table(config, data, model, step):
        sys.stdout.write(line + "\n")
    warned = _warnings(config, data, surveys)
    for line in warned:
        sys.stdout.write(f"warning: {line}\n")
    sys.stdout.write("ready to train\n" if not warned else "ready to train, if the warnings are all right with you\n")
    return 0


def _surveys(config: Config, data: DataModule) -> dict[str, list[Survey]]:
    """Every pixel of every split; files that can't be read and labels that are no class are all named."""
    reader = Reader(data.rule, config.data_module.fill_value, cores())
    scenes = [(split, scene) for split, found in data.scenes.items() for scene in found]
    surveys: dict[str, list[Survey]] = {split: [] for split in data.scenes}
    problems = []
    for split, scene in progress(scenes, len(scenes), "reading images and labels"):
        try:
            surveys[split].append(survey([scene], data.bands, reader, scene.pair.name))
        except UserError as error:
            problems.append(str(error))
    reader.close()
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise UserError("\n".join([*problems[:_SHOWN], *more]))
    return surveys


def _table(title: str, rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines of a table whose first column is left-aligned and whose others are as wide as they need to be."""
    wide = max(len(name) for name, _ in rows) + 2
    columns = [
        max((len(row[i]) for _, row in rows if i < len(row)), default=0)
        for i in range(max(len(row) for _, row in rows))
    ]
    lines = [title]
    for name, row in rows:
        cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(row, columns, strict=False))
        lines.append(f"  {name:<{wide}}{cells}".rstrip())
    return [*lines, ""]


def _data_table(config: Config, data: DataModule, surveys: dict[str, list[Survey]]) -> list[str]:
    splits = list(data.scenes)
    names = class_names(config)

    def row(name: str, cells: Sequence[str]) -> tuple[str, Sequence[str]]:
        return name, cells

    totals = [_Totals(surveys[s], len(names)) for s in splits]
    rows = [row("", splits), row("images", [str(len(data.scenes[s])) for s in splits])]
    rows.append(row("smallest, pixels", [_size(min(data.scenes[s], key=_area)) for s in splits]))
    rows.append(row("largest, pixels", [_size(max(data.scenes[s], key=_area)) for s in splits]))
    rows.append(row("megapixels", [f"{t.pixels / 1e6:.1f}" for t in totals]))
    rows.append(row("bands used", [f"{len(data.bands)} of {data.scenes[s][0].image.count}" for s in splits]))
    rows.append(row("type", [data.dtype for _ in splits]))
    rows.append(row("CRS", [_crs(data.scenes[s]) for s in splits]))
    distances = [ground_sample_distance(data.scenes[s]) for s in splits]
    rows.append(row("pixel on the ground, m", [f"{d:.3g}" if d is not None else "-" for d in distances]))
    rows.append(row("share of all pixels:", []))
    rows += [row(f"  {name}", [t.share(t.classes[i]) for t in totals]) for i, name in enumerate(names)]
    rows.append(row("  unlabelled", [t.share(t.unlabelled) for t in totals]))
    rows.append(row("  nodata", [t.share(t.invalid) for t in totals]))
    return _table(f"data {data.data_dir}", rows)


class _Totals:
    """Sums over the images of a split."""

    def __init__(self, surveys: Sequence[Survey], classes: int) -> None:
        self.pixels = sum(s.pixels for s in surveys)
        self.invalid = sum(s.invalid for s in surveys)
        self.unlabelled = sum(s.unlabelled for s in surveys)
        self.classes = [sum(int(s.classes[i]) for s in surveys) for i in range(classes)]

    def share(self, part: int) -> str:
        """Of all pixels."""
        return f"{part / self.pixels:.1%}" if self.pixels else "-"


def _area(scene: Scene) -> int:
    return scene.height * scene.width


def _size(scene: Scene) -> str:
    return f"{scene.width}x{scene.height}"


def _crs(scenes: Sequence[Scene]) -> str:
    found = {scene.image.crs.to_string() if scene.image.crs else "none" for scene in scenes}
    return found.pop() if len(found) == 1 else f"{len(found)} different"


def one_step(config: Config, data: DataModule, model: SegmentationModel) -> Step:
    """Takes one training step at batch 1 and at most 256 pixels, on the CPU.

    Raises:
        UserError: The network can't take it, or its loss is no number.
    """
    size = min(config.tile_size, STEP_SIZE)
    full = data.train_dataset()
    sizes = [(s.height, s.width) for s in full.scenes]
    small = TrainDataset(full.scenes, full.bands, full.reader, TrainingWindows(sizes, size, config.seed), full.augment)
    mixed = config.trainer.precision.endswith("mixed")
    model.train()
    for batch in (1, 2):
        samples = [small[(0, i % len(small.windows))] for i in range(batch)]
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.numel() * tensor.element_size()
            return tensor

        began = time.monotonic()
        try:
            with (
                torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, enabled=mixed),
            ):
                content = collate(samples)
                logits = model(model.normalize(content["image"]))
                loss = model.loss(logits, content["label"])
            loss.backward()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            if batch == 1 and config.batch_size > 1:
                continue  # it pools to one pixel, of which a batch of one has no variance
            raise UserError(
                "batch_size: this network normalises over a single pixel, which needs batches of 2 or more"
            ) from None
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"segmentation_config.loss: the first step's loss is {value}, no finite number")
        torch.optim.AdamW([p for p in model.parameters() if p.grad is not None], lr=1e-6).step()
        return Step(value, time.monotonic() - began, size, batch, kept // batch)
    raise AssertionError("unreachable")


def _model_table(config: Config, data: DataModule, model: SegmentationModel, step: Step) -> list[str]:
    settings = config.segmentation_config
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    # Weights; for those that are trained also a gradient and AdamW's two moments: all float32.
    fixed = 4 * total + 12 * trained + buffers
    activations = step.activations * (config.tile_size / step.size) ** 2 * config.batch_size
    windows = config.data_module.samples_per_epoch or sum(
        quotas([(s.height, s.width) for s in data.scenes["train"]], config.tile_size)
    )
    devices = config.trainer.devices if isinstance(config.trainer.devices, int) else 1
    steps = math.ceil(windows / (config.batch_size * devices * config.trainer.accumulate_grad_batches))
    precision = native_precision(config.trainer.precision, config.trainer.accelerator)[0]
    losses = " + ".join(f"{t['weight']:g} {t['name']}" for t in config.loss_terms)
    rows: list[tuple[str, Sequence[str]]] = [
        ("network", [f"{settings.architecture} on {settings.backbone}"]),
        ("parameters", [f"{total / 1e6:.2f} million, {trained / 1e6:.2f} million trained"]),
        ("loss", [losses.removeprefix("1 ") if len(config.loss_terms) == 1 else losses]),
        ("precision", [precision]),
        ("an epoch", [f"{windows} windows of {config.tile_size} px, {steps} optimiser steps of {config.batch_size}"]),
        ("one step", [f"{step.batch} of {step.size} px: loss {step.loss:.4f}, {step.seconds:.1f} s on the CPU"]),
        ("memory, estimated", [f"{(fixed + activations) / 2**30:.1f} GiB for a batch of {config.batch_size}"]),
    ]
    wide = max(len(name) for name, _ in rows) + 2
    return ["model", *(f"  {name:<{wide}}{row[0]}" for name, row in rows), ""]


def _warnings(config: Config, data: DataModule, surveys: dict[str, list[Survey]]) -> list[str]:
    lines = []
    for (first, second), pairs in overlaps(data.scenes).items():
        shown = ", ".join(f"{a} and {b}" for a, b in pairs[:3]) + (", ..." if len(pairs) > 3 else "")
        lines.append(
            f"{len(pairs)} images of {first} and {second} overlap on the ground ({shown}): the scores will be too good"
        )
    names = class_names(config)
    for split, found in surveys.items():
        counts = _Totals(found, len(names)).classes
        absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
        if absent:
            lines.append(f"{split} has no pixel of {', '.join(absent)}")
    return lines

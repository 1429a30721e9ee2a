"""`python -m train CONFIG --check`: check config, data and model before a long run; nothing is trained."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from pyproj import CRS

from inference.common.text import print_line
from train.configs.config import Config
from train.data.labelled_images import LabelledImages
from train.data.overlap import overlaps
from train.data.pairs import Scene, join_some, whole_images
from train.data.statistics import Statistics, merge
from train.data.survey import Survey
from train.data.undeclared import suspect_notices
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.optim.precision import native_precision
from train.run.card import ground_sample_distance
from train.run.fit import build_model, resolve_auto_values
from train.run.memory import ProbeStep, count_parameters, estimate_memory, probe_step
from train.run.preflight import check_run
from train.run.progress import print_message


def check(config: Config, notices: Sequence[str], survey: Survey) -> int:
    """Print tables of the data and the model of a run, and warnings.

    Args:
        config: Resolved config.
        notices: Notices about how the config was read, to be shown to the user.
        survey: Survey of the config's images.

    Returns:
        Exit code 0: a run could start.

    Raises:
        UserError: A run could not start; one line per problem.
    """
    for notice in notices:
        print_message(f"note: {notice}")
    images, surveys = survey.images, survey.statistics
    data = DataModule(config, images)
    data.prepare()
    config = data.config
    for notice in data.notices:
        print_message(f"note: {notice}")
    _print(_data_table(config, images, surveys))
    if config.batch_size == "auto":
        config = resolve_auto_values(config, data, print_message)
    model = build_model(config, data, pretrained=True)
    check_run(config, data, model)
    step = probe_step(config, data, model)
    _print(_model_table(config, data, model, step))
    warned = _warnings(config, images, surveys)
    warned += images.alpha_notices()
    if config.data_module.nodata != "none":
        warned += suspect_notices(survey.suspects)
    _print([f"warning: {line}" for line in warned])
    _print(["ready to train" if not warned else "ready to train (read the warnings first)"])
    return 0


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print_line(line, sys.stdout)
    sys.stdout.flush()  # keeps the order of lines on stdout and stderr


def _table(title: str, rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the lines of a table; the first column is left-aligned, the others right-aligned."""
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


def _data_table(config: Config, data: LabelledImages, surveys: dict[str, list[Statistics]]) -> list[str]:
    splits = list(data.scenes)
    names = config.class_names

    def row(name: str, cells: Sequence[str]) -> tuple[str, Sequence[str]]:
        return name, cells

    totals = [merge(surveys[s], len(data.bands), len(names)) for s in splits]
    rows = [row("", splits), row("images", [str(len(whole_images(data.scenes[s]))) for s in splits])]
    if data.prepared is not None:
        rows.append(row("blocks", [str(len(data.scenes[s])) for s in splits]))
    rows.append(row("smallest, pixels", [_size(min(data.scenes[s], key=_area)) for s in splits]))
    rows.append(row("largest, pixels", [_size(max(data.scenes[s], key=_area)) for s in splits]))
    rows.append(row("megapixels", [f"{t.pixels / 1e6:.3g}" for t in totals]))
    rows.append(row("bands used", [f"{len(data.bands)} of {data.scenes[s][0].image.count}" for s in splits]))
    rows.append(row("type", [data.dtype for _ in splits]))
    rows.append(row("values", [_values(t) for t in totals]))
    rows.append(row("CRS", [_crs(data.scenes[s]) for s in splits]))
    distances = [ground_sample_distance(data.scenes[s]) for s in splits]
    rows.append(row("pixel on the ground, m", [f"{d:.3g}" if d is not None else "-" for d in distances]))
    rows.append(row("share of all pixels:", []))
    rows += [row(f"  {name}", [_share(t.class_counts[i], t) for t in totals]) for i, name in enumerate(names)]
    rows.append(row("  unlabelled", [_share(t.unlabelled, t) for t in totals]))
    rows.append(row("  nodata", [_share(t.invalid, t) for t in totals]))
    return _table(f"data {data.data_dir}", rows)


def _share(part: int, of: Statistics) -> str:
    """Return a share of all pixels in percent; a small share is shown as <0.1%, not as 0."""
    share = part / max(1, of.pixels)
    return f"{share:.1%}" if share >= 0.0005 or not part else "<0.1%"


def _values(of: Statistics) -> str:
    """Return the smallest and largest value of all bands."""
    return f"{of.low.min():.6g} to {of.high.max():.6g}" if of.valid else "-"


def _area(scene: Scene) -> int:
    return scene.height * scene.width


def _size(scene: Scene) -> str:
    return f"{scene.width}x{scene.height}"


def _crs(scenes: Sequence[Scene]) -> str:
    found = {_crs_name(scene.image.crs) for scene in scenes}
    return found.pop() if len(found) == 1 else f"{len(found)} different"


def _crs_name(crs: Any) -> str:
    """Return a CRS as a code such as EPSG:32609, or by its name where it has no code."""
    if not crs:
        return "none"
    code = crs.to_authority()
    return ":".join(code) if code else CRS.from_wkt(crs.to_wkt()).name


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _bytes(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _model_table(config: Config, data: DataModule, model: SegmentationModel, step: ProbeStep) -> list[str]:
    settings = config.segmentation_config
    total, trained = count_parameters(model)
    windows = data.windows_per_epoch
    devices = config.trainer.devices if isinstance(config.trainer.devices, int) else 1
    steps = math.ceil(windows / (config.batch * devices * config.trainer.accumulate_grad_batches))
    precision = native_precision(config.trainer.precision, config.trainer.accelerator)[0]
    losses = " + ".join(f"{t['weight']:g} {t['name']}" for t in config.loss_terms)
    rows: list[tuple[str, Sequence[str]]] = [
        ("network", [f"{settings.architecture} on {settings.backbone}"]),
        ("parameters", [f"{total / 1e6:.2f} million, {trained / 1e6:.2f} million trained"]),
        ("loss", [losses.removeprefix("1 ") if len(config.loss_terms) == 1 else losses]),
        ("precision", [precision]),
        ("an epoch", [f"{_count(windows, 'window')} of {config.tile_size} px in {_count(steps, 'optimiser step')}"]),
        ("one step", [f"{step.batch} of {step.size} px: loss {step.loss:.4f}, {step.seconds:.1f} s on the CPU"]),
        (
            "memory, estimated",
            [f"{_bytes(estimate_memory(config, model, step, config.batch))} for a batch of {config.batch}"],
        ),
    ]
    wide = max(len(name) for name, _ in rows) + 2
    return ["model", *(f"  {name:<{wide}}{row[0]}" for name, row in rows), ""]


def _warnings(config: Config, data: LabelledImages, surveys: dict[str, list[Statistics]]) -> list[str]:
    lines = []
    # Blocks of a prepared data set were checked against the guard distance.
    found_overlaps = overlaps(data.scenes) if data.prepared is None else {}
    for (first, second), pairs in found_overlaps.items():
        shown = join_some(f"{a} and {b}" for a, b in pairs)
        count = "an image" if len(pairs) == 1 else f"{len(pairs)} times an image"
        lines.append(
            f"{count} of {first} and one of {second} show the same ground ({shown}): the scores will be too good"
        )
    names = config.class_names
    for split, found in surveys.items():
        total = merge(found, len(data.bands), len(names))
        absent = [name for name, count in zip(names, total.class_counts, strict=True) if count == 0]
        if len(absent) == len(names):
            lines.append(f"{split} has no pixel with a label")
        elif absent:
            lines.append(f"{split} has no pixel of {join_some(absent, 10)}")
    return lines

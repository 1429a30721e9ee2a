"""Evaluation of a model on a split: from the user's options to the files of the report."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from eval.dataset import Split, choose_data, choose_label_rule, has_split, nodata_notices, open_split
from eval.models import Model, class_name_notice, open_model
from eval.predictions import described, predict_split
from eval.report.folder import FILES, PANELS, ReportFolder
from eval.report.html import html_report
from eval.report.json_csv import per_image_csv, scores_json
from eval.report.results import Evaluation, score_predictions
from eval.report.verdict import verdict
from eval.scoring.bootstrap import Counts
from eval.scoring.counts import Distance, ScoreSettings, add_counts
from eval.scoring.groups import count_ungeoreferenced, group_images
from inference.common.areas import usable_crs
from inference.common.documents import read_json
from inference.common.errors import UserError, first_line
from inference.common.files import write_text
from inference.common.text import clean_line, limited, print_line
from inference.options import DeviceName, Options
from inference.plan import make_plan
from train.data.pairs import whole_images
from train.data.placement import georeference_notices
from train.data.undeclared import likewise


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of an evaluation, as on the command line.

    Attributes:
        model: W&B artifact, checkpoint, run folder or exported file; None: the model in inference/weights.
        config: YAML that the model was trained with.
        overrides: KEY=VALUE overrides of the YAML.
        data: Folder of the data set or demo://kelp; None: the data the model was trained on, else the demo.
        split: `train`, `val` or `test`.
        baseline: Second model to compare with.
        group: Regular expression that assigns images to groups by their names; None: by footprint.
        out: Folder for the report; None: runs/judged/MODEL-SPLIT.
        card: JSON file used in place of the model's card.
        baseline_card: JSON file used in place of the baseline's card.
        bands: Bands to read, counted from 1; None: those of the card.
        ignore_index: Label value to ignore; None: that of config or card.
        boundary_pixels: Distance of the boundary scores, pixels.
        boundary_metres: Distance of the boundary scores on the ground, metres.
        threshold: Search for the best threshold on the validation split.
        device: Device to run the models on.
        mapping: Options of mapping for both models, some of `eval.predictions.MAPPING_OPTIONS`.
        overwrite: Replace the report of another evaluation.
        wandb: Log the results to Weights & Biases.
    """

    model: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    data: str | None = None
    split: str = "test"
    baseline: str | None = None
    group: str | None = None
    out: Path | None = None
    card: Path | None = None
    baseline_card: Path | None = None
    bands: Sequence[int] | None = None
    ignore_index: int | None = None
    boundary_pixels: float = 3
    boundary_metres: float = 0.5
    threshold: bool = True
    device: DeviceName = "auto"
    mapping: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    wandb: bool = False


def evaluate(options: EvaluationOptions) -> tuple[list[Path], str]:
    """Evaluate a model and write the report.

    Returns:
        Paths of the files and folders written, and the verdict.

    Raises:
        UserError: Invalid input; no report is written.
        CheckFailed: The trace of a checkpoint differs from the checkpoint.
    """
    if options.baseline is None and options.baseline_card is not None:
        raise UserError("--baseline-card: there is no --baseline")
    with tempfile.TemporaryDirectory(prefix="evaluation-") as name:
        temporary = Path(name)
        model = open_model(options.model, options.config, options.overrides, options.card, temporary)
        baseline = None
        if options.baseline is not None:
            baseline = open_model(options.baseline, None, (), options.baseline_card, temporary)
            _check_classes(model, baseline)
        for notice in (*model.notices, *(baseline.notices if baseline else ())):
            print_line(f"notice: {notice}")
        data, notice = choose_data(model, options.data)
        print_line(f"evaluating {model.name} on the {options.split} split of {data}")
        if notice is not None:
            print_line(f"notice: {notice}")
        rule = choose_label_rule(model, options.ignore_index)
        split = open_split(data, options.split, rule, model, options.bands)
        if baseline is not None:
            open_split(data, options.split, rule, baseline, options.bands)
        groups = group_images(split.scenes, options.group)
        notices = georeference_notices(scene.image for scene in whole_images(split.scenes))
        if "nodata" not in options.mapping:
            notices += nodata_notices(model, split.scenes)
        for notice in notices:
            print_line(f"notice: {notice}")
        _check_plans([model, *([baseline] if baseline else [])], split, options, temporary / "plan.tif")
        with ReportFolder(_output_path(options, model), _inputs(options, model, baseline, split)) as report:
            if not options.overwrite:
                _check_same_evaluation(report.path / "scores.json", model, baseline, data, options)
            evaluation = _evaluate(options, model, baseline, split, groups, report.staging, temporary)
            _write(evaluation, report.staging)
            written = report.publish()
    if options.wandb:
        from eval.report.wandb import log

        print_line(log(evaluation, written[0], report.path))
    return written, verdict(evaluation)


def _check_plans(models: Sequence[Model], split: Split, options: EvaluationOptions, target: Path) -> None:
    """Plan the map of one image of each kind, so that what doesn't fit a model is refused before anything is mapped."""
    kinds: dict[str, list[str]] = {}
    for scene in whole_images(split.scenes):
        image = scene.image
        kind = (image.count, image.dtype, image.nodata, image.palette, image.colours)
        kinds.setdefault(str(kind), []).append(image.path)
    problems = []
    for model, paths in product(models, kinds.values()):
        bands = options.bands or model.card.bands
        try:
            make_plan(paths[0], target, Options(model=model.path, card=model.card_file, bands=bands, **options.mapping))
        except UserError as error:
            more = likewise(len(paths) - 1) if str(error).startswith(paths[0]) else ""
            problems.append(f"{error}{more}")
    if problems:
        raise UserError("\n".join(limited(problems)))


def _evaluate(
    options: EvaluationOptions,
    model: Model,
    baseline: Model | None,
    split: Split,
    groups: Sequence[str],
    out: Path,
    temporary: Path,
) -> Evaluation:
    """Map the split with both models, then score the maps."""
    distances = (Distance(options.boundary_pixels, "px"), Distance(options.boundary_metres, "m"))
    georeferenced = all(scene.image.georeferenced and usable_crs(scene.image) is not None for scene in split.scenes)
    settings = ScoreSettings.from_card(model.card, distances if georeferenced else distances[:1])
    reference = None
    if baseline is not None:
        print_line(f"evaluating the baseline, {baseline.name}")
        bands = tuple(options.bands or baseline.card.bands)
        baseline_split = Split(split.data, split.name, split.scenes, split.rule, bands)
        masks = _create(out / "baseline-masks")
        predictions = predict_split(
            baseline, baseline_split, settings, masks, temporary, options.device, options.mapping
        )
        reference = score_predictions(predictions, settings, groups)
    masks = _create(out / "masks")
    predictions = predict_split(model, split, settings, masks, temporary, options.device, options.mapping)
    if not add_counts(predictions.counts)["confusion"].any():
        folder = split.scenes[0].pair.image.parent
        raise UserError(
            f"{folder}: no pixel is both valid in its image and labelled, so there is nothing to score (if a nodata "
            "value is declared that is none: --nodata none)"
        )
    validation = _count_validation(options, model, split, settings, temporary)
    ungeoreferenced = count_ungeoreferenced(split.scenes) if options.group is None else 0
    return score_predictions(predictions, settings, groups, validation, reference, ungeoreferenced)


def _count_validation(
    options: EvaluationOptions, model: Model, split: Split, settings: ScoreSettings, temporary: Path
) -> tuple[Counts, ...]:
    """Return pixel counts of the validation split for the threshold search; empty if no search is possible."""
    if not options.threshold or settings.target != 1 or not has_split(split.data, "val"):
        return ()
    try:
        validation = open_split(split.data, "val", split.rule, model, options.bands)
    except UserError as error:
        print_line(f"notice: no threshold is suggested: {first_line(error)}")
        return ()
    masks = _create(temporary / "val")
    without_boundary = ScoreSettings(settings.class_names, settings.target, ())
    return predict_split(model, validation, without_boundary, masks, temporary, options.device, options.mapping).counts


def _check_classes(model: Model, baseline: Model) -> None:
    """Check that two models have comparable classes."""
    first, second = model.card.class_names, baseline.card.class_names
    if len(first) != len(second):
        raise UserError(
            f"--baseline: {baseline.name} has {len(second)} classes ({', '.join(second)}), {model.name} has "
            f"{len(first)} ({', '.join(first)}): they can't be compared"
        )
    if model.card.background_index != baseline.card.background_index:
        raise UserError(
            f"--baseline: {baseline.name} has background index {baseline.card.background_index}, {model.name} has "
            f"{model.card.background_index}: they can't be compared"
        )
    if notice := class_name_notice(first, second, baseline.name):
        print_line(f"notice: --baseline: {notice}")


def _inputs(options: EvaluationOptions, model: Model, baseline: Model | None, split: Split) -> dict[str | Path, str]:
    """Return the files that the evaluation reads, each with what it is."""
    files: dict[str | Path | None, str] = {scene.image.path: "an image" for scene in split.scenes}
    files |= {scene.label.path: "a label" for scene in split.scenes}
    files |= {model.path: "the model", model.card_file: "the model's card", options.config: "the config"}
    if baseline is not None:
        files |= {baseline.path: "the baseline", baseline.card_file: "the baseline's card"}
    return {file: what for file, what in files.items() if file is not None}


def _output_path(options: EvaluationOptions, model: Model) -> Path:
    """Return the folder of the report: --out, or one named after model and split."""
    stem = re.sub(r"[^\w.=-]+", "-", Path(model.name).name if "/" in model.name else model.name)
    return options.out or Path("runs/judged") / f"{stem}-{options.split}"


def _check_same_evaluation(
    path: Path, model: Model, baseline: Model | None, data: str, options: EvaluationOptions
) -> None:
    """Check that a folder has no report, or one of the same models, data, split and options of mapping."""
    if not path.exists():
        return
    try:
        found = read_json(path)
    except UserError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: isn't the scores of an earlier evaluation (choose another --out, or --overwrite)")
    reference = found.get("baseline")
    before = {
        "model": found.get("model"),
        "--data": found.get("data"),
        "--split": found.get("split"),
        "--baseline": reference.get("model") if isinstance(reference, dict) else None,
        "options of mapping": found.get("mapping") or {},
    }
    now = {
        "model": model.name,
        "--data": data,
        "--split": options.split,
        "--baseline": baseline.name if baseline else None,
        "options of mapping": described(options.mapping),
    }
    differences = [
        f"{name} was {clean_line(str(before[name] or 'none'))}, is {clean_line(str(now[name] or 'none'))}"
        for name in now
        if before[name] != now[name]
    ]
    if differences:
        raise UserError(
            f"{path.parent}: has the report of another evaluation: {'; '.join(differences)} (choose another --out, or "
            "replace it with --overwrite)"
        )


def _create(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _write(evaluation: Evaluation, folder: Path) -> None:
    """Write the files of the report."""
    text = html_report(evaluation, folder / PANELS)
    for name, content in zip(FILES, (text, scores_json(evaluation), per_image_csv(evaluation)), strict=True):
        write_text(folder / name, content)

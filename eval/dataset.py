"""The images and labels that a model is judged on, checked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from eval.models import Model
from inference.common.cpu import cores
from inference.common.errors import UserError
from inference.common.progress import progress
from train.data.labels import LabelRule, label_rule
from train.data.pairs import Scene, data_dir, find_pairs, read_scenes
from train.data.reader import Reader

DEMO = "demo://kelp"
_ROWS = 1024


@dataclass(frozen=True)
class Split:
    """Pairs of images and labels.

    Attributes:
        data: The folder, or demo://kelp, as the user gave it.
        name: train, val or test.
        scenes: The pairs.
        rule: What values of the label files mean.
        bands: Bands to read, counted from 1, in the network's order.
    """

    data: str
    name: str
    scenes: tuple[Scene, ...]
    rule: LabelRule
    bands: tuple[int, ...]


def choose_data(model: Model, given: str | None) -> tuple[str, str | None]:
    """Where the data set lies: where the user says, else what the model was trained on, else the demo.

    Returns:
        The data set, and what to tell the user of the choice.
    """
    if given is not None:
        return given, None
    if model.config is not None:
        return model.config.data_module.data_dir, None
    trained = model.card.training_data
    if trained is not None and trained.source != DEMO.rpartition("://")[2]:
        return DEMO, f"no --data given: judged on the demo data set, but the model was trained on {trained.source}"
    return DEMO, "no --data given: judged on the demo data set"


def choose_rule(model: Model, ignore_index: int | None) -> LabelRule:
    """What values of label files mean to this model.

    Raises:
        UserError: The config has other classes than the model, or ignore_index is one.
    """
    classes = len(model.card.class_names)
    if model.config is not None and model.config.labels != classes:
        raise UserError(f"the config has {model.config.labels} classes, {model.name} has {classes} (give its own YAML)")
    if ignore_index is not None and not classes <= ignore_index <= 255:
        raise UserError(f"--ignore-index: {ignore_index} (allowed: {classes} to 255; 0 to {classes - 1} are classes)")
    card = model.card
    rule = LabelRule(classes, card.ignore_index, tuple(card.label_map.items()), card.label_nodata)
    if model.config is not None:
        rule = label_rule(model.config)
    if ignore_index is None:
        return rule
    return LabelRule(classes, ignore_index, rule.label_map, rule.nodata)


def open_split(data: str, name: str, rule: LabelRule, model: Model, bands: Sequence[int] | None) -> Split:
    """Finds a split, and checks that it can be judged on.

    Raises:
        UserError: It is missing, empty or unlabelled, its images have other bands than the model takes, or a label
            holds a value that is no class; one line a problem.
    """
    try:
        folder = data_dir(data)
    except UserError as error:
        raise UserError(str(error).replace("data_module.data_dir:", "--data:")) from None
    found = find_pairs(folder, name)
    scenes, unsound = read_scenes(found.pairs)
    problems = found.problems + unsound
    for scene in scenes:
        problems += _band_problems(scene, model, bands)
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    split = Split(data, name, tuple(scenes), rule, tuple(bands or model.card.bands))
    _check_labels(split)
    return split


def _band_problems(scene: Scene, model: Model, bands: Sequence[int] | None) -> list[str]:
    wanted, path = list(bands or model.card.bands), scene.pair.image
    count = scene.image.count
    if len(wanted) != len(model.card.bands):
        return [f"--bands: names {len(wanted)} bands, {model.name} takes {len(model.card.bands)}"]
    if max(wanted) > count:
        return [f"{path}: has {count} bands, {model.name} reads band {max(wanted)} (choose others with --bands)"]
    others = count - len(set(scene.image.alpha) - set(wanted))
    plain = wanted == list(range(1, len(wanted) + 1))
    configured = model.config is not None and model.config.data_module.bands is not None
    if bands is None and plain and not configured and others != len(wanted):
        return [
            f"{path}: has {others} bands, {model.name} takes {len(wanted)} (if they are among them, name them: --bands "
            f"{','.join(map(str, wanted))})"
        ]
    return []


def _check_labels(split: Split) -> None:
    """Reads all labels once: far quicker than finding out after the images have been mapped."""
    reader = Reader(split.rule, threads=cores())
    problems: list[str] = []
    labelled = 0
    for scene in progress(split.scenes, len(split.scenes), "reading labels"):
        try:
            for row in range(0, scene.height, _ROWS):
                label = reader.label(scene, Window(0, row, scene.width, min(_ROWS, scene.height - row)))
                labelled += int(np.count_nonzero(label != split.rule.ignore_index))
        except UserError as error:
            problems.append(str(error).replace("data_module.label_map)", "data_module.label_map, or --ignore-index)"))
    reader.close()
    if problems:
        raise UserError("\n".join(problems))
    if not labelled:
        folder = Path(split.scenes[0].pair.label).parent
        raise UserError(f"{folder}: no pixel is labelled, all are {split.rule.ignore_index}, which is ignored")

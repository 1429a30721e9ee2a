"""Images and labels for an evaluation, checked before any image is mapped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from eval.models import Model
from inference.common.bands import bands_in_order, colours_text, contradictions
from inference.common.cpu import cores
from inference.common.errors import UserError
from inference.common.paths import Address
from inference.common.progress import progress
from inference.common.text import LONGEST_NAME, clean_line
from train.data.labels import LabelRule, label_rule
from train.data.pairs import Scene, data_dir, find_pairs, has_folder, read_scenes, whole_images
from train.data.prepared import DATASET
from train.data.prepared_scenes import prepared_scenes
from train.data.read_prepared import is_prepared, prepared_splits, read_prepared
from train.data.reader import Reader
from train.data.remote_folder import RemoteFolder
from train.data.undeclared import likewise

DEMO = "demo://kelp"
_ROWS = 1024


@dataclass(frozen=True)
class Split:
    """Split of a data set.

    Attributes:
        data: Folder of the data set, or demo://kelp, as the user gave it.
        name: `train`, `val` or `test`.
        scenes: Pairs of image and label.
        rule: Meaning of the values in the label files.
        bands: Bands to read, counted from 1, in the network's order.
    """

    data: str
    name: str
    scenes: tuple[Scene, ...]
    rule: LabelRule
    bands: tuple[int, ...]


def choose_data(model: Model, given: str | None) -> tuple[str, str | None]:
    """Return the data set the user gave, else the one the model was trained on, else the demo.

    Returns:
        Folder or demo://kelp, and a notice about the choice or None.
    """
    if given is not None:
        return given, None
    if model.config is not None:
        return model.config.data_module.data_dir, None
    trained = model.card.training_data
    if trained is not None and trained.source != DEMO.rpartition("://")[2]:
        return DEMO, f"no --data given: using the demo data set, but the model was trained on {trained.source}"
    return DEMO, "no --data given: using the demo data set"


def choose_label_rule(model: Model, ignore_index: int | None) -> LabelRule:
    """Return the meaning of label values for a model, from its config, else from its card.

    Args:
        model: The model.
        ignore_index: Label value to ignore, in place of that of config or card.

    Raises:
        UserError: The config and the model have different numbers of classes, or `ignore_index` is a class.
    """
    classes = len(model.card.class_names)
    if model.config is not None and model.config.labels != classes:
        raise UserError(f"the config has {model.config.labels} classes, {model.name} has {classes} (give its YAML)")
    if ignore_index is not None and not classes <= ignore_index <= 255:
        found = clean_line(str(ignore_index), LONGEST_NAME)
        raise UserError(f"--ignore-index: {found} (allowed: {classes} to 255; 0 to {classes - 1} are classes)")
    card = model.card
    rule = LabelRule(classes, card.ignore_index, tuple(card.label_map.items()), card.label_nodata)
    if model.config is not None:
        rule = label_rule(model.config)
    if ignore_index is None:
        return rule
    return LabelRule(classes, ignore_index, rule.label_map, rule.nodata)


def open_split(data: str, name: str, rule: LabelRule, model: Model, bands: Sequence[int] | None) -> Split:
    """Find a split and check that a model can be evaluated on it.

    Args:
        data: Folder of the data set, or demo://kelp.
        name: `train`, `val` or `test`.
        rule: Meaning of the values in the label files.
        model: The model.
        bands: Bands to read, counted from 1; None: those of the model's card.

    Raises:
        UserError: The split is missing, empty or unlabelled, the bands of its images don't match the model, or a label
            has a value that is not a class; one line per problem.
    """
    try:
        folder = data_dir(data)
    except UserError as error:
        raise UserError(str(error).replace("data_module.data_dir:", "--data:")) from None
    if is_prepared(folder):
        scenes, problems = _prepared(folder if isinstance(folder, Path) else folder.address, name, model)
    else:
        scenes, problems = _folders(folder, name)
    for scene in whole_images(scenes):
        problems += _band_problems(scene, model, bands)
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    split = Split(data, name, tuple(scenes), rule, tuple(bands or model.card.bands))
    _check_labels(split)
    return split


def nodata_notices(model: Model, scenes: Iterable[Scene]) -> list[str]:
    """Return a notice about images whose own nodata value training replaced, but maps don't."""
    chosen = None if model.config is None else model.config.data_module.nodata
    if chosen is None or chosen == "auto":
        return []
    value = None if isinstance(chosen, str) else float(chosen)
    declared = [
        (scene.image.path, own) for scene in whole_images(scenes) if (own := scene.image.nodata[0]) not in {None, value}
    ]
    if not declared:
        return []
    shown = "none" if value is None else f"{value:g}"
    path, own = declared[0]
    return [
        f"{path}: declares nodata {own:g}{likewise(len(declared) - 1)}, which maps heed; training had "
        f"data_module.nodata: {shown} in its place (to score as in training: --nodata {shown})"
    ]


def has_split(data: str, name: str) -> bool:
    """Return True if a data set has a split of this name, as far as can be told without reading it."""
    folder = data_dir(data)
    return has_folder(folder, name) or is_prepared(folder)


def _folders(folder: Path | RemoteFolder, name: str) -> tuple[list[Scene], list[str]]:
    """Return the scenes of a split's folders, and problems, one line each."""
    found = find_pairs(folder, name)
    scenes, unsound = read_scenes(found.pairs)
    return scenes, found.problems + unsound


def _prepared(folder: Path | Address, name: str, model: Model) -> tuple[list[Scene], list[str]]:
    """Return the scenes of a split of a prepared data set, and problems, one line each.

    The val split is the fold that the model was validated on.
    """
    prepared = read_prepared(folder)
    if name == "val" and prepared.settings.folds is not None and model.config is None:
        return [], [
            f"--split: val is one of {prepared.settings.folds} folds of {folder}, and {model.name} doesn't say which "
            "one it was validated on (give its YAML as CONFIG)"
        ]
    splits = prepared_splits(prepared, None if model.config is None else model.config.data_module.fold)
    if name not in splits:
        found = ", ".join(splits) or "none"
        return [], [f"{folder / DATASET}: blocks: no selected block is in {name} (choose --split; found {found})"]
    names, classes = prepared.settings.class_names, model.card.class_names
    if len(names) != len(classes) and not model.card.label_map:
        return [], [
            f"--data: {folder} has the classes {', '.join(names)}, {model.name} has {', '.join(classes)} (evaluate it "
            "on data of its own classes)"
        ]
    scenes, problems = prepared_scenes(prepared, {name: splits[name]})
    return scenes[name], problems


def _band_problems(scene: Scene, model: Model, bands: Sequence[int] | None) -> list[str]:
    wanted, path = list(bands or model.card.bands), scene.pair.image
    count = scene.image.count
    if len(wanted) != len(model.card.bands):
        return [f"--bands: names {len(wanted)} bands, {model.name} takes {len(model.card.bands)}"]
    if max(wanted) > count:
        return [f"{path}: has {count} bands, {model.name} reads band {max(wanted)} (choose others with --bands)"]
    colours = model.card.band_colours
    if bands is None and colours and contradictions(scene.image, wanted, colours):
        ordered = bands_in_order(scene.image, wanted, colours) or wanted
        found = colours_text([scene.image.colours[band - 1] for band in wanted])
        return [
            f"{path}: bands {','.join(map(str, wanted))} are {found}, {model.name} was trained on "
            f"{colours_text(colours)} (choose bands, for example --bands {','.join(map(str, ordered))})"
        ]
    available = count - len(set(scene.image.alpha) - set(wanted))
    first = wanted == list(range(1, len(wanted) + 1))
    configured = model.config is not None and model.config.data_module.bands is not None
    if bands is None and first and not configured and available != len(wanted):
        return [
            f"{path}: has {available} bands, {model.name} takes {len(wanted)} (choose bands, for example --bands "
            f"{','.join(map(str, wanted))})"
        ]
    return []


def _check_labels(split: Split) -> None:
    """Read all labels once, so that errors in them are reported before the images are mapped, which is much slower."""
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
        folder = split.scenes[0].pair.label.parent
        raise UserError(f"{folder}: no pixel is labelled, all are {split.rule.ignore_index}, which is ignored")

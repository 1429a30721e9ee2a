"""Scenes of each split of a data set, whatever its layout: folders of images and labels, or a prepared data set."""

from dataclasses import dataclass, field
from pathlib import Path

from inference.common.errors import UserError
from inference.common.paths import Address
from train.configs.config import Config
from train.configs.data import SPLITS
from train.data.pairs import Scene, find_pairs, has_folder, read_scenes
from train.data.prepared import DATASET, PreparedSet
from train.data.prepared_scenes import guard_problems, prepared_scenes, resolution_notices, tile_notices
from train.data.read_prepared import is_prepared, prepared_splits, read_prepared
from train.data.remote_folder import RemoteFolder


@dataclass(frozen=True)
class FoundScenes:
    """Contents of a data set.

    Attributes:
        splits: Scenes of each split; of a data set with problems, those that can be read.
        problems: Errors that the user must fix, a line each.
        notices: Notices for the user, a line each.
        prepared: Tables of a prepared data set; None for folders.
    """

    splits: dict[str, list[Scene]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    prepared: PreparedSet | None = None


def find_scenes(folder: Path | RemoteFolder, config: Config) -> FoundScenes:
    """Find the scenes of each split, and read the headers of their files.

    Args:
        folder: Folder of the data set, here or remote.
        config: Resolved config.
    """
    if is_prepared(folder):
        return _prepared(folder if isinstance(folder, Path) else folder.address, config)
    return _folders(folder, config)


def with_class_names(config: Config, prepared: PreparedSet | None) -> Config:
    """Return a config with the names of the classes of a prepared data set, unless it names them itself."""
    given = config.data_module.class_names
    if prepared is None or given is not None or not _keeps_classes(config):
        return config
    data = config.data_module.model_copy(update={"class_names": list(prepared.settings.class_names)})
    return config.model_copy(update={"data_module": data})


def _folders(folder: Path | RemoteFolder, config: Config) -> FoundScenes:
    found = FoundScenes()
    if config.data_module.fold is not None:
        found.problems.append(
            f"data_module.fold: {config.data_module.fold}, but {folder} has no folds (leave it out; python -m "
            "train.prepare makes data sets with folds)"
        )
    for split in SPLITS:
        if split == "test" and not has_folder(folder, split):
            found.notices.append(f"{folder}: has no test/, so there will be no test scores")
            continue
        pairs = find_pairs(folder, split)
        found.splits[split], invalid = read_scenes(pairs.pairs)
        found.notices.extend(pairs.notices)
        found.problems.extend(pairs.problems + invalid)
    return found


def _prepared(folder: Path | Address, config: Config) -> FoundScenes:
    try:
        prepared = read_prepared(folder)
        splits = prepared_splits(prepared, config.data_module.fold)
    except UserError as error:
        return FoundScenes({}, [str(error)])
    table = f"{folder / DATASET}: blocks"
    if empty := [split for split in SPLITS[:2] if split not in splits]:
        return FoundScenes(
            {},
            [
                f"{table}: no selected block is in {' or '.join(empty)} (set `split` and `selected` of some blocks, or "
                "run python -m train.prepare again)"
            ],
        )
    scenes, problems = prepared_scenes(prepared, splits)
    problems += guard_problems(prepared, scenes)
    used = {block.source for blocks in splits.values() for block in blocks}
    notices = resolution_notices(source for name, source in prepared.sources.items() if name in used)
    notices += tile_notices(prepared, scenes, config.tile_size)
    if "test" not in splits:
        notices.append(f"{table}: no selected block is in test, so there will be no test scores")
    return FoundScenes(scenes, _class_problems(prepared, config) + problems, notices, prepared)


def _keeps_classes(config: Config) -> bool:
    """Return True if the classes of a prepared data set stay as they are: no label is mapped to another."""
    return not config.data_module.label_map


def _class_problems(prepared: PreparedSet, config: Config) -> list[str]:
    """Return what a config says about classes that a prepared data set contradicts."""
    if not _keeps_classes(config):
        return []
    path, names = prepared.folder / DATASET, prepared.settings.class_names
    shown, given = ", ".join(names), config.data_module.class_names
    if config.labels != len(names):
        allowed = "1 or 2" if len(names) == 2 else str(len(names))
        return [
            f"num_classes: {config.num_classes} means {config.labels} classes, {path} has {len(names)}: {shown} "
            f"(allowed: {allowed})"
        ]
    if given is not None and tuple(given) != names:
        return [
            f"data_module.class_names: {', '.join(given)}, but the classes of {path} are {shown} (write the same, or "
            "leave class_names out)"
        ]
    return []

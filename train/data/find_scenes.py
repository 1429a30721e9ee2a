"""Scenes of each split of a data set: what a folder of images and labels contains."""

from dataclasses import dataclass, field
from pathlib import Path

from train.data.pairs import SPLITS, Scene, find_pairs, read_scenes


@dataclass(frozen=True)
class FoundScenes:
    """Contents of a data set.

    Attributes:
        splits: Scenes of each split; of a data set with problems, those that can be read.
        problems: Errors that the user must fix, a line each.
        notices: Notices for the user, a line each.
    """

    splits: dict[str, list[Scene]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def find_scenes(folder: Path) -> FoundScenes:
    """Find the scenes of each split, and read the headers of their files.

    Args:
        folder: Folder of the data set.
    """
    found = FoundScenes()
    for split in SPLITS:
        if split == "test" and not (folder / split).exists():
            found.notices.append(f"{folder}: has no test/, so there will be no test scores")
            continue
        pairs = find_pairs(folder, split)
        found.splits[split], invalid = read_scenes(pairs.pairs)
        found.notices.extend(pairs.notices)
        found.problems.extend(pairs.problems + invalid)
    return found

"""Which images belong together: those of one site are no independent witnesses of how good a model is."""

import re
from collections.abc import Sequence

import numpy as np

from inference.common.errors import UserError
from train.data.overlap import box
from train.data.pairs import Scene

_SLACK = 1.5  # pixels: neighbours share an edge up to rounding


def group_images(scenes: Sequence[Scene], pattern: str | None) -> list[str]:
    """A group's name for each image.

    Args:
        scenes: The images.
        pattern: A regular expression found in each image's name: what its first parenthesis holds, or all that it
            matches, is the group. None: images whose footprints touch are one group, others are on their own.

    Raises:
        UserError: The pattern is none, or isn't found in a name.
    """
    return _touching(scenes) if pattern is None else _matching([scene.pair.name for scene in scenes], pattern)


def unplaced(scenes: Sequence[Scene]) -> int:
    """How many images aren't georeferenced, so that footprints tell nothing of them."""
    return sum(box(scene.image) is None for scene in scenes)


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group: {pattern}: is no regular expression ({error})") from None
    groups = []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise UserError(f"--group: {pattern}: isn't found in {name} (it must be in each image's name)")
        groups.append((match[1] if expression.groups else match[0]) or "")
    return groups


def _touching(scenes: Sequence[Scene]) -> list[str]:
    groups = [scene.pair.name for scene in scenes]
    boxes = [box(scene.image) for scene in scenes]
    placed = [place for place, edges in enumerate(boxes) if edges is not None]
    edges = np.array([boxes[place] for place in placed], float).reshape(-1, 4)
    sizes = np.array([(scenes[place].width, scenes[place].height) for place in placed], float).reshape(-1, 2)
    slack = _SLACK * (edges[:, 2:] - edges[:, :2]) / sizes
    west, south = (edges[:, :2] - slack / 2).T
    east, north = (edges[:, 2:] + slack / 2).T
    for one in range(len(placed)):
        touching = (west <= east[one]) & (east >= west[one]) & (south <= north[one]) & (north >= south[one])
        joined = {groups[placed[other]] for other in np.flatnonzero(touching)}
        name = min(joined)
        groups = [name if group in joined else group for group in groups]
    return groups

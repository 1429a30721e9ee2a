"""Groups of images that are resampled together, because images of one site are not independent samples."""

import re
from collections.abc import Sequence

import numpy as np

from inference.common.errors import UserError
from train.data.overlap import box
from train.data.pairs import Scene

_SLACK = 1.5  # pixels: the edges of adjacent images coincide only up to rounding


def group_images(scenes: Sequence[Scene], pattern: str | None) -> list[str]:
    """Assign each image to a group.

    Args:
        scenes: The images.
        pattern: Regular expression to search for in each image's name. The group is the match of its first
            parenthesised part, or the whole match. None: the blocks of a site of a prepared data set form a group;
            otherwise images whose footprints touch do, and an image that is not georeferenced is a group of its own.

    Returns:
        Name of the group of each image.

    Raises:
        UserError: The pattern is no valid regular expression, or an image's name does not match it.
    """
    if pattern is not None:
        return _matching([scene.name for scene in scenes], pattern)
    return [scene.site for scene in scenes] if all(scene.site for scene in scenes) else _touching(scenes)


def count_ungeoreferenced(scenes: Sequence[Scene]) -> int:
    """Return the number of images without a site and a georeference, and so without a footprint."""
    return sum(not scene.site and box(scene.image) is None for scene in scenes)


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group: {pattern}: is not a regular expression ({error})") from None
    groups = []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise UserError(f"--group: {pattern}: isn't found in {name} (the name of each image must match)")
        groups.append((match[1] if expression.groups else match[0]) or "")
    return groups


def _touching(scenes: Sequence[Scene]) -> list[str]:
    """Group images by connected footprints; a group has the alphabetically first name in it."""
    groups = [scene.pair.name for scene in scenes]
    boxes = [box(scene.image) for scene in scenes]
    located = [index for index, edges in enumerate(boxes) if edges is not None]
    edges = np.array([boxes[index] for index in located], float).reshape(-1, 4)
    sizes = np.array([(scenes[index].width, scenes[index].height) for index in located], float).reshape(-1, 2)
    slack = _SLACK * (edges[:, 2:] - edges[:, :2]) / sizes
    west, south = (edges[:, :2] - slack / 2).T
    east, north = (edges[:, 2:] + slack / 2).T
    for one in range(len(located)):
        touching = (west <= east[one]) & (east >= west[one]) & (south <= north[one]) & (north >= south[one])
        joined = {groups[located[other]] for other in np.flatnonzero(touching)}
        name = min(joined)
        groups = [name if group in joined else group for group in groups]
    return groups

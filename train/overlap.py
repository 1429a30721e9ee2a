"""Whether images of different splits show the same ground, which would make the scores of one meaningless."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from train.scenes import Header, Scene

# Neighbouring tiles share an edge, and rounding makes a sliver of it; shares of the smaller image's extent.
TOLERANCE = 1e-3


def footprint(header: Header) -> tuple[float, float, float, float] | None:
    """West, south, east and north of an image in degrees; None where it isn't georeferenced."""
    if header.crs is None or header.transform.is_identity:
        return None
    corners = [header.transform @ (c, r) for c in (0, header.width) for r in (0, header.height)]
    xs, ys = zip(*corners, strict=True)
    try:
        west, south, east, north = transform_bounds(header.crs, "EPSG:4326", min(xs), min(ys), max(xs), max(ys))
    except Exception:  # a CRS that can't be placed on the Earth
        return None
    return (west, south, east, north) if np.isfinite([west, south, east, north]).all() else None


def overlaps(splits: Mapping[str, Sequence[Scene]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Names of images of two splits whose extents overlap.

    Extents are boxes along the meridians: exact for images that lie so, an upper bound for turned ones.

    Returns:
        For each pair of splits with any, the pairs of image names.
    """
    boxes: dict[str, tuple[list[str], NDArray[np.float64]]] = {}
    for split, scenes in splits.items():
        placed = [(s.pair.name, box) for s in scenes if (box := footprint(s.image)) is not None]
        boxes[split] = ([name for name, _ in placed], np.array([box for _, box in placed]).reshape(-1, 4))
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for first, second in combinations(boxes, 2):
        (names, one), (other_names, two) = boxes[first], boxes[second]
        for i, box in enumerate(one):
            width = np.minimum(box[2], two[:, 2]) - np.maximum(box[0], two[:, 0])
            height = np.minimum(box[3], two[:, 3]) - np.maximum(box[1], two[:, 1])
            areas = (two[:, 2] - two[:, 0]) * (two[:, 3] - two[:, 1])
            smaller = np.minimum(areas, (box[2] - box[0]) * (box[3] - box[1]))
            for j in np.flatnonzero((width > 0) & (height > 0) & (width * height > TOLERANCE * smaller)):
                found.setdefault((first, second), []).append((names[i], other_names[j]))
    return found

"""Distances on the ground between images and between blocks: what keeps the splits of a data set apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Proj

from inference.common.areas import usable_crs
from inference.common.raster import Header
from train.data.overlap import box, rectangle_outline, transformer
from train.data.prepared import Block

DEGREE = 110_500.0
"""Metres in a degree of latitude, at least (110,574 m at the equator)."""
_BULGE = 1e-4
"""Share of a box by which the sides of an image may reach out of it between the points that it is made from."""
_TOLERANCE = 1e-3
"""Share of the guard by which a distance may fall short of it: the rounding of projections over a survey."""


@dataclass(frozen=True)
class TooClose:
    """Two blocks of different splits that lie nearer to each other than the guard.

    Attributes:
        first: Number of a block.
        second: Number of the other one, larger.
        distance: Distance on the ground, metres, or pixels if they aren't georeferenced; 0 if they overlap.
    """

    first: int
    second: int
    distance: float


def near_images(headers: Sequence[Header], distance: float) -> list[list[int]]:
    """Group images that lie within a distance of each other, directly or through others.

    Args:
        headers: Headers of the images.
        distance: Distance on the ground, metres.

    Returns:
        Numbers of the images of each group, ascending; an image that can't be placed on the Earth is alone.
    """
    boxes = [box(header) for header in headers]
    placed = [number for number, each in enumerate(boxes) if each is not None]
    alone = [[number] for number, each in enumerate(boxes) if each is None]
    if not placed:
        return sorted(alone)
    edges = np.array([boxes[number] for number in placed], np.float64)
    north = distance / DEGREE
    east = north / np.maximum(np.cos(np.radians(np.abs(edges[:, [1, 3]]).max(axis=1) + north)), 1e-6)
    west, south, right, top = edges.T
    east, north = east + _BULGE * (right - west), north + _BULGE * (top - south)
    middle = (west + right) / 2
    west, right = west - middle + middle % 360, right - middle + middle % 360  # one meridian may be written in two ways
    copies = np.arange(len(placed))
    grown = shapely.box(west - east, south - north, right + east, top + north)
    # Across the meridian of 0 (or 360) degrees too.
    again = shapely.box(west - east + 360, south - north, right + east + 360, top + north)
    tree = shapely.STRtree(
        np.concatenate([shapely.box(west, south, right, top), shapely.box(west + 360, south, right + 360, top)])
    )
    pairs = [tree.query(shapes, predicate="intersects") for shapes in (grown, again)]
    root = list(range(len(placed)))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    for one, other in np.concatenate(pairs, axis=1).T:
        first, second = sorted((find(int(copies[one])), find(int(other) % len(placed))))
        root[second] = first
    groups: dict[int, list[int]] = {}
    for at, number in enumerate(placed):
        groups.setdefault(find(at), []).append(number)
    return sorted([*groups.values(), *alone])


class Plane:
    """Plane in metres around the middle of some images, on which distances are those on the ground.

    The azimuthal equidistant projection overstates a distance of two places by 4e-5 at 100 km from its middle (Snyder,
    Map Projections: A Working Manual, USGS Professional Paper 1395, 1987, chapter 25).

    Args:
        headers: Headers of the images, all placed on the Earth.
    """

    def __init__(self, headers: Sequence[Header]) -> None:
        edges = np.array([box(header) for header in headers])
        middle = edges[:, [0, 2]].mean(axis=1)
        longitude = middle[0] + np.mean((middle - middle[0] + 180) % 360 - 180)
        latitude = (edges[:, 1].min() + edges[:, 3].max()) / 2
        self._project = Proj(proj="aeqd", lon_0=longitude, lat_0=latitude, ellps="WGS84")

    def place(self, header: Header, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (column, row) of an image to metres on the plane, (n, 2)."""
        x, y = header.transform @ (at[:, 0], at[:, 1])
        longitude, latitude = transformer(header.crs, None).transform(x, y)
        return np.column_stack(self._project(longitude, latitude))


def rectangles(header: Header, blocks: Sequence[Block], plane: Plane | None) -> NDArray[Any]:
    """Return the outlines of blocks of an image, (n,) polygons in metres on a plane; in pixels if there is none.

    Each side has a point in its middle, because it may be a curve on the plane.
    """
    sides = np.array([[block.col, block.row, block.width, block.height] for block in blocks], np.float64)
    at = sides[:, None, :2] + sides[:, None, 2:] * rectangle_outline(2)
    flat = at.reshape(-1, 2)
    placed = flat if plane is None else plane.place(header, flat)
    outlines: NDArray[Any] = shapely.polygons(placed.reshape(at.shape))
    return outlines


def too_close(
    blocks: Sequence[Block], headers: Mapping[str, Header], guard: float | None, guard_pixels: int
) -> list[TooClose]:
    """Find selected blocks of different splits or folds that lie nearer to each other than the guard.

    Args:
        blocks: Blocks.
        headers: Header of each source, by name.
        guard: Guard on the ground, metres; None if no image is georeferenced.
        guard_pixels: Guard within images that aren't georeferenced, pixels.

    Returns:
        The pairs, those that overlap first, then by distance.
    """
    of_source: dict[str, list[int]] = {}
    for number, block in enumerate(blocks):
        if block.selected:
            of_source.setdefault(block.source, []).append(number)
    names = list(of_source)
    found = []
    for group in near_images([headers[name] for name in names], guard or 0.0):
        members = [headers[names[at]] for at in group]
        on_earth = usable_crs(members[0]) is not None and box(members[0]) is not None
        plane = Plane(members) if on_earth else None
        numbers = np.concatenate([of_source[names[at]] for at in group])
        outlines = np.concatenate(
            [rectangles(headers[names[at]], [blocks[n] for n in of_source[names[at]]], plane) for at in group]
        )
        distance = (guard or 0.0) if plane is not None else float(guard_pixels)
        found += _pairs(numbers, outlines, [(blocks[n].split, blocks[n].fold) for n in numbers], distance)
    return sorted(found, key=lambda pair: (pair.distance, pair.first, pair.second))


def _pairs(
    numbers: NDArray[np.int64], outlines: NDArray[Any], labels: Sequence[tuple[str, int | None]], distance: float
) -> list[TooClose]:
    if len(set(labels)) < 2:
        return []
    known = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    label = np.array([known[each] for each in labels])
    one, other = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=distance * (1 - _TOLERANCE))
    apart = (one < other) & (label[one] != label[other])
    one, other = one[apart], other[apart]
    if not distance:  # blocks may touch, and overlap by a rounding
        shared = shapely.area(shapely.intersection(outlines[one], outlines[other]))
        real = shared > _TOLERANCE * np.minimum(shapely.area(outlines[one]), shapely.area(outlines[other]))
        one, other = one[real], other[real]
    first, second = np.minimum(numbers[one], numbers[other]), np.maximum(numbers[one], numbers[other])
    distances = shapely.distance(outlines[one], outlines[other])
    return [TooClose(int(a), int(b), float(far)) for a, b, far in zip(first, second, distances, strict=True)]

"""Groups of images that share ground, and the frame of each group: a plane on which its blocks are laid out.

The frame of a group is the pixel grid of its first image, continued beyond that image. A cell of the frame is a unit of
ground, which all images of the group that show it share, so that it can't come into two splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform as to_crs

from inference.common.areas import pixel_sides_at
from inference.common.raster import Header
from train.data.guard import near_images
from train.data.overlap import box

_POINTS = 17
"""Points on a side of an outline that is placed in another CRS."""
_PARALLEL = 1e-9
"""Largest slope of an axis against the frame's up to which images are parallel to it."""


@dataclass(frozen=True)
class Group:
    """Images that lie near each other, and their frame.

    Attributes:
        members: Numbers of the images; the first one's pixels are the frame's.
        headers: Headers of these images.
        bounds: First and last row, first and last column of all members in the frame, whole pixels.
        sides: Height and width of a pixel of the frame on the ground, metres, the smallest in the group; None without
            georeference.
        margin: Rows and columns of the frame by which the rounding to a member's pixels may move an edge.
    """

    members: tuple[int, ...]
    headers: tuple[Header, ...]
    bounds: tuple[int, int, int, int]
    sides: tuple[float, float] | None
    margin: tuple[int, int]


def find_groups(headers: Sequence[Header], guard: float) -> list[Group]:
    """Group images that lie within the guard of each other, metres; images without georeference are alone."""
    return [_group(tuple(members), tuple(headers[at] for at in members)) for members in near_images(headers, guard)]


def _group(members: tuple[int, ...], headers: tuple[Header, ...]) -> Group:
    frame = headers[0]
    if box(frame) is None:
        return Group(members, headers, (0, frame.height, 0, frame.width), None, (0, 0))
    outlines = [to_frame(header, frame, _outline(header)) for header in headers]
    at = np.concatenate(outlines)
    low, high = np.floor(at.min(axis=0) + 1e-6).astype(int), np.ceil(at.max(axis=0) - 1e-6).astype(int)
    sides = pixel_sides_at(frame.crs, frame.transform, at[:, 1], at[:, 0])
    assert sides is not None, "an image with a box has a place on the Earth"
    coarsest = np.ones(2)
    for header, outline in zip(headers[1:], outlines[1:], strict=True):
        # The extent in the frame over the pixels that show it: a pixel of this image in pixels of the frame.
        across = np.ptp(outline, axis=0)[::-1] / (header.height, header.width)
        coarsest = np.maximum(coarsest, across if _is_parallel(header, frame) else max(across))
    margin = (0, 0) if len(headers) == 1 else tuple(int(each) for each in np.ceil(coarsest))
    smallest = float(sides[0].min()), float(sides[1].min())
    return Group(
        members, headers, (int(low[1]), int(high[1]), int(low[0]), int(high[0])), smallest, (margin[0], margin[1])
    )


def _outline(header: Header) -> NDArray[np.float64]:
    """Return points along the edge of an image, (n, 2) as (column, row)."""
    share = np.linspace(0, 1, _POINTS)[:-1]
    none, all_ = np.zeros_like(share), np.ones_like(share)
    sides = np.concatenate(
        [np.stack(s, 1) for s in ((share, none), (all_, share), (1 - share, all_), (none, 1 - share))]
    )
    return sides * (header.width, header.height)


def to_frame(header: Header, frame: Header, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (column, row) of an image to those of the frame, (n, 2); also the other way, with the two exchanged."""
    if header is frame:
        return at
    x, y = header.transform @ (at[:, 0], at[:, 1])
    if header.crs != frame.crs:
        x, y = np.array(to_crs(header.crs, frame.crs, x, y))
    return np.column_stack(~frame.transform @ (np.asarray(x), np.asarray(y)))


def _is_parallel(header: Header, frame: Header) -> bool:
    """Return True if the axes of an image are those of the frame, up to direction and scale."""
    if header.crs != frame.crs:
        return False
    across = ~frame.transform @ header.transform
    return bool(max(abs(across.b), abs(across.d)) <= _PARALLEL * min(abs(across.a), abs(across.e)))


def rectangle(
    header: Header, frame: Header, cell: tuple[float, float, float, float]
) -> tuple[int, int, int, int] | None:
    """Return the whole pixels of an image that lie inside a cell of the frame.

    Args:
        header: Header of the image.
        frame: Header of the frame.
        cell: First and last row, first and last column in the frame.

    Returns:
        First row, row after the last, first column and column after the last; None if the image has no such pixel. Of
        an image that is turned against the frame it is a rectangle inside the cell, not the largest one.
    """
    top, bottom, left, right = cell
    if header is frame:
        return _clipped(header, top, bottom, left, right)
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    if _is_parallel(header, frame):
        at = to_frame(frame, header, corners)
        (left, top), (right, bottom) = at.min(axis=0), at.max(axis=0)
        return _clipped(header, top, bottom, left, right)
    share = np.linspace(0, 1, _POINTS)[:-1, None]
    outline = np.concatenate([a + share * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])
    inside = _inside(to_frame(frame, header, outline))
    return None if inside is None else _clipped(header, *inside)


def _inside(outline: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    """Return a rectangle inside an outline that is nearly a quadrilateral: top, bottom, left, right.

    Around the middle, the sides of the bounding box are drawn in until its corners lie inside, once with the box's own
    proportions, and once with each pair of sides apart.
    """
    import shapely

    area = shapely.Polygon(outline)
    if not area.is_valid or not area.area:
        return None
    shapely.prepare(area)
    middle, (west, south, east, north) = np.array(area.centroid.coords[0]), area.bounds
    reach = np.array([min(middle[0] - west, east - middle[0]), min(middle[1] - south, north - middle[1])])
    best: Any = None
    for wide in np.linspace(0.1, 1, 19):
        low, high = 0.0, 1.0
        for _ in range(24):
            tall = (low + high) / 2
            half = reach * (wide, tall)
            if area.contains_properly(shapely.box(*(middle - half), *(middle + half))):
                low = tall
            else:
                high = tall
        if low and (best is None or wide * low > best[0]):
            best = wide * low, middle - reach * (wide, low), middle + reach * (wide, low)
    if best is None:
        return None
    _, first, last = best
    return float(first[1]), float(last[1]), float(first[0]), float(last[0])


def _clipped(header: Header, top: float, bottom: float, left: float, right: float) -> tuple[int, int, int, int] | None:
    """Return the whole pixels inside a rectangle and inside the image; None if there are none."""
    # What is a whole number but for rounding is taken as one.
    rows = max(0, int(np.ceil(top - 1e-4))), min(header.height, int(np.floor(bottom + 1e-4)))
    cols = max(0, int(np.ceil(left - 1e-4))), min(header.width, int(np.floor(right + 1e-4)))
    return (*rows, *cols) if rows[0] < rows[1] and cols[0] < cols[1] else None

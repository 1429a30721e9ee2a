"""Groups of images that share ground, and the frame of each group: a plane on which its blocks are laid out.

The frame of a group is the pixel grid of its first image, continued beyond that image. A cell of the frame is a unit of
ground, which all images of the group that show it share, so that it can't come into two splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj.enums import TransformDirection
from rasterio.crs import CRS
from rasterio.warp import transform as to_crs

from inference.common.areas import ground_sample_distance, pixel_sides, pixel_sides_at
from inference.common.raster import GDAL_ERRORS, Header
from train.data.guard import near_images
from train.data.overlap import box, rectangle_outline, transformer

_POINTS = 16
"""Points on a side of an outline that is placed in another CRS."""
_SQUARE = 1e-3
"""Deviation of a pixel's area from that of a rectangle that is taken for rounding."""
_PARALLEL = 1e-9
"""Largest slope of an axis against the frame's up to which images are parallel to it."""


@dataclass(frozen=True)
class Group:
    """Images that lie near each other, and their frame.

    Attributes:
        members: Numbers of the images; the first one's pixels are the frame's.
        headers: Headers of these images.
        bounds: First and last row, first and last column of all members in the frame, whole pixels.
        sides: Distance on the ground from one row of pixels of the frame to the next, and from one column to the next,
            metres, the smallest in the group; None without georeference.
        margin: Rows and columns of the frame by which the place of a member is uncertain, because its datum and the
            frame's can be related in two ways.
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
    margin = np.max([_ambiguity(header, frame) for header in headers], axis=0)
    # Where rows and columns aren't perpendicular on the ground, rows are nearer to each other than pixels are high.
    lean = _perpendicular(frame)
    smallest = float(sides[0].min()) * lean, float(sides[1].min()) * lean
    return Group(
        members,
        headers,
        (int(low[1]), int(high[1]), int(low[0]), int(high[0])),
        smallest,
        (int(margin[0]), int(margin[1])),
    )


def _perpendicular(header: Header) -> float:
    """Return the ground area of a pixel in the middle of an image over the product of its sides, at most 1."""
    middle = header.height, header.width
    side = ground_sample_distance(header.crs, header.transform, *middle)
    sides = pixel_sides(header.crs, header.transform, *middle)
    assert side is not None
    assert sides is not None
    share = side**2 / (sides[0] * sides[1])
    return share if share < 1 - _SQUARE else 1.0


def _outline(header: Header) -> NDArray[np.float64]:
    """Return points along the edge of an image, (n, 2) as (column, row)."""
    return rectangle_outline(_POINTS) * (header.width, header.height)


def extent(header: Header, frame: Header) -> tuple[float, float, float, float]:
    """Return the first and last row, and the first and last column, of an image in a frame."""
    at = to_frame(header, frame, _outline(header))
    (left, top), (right, bottom) = at.min(axis=0), at.max(axis=0)
    return float(top), float(bottom), float(left), float(right)


def to_frame(header: Header, frame: Header, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (column, row) of an image to those of the frame, (n, 2); also the other way, with the two exchanged."""
    if header is frame:
        return at
    x, y = header.transform @ (at[:, 0], at[:, 1])
    if header.crs != frame.crs:
        # Through the degrees on which distances are measured, so that all images have one place on the Earth.
        x, y = transformer(frame.crs, None).transform(
            *transformer(header.crs, None).transform(x, y), direction=TransformDirection.INVERSE
        )
    return _pixels(x, y, frame)


def _pixels(x: NDArray[np.float64], y: NDArray[np.float64], frame: Header) -> NDArray[np.float64]:
    """Convert coordinates in the CRS of a frame to its (column, row), (n, 2)."""
    if turn := _turn(frame.crs):
        # The same meridian may be written in two ways; the one that is near the frame is meant.
        middle = frame.transform @ (frame.width / 2, frame.height / 2)
        x = x - turn * np.round((x - middle[0]) / turn)
    return np.column_stack(~frame.transform @ (x, y))


def _ambiguity(header: Header, frame: Header) -> NDArray[np.int64]:
    """Return by how many rows and columns of a frame an image moves if it is placed there directly, (2,).

    PROJ takes GDA94 and GDA2020 both for WGS 84, but knows that they lie 1.8 m apart.
    """
    if header.crs == frame.crs:
        return np.zeros(2, np.int64)
    at = _outline(header)
    x, y = header.transform @ (at[:, 0], at[:, 1])
    try:
        x, y = np.array(to_crs(header.crs, frame.crs, x, y))
    except (*GDAL_ERRORS, ValueError):  # only through degrees
        return np.zeros(2, np.int64)
    moved = np.abs(_pixels(x, y, frame) - to_frame(header, frame, at)).max(axis=0)[::-1]
    return np.asarray(np.ceil(np.where(np.isfinite(moved), moved, 0) - 0.01), np.int64)


@lru_cache(maxsize=64)
def _turn(crs: CRS) -> float:
    """Return the length of the equator in the units of a CRS whose x is proportional to the longitude; else 0."""
    if crs.is_geographic:
        return 2 * np.pi / float(crs.units_factor[1])
    projection = crs.to_dict()
    if projection.get("proj") not in {"merc", "webmerc"}:
        return 0.0
    middle = float(projection.get("lon_0", 0))
    (west, east), _ = to_crs("EPSG:4326", crs, [middle, middle + 90], [0, 0])
    return 4 * float(east - west)


def _is_parallel(header: Header, frame: Header) -> bool:
    """Return True if the axes of an image are those of the frame, up to direction and scale."""
    if header.crs != frame.crs:
        return False
    across = ~frame.transform @ header.transform
    return bool(max(abs(across.b), abs(across.d)) <= _PARALLEL * min(abs(across.a), abs(across.e)))


def rectangles(
    header: Header, frame: Header, cells: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the whole pixels of an image that lie inside cells of the frame.

    Args:
        header: Header of the image.
        frame: Header of the frame.
        cells: First and last row, first and last column of each cell in the frame, (n, 4).

    Returns:
        First row, row after the last, first column and column after the last of each cell, (n, 4); where the image has
        no such pixel, one of the last isn't above its first. And height and width of the cell in the image, also beyond
        its edges, pixels, (n, 2). In an image that is turned against the frame, the largest rectangle around the middle
        of the cell stands for the cell.
    """
    if header is frame:
        inside = cells.astype(np.float64)
    else:
        share = np.arange(_POINTS)[:, None] / _POINTS
        corners = np.stack([cells[:, [2, 0]], cells[:, [3, 0]], cells[:, [3, 1]], cells[:, [2, 1]]], 1).astype(
            np.float64
        )
        sides = corners[:, :, None] + share * (np.roll(corners, -1, axis=1) - corners)[:, :, None]
        outlines = to_frame(frame, header, sides.reshape(-1, 2)).reshape(len(cells), 4, len(share), 2)
        if _is_parallel(header, frame):
            low, high = outlines.min(axis=(1, 2)), outlines.max(axis=(1, 2))
            inside = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], 1)
        else:
            inside = _inside(outlines)
    # What is a whole number but for rounding is taken as one.
    first, last = np.ceil(inside[:, ::2] - 1e-4).astype(np.int64), np.floor(inside[:, 1::2] + 1e-4).astype(np.int64)
    first, last = np.maximum(first, 0), np.minimum(last, (header.height, header.width))
    whole = np.maximum(inside[:, 1::2] - inside[:, ::2], 0)
    return np.stack([first[:, 0], last[:, 0], first[:, 1], last[:, 1]], 1), whole


def _inside(outlines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest rectangle around the middle of outlines that are nearly quadrilaterals.

    A rectangle of half width a and half height b around c lies inside when a |n_x| + b |n_y| <= r for each side with
    the inward normal n at the distance r from c. The product a b is largest where one side alone limits it, or two do.

    Args:
        outlines: Points of each side, (n, 4, points, 2) as (column, row).

    Returns:
        Top, bottom, left and right, (n, 4); bottom is not below top where there is no such rectangle.
    """
    corners = outlines[:, :, 0]
    middle = corners.mean(axis=1)
    along = np.roll(corners, -1, axis=1) - corners
    normal = np.stack([-along[..., 1], along[..., 0]], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-300)
    normal *= np.sign(((middle[:, None] - corners) * normal).sum(-1, keepdims=True))
    # A side that is a curve counts where it reaches in furthest.
    reach = ((middle[:, None, None] - outlines) * normal[:, :, None]).sum(-1).min(axis=2)
    p, q = np.abs(normal[..., 0]), np.abs(normal[..., 1])
    one, other = np.triu_indices(4, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        across = p[:, one] * q[:, other] - p[:, other] * q[:, one]
        a = (reach[:, one] * q[:, other] - reach[:, other] * q[:, one]) / across
        b = (p[:, one] * reach[:, other] - p[:, other] * reach[:, one]) / across
        a, b = np.concatenate([reach / (2 * p), a], 1), np.concatenate([reach / (2 * q), b], 1)
    sound = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    a, b = np.where(sound, a, 0), np.where(sound, b, 0)
    used = a[:, :, None] * p[:, None] + b[:, :, None] * q[:, None]
    sound &= (used <= reach[:, None] + 1e-9 * np.abs(reach[:, None])).all(axis=2)
    best = np.argmax(np.where(sound, a * b, -1), axis=1)
    at = np.arange(len(outlines))
    half = np.stack([b[at, best], a[at, best]], 1) * sound[at, best, None]
    center = middle[:, ::-1]
    return np.stack([center - half, center + half], 2).reshape(-1, 4)

"""Overlap of images of different splits: shared ground makes the scores of a split meaningless."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from inference.common.areas import usable_crs
from inference.common.raster import Header
from train.data.pairs import Scene

# Neighbouring tiles share an edge, and rounding makes a sliver of it; shares of the smaller image's area.
TOLERANCE = 1e-3

_POINTS = 8
"""Points on each side of an outline: it may be a curve in another CRS."""


@lru_cache(maxsize=256)
def transformer(source: Any, target: Any) -> Transformer:
    """Return the transformer from one rasterio CRS to another, or to degrees if `target` is None; x before y.

    Raises:
        Exception: PROJ can't relate them, such as an engineering CRS to the Earth.
    """
    crs = CRS.from_epsg(4326) if target is None else CRS.from_wkt(target.to_wkt())
    return Transformer.from_crs(CRS.from_wkt(source.to_wkt()), crs, always_xy=True)


def rectangle_outline(points: int) -> NDArray[np.float64]:
    """Return points along the edge of a rectangle of size 1, (4 points, 2) as (column, row).

    They begin at the upper left corner and go to the right; every `points`-th is a corner.

    Args:
        points: Points on each side, its first corner included.
    """
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    along = np.arange(points)[:, None] / points
    sides = np.roll(corners, -1, axis=0) - corners
    outline: NDArray[np.float64] = (corners[:, None] + along * sides[:, None]).reshape(-1, 2)
    return outline


def outline(header: Header) -> NDArray[np.float64]:
    """Return points along the edge of an image in its CRS, (32, 2) float64; every eighth is a corner."""
    at = rectangle_outline(_POINTS) * (header.width, header.height)
    return np.column_stack(header.transform @ (at[:, 0], at[:, 1]))


def box(header: Header) -> tuple[float, float, float, float] | None:
    """Return west, south, east and north of an image in degrees, east < west + 360; None without georeference."""
    if header.crs is None or header.transform.is_identity or usable_crs(header) is None:
        return None
    try:
        lon, lat = transformer(header.crs, None).transform(*outline(header).T)
    except Exception:  # a CRS that can't be placed on the Earth
        return None
    if not np.isfinite([lon, lat]).all():
        return None
    # Relative to its own meridian, so that an image across 180 degrees does not become a band around the Earth.
    lon = lon[0] + (lon - lon[0] + 180) % 360 - 180
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def shared(one: Header, other: Header) -> float:
    """Return the share of the smaller image that both show, 0 to 1; exact if their CRS is the same."""
    first, second = outline(one), outline(other)
    if one.crs != other.crs:
        try:
            second = np.stack(transformer(other.crs, one.crs).transform(*second.T), axis=1)
        except Exception:  # their boxes overlap, but PROJ can't relate them
            return 0.0
        if not np.isfinite(second).all():
            return 0.0
    # OpenCV computes in float32, so coordinates are shifted to the origin and scaled to about 1.
    unit = np.abs(second - second[0]).max()
    first, second = (cv2.convexHull(((p - second[0]) / unit).astype(np.float32)) for p in (first, second))
    area, _ = cv2.intersectConvexConvex(first, second)
    return float(area / min(cv2.contourArea(first), cv2.contourArea(second)))


def overlaps(splits: Mapping[str, Sequence[Scene]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Find images of two splits that show the same ground.

    Returns:
        Pairs of image names, for each pair of splits that has any.
    """
    placed: dict[str, tuple[list[Scene], NDArray[np.float64]]] = {}
    for split, scenes in splits.items():
        boxes = [(scene, edges) for scene in scenes if (edges := box(scene.image)) is not None]
        placed[split] = [scene for scene, _ in boxes], np.array([edges for _, edges in boxes]).reshape(-1, 4)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for first, second in combinations(placed, 2):
        (scenes, one), (others, two) = placed[first], placed[second]
        for scene, (west, south, east, north) in zip(scenes, one, strict=True):
            turn = 360 * np.round((west - two[:, 0]) / 360)  # the same meridian may be written as 180 and as -180
            across = (west < two[:, 2] + turn) & (east > two[:, 0] + turn)
            for j in np.flatnonzero(across & (south < two[:, 3]) & (north > two[:, 1])):
                if shared(scene.image, others[j].image) > TOLERANCE:
                    found.setdefault((first, second), []).append((scene.pair.name, others[j].pair.name))
    return found

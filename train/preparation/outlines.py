"""Rings of polygons as arrays, from which the polygons that cross some rows are drawn fast.

Polygons of an image may have millions of corners. Arrays take a third of the memory of geometries, and only the corners
near some rows are handed to GDAL.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.vector import CHUNK

_MANY_POINTS = 500
"""Corners from which a ring is cut down to the edges that cross the rows."""
_EPSILON = 1e-5
"""Distance up to which GDAL takes two corners for one when it finds the direction of a ring."""


class Outlines:
    """Rings of polygons in pixel coordinates.

    Args:
        geometries: (n,) valid Polygons and MultiPolygons in pixel coordinates.
        upwards: True to draw polygons with rows that count upwards.
    """

    def __init__(self, geometries: NDArray[Any], upwards: bool = True) -> None:
        at, corners, rings, owners = [np.zeros((0, 2))], [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0, int)]
        for start in range(0, len(geometries), CHUNK):
            parts, of_part = shapely.get_parts(geometries[start : start + CHUNK], return_index=True)
            _, points, (of_ring, of_polygon) = shapely.to_ragged_array(parts, include_z=False)
            at.append(points)
            corners.append(np.diff(of_ring))
            rings.append(np.diff(of_polygon))
            owners.append(of_part + start)
        self._at = np.concatenate(at)
        self._ring = np.concatenate([[0], np.cumsum(np.concatenate(corners))])
        self._polygon = np.concatenate([[0], np.cumsum(np.concatenate(rings))])
        self._owner = np.concatenate(owners)
        self._sign = np.array([1, -1 if upwards else 1])
        rows = self._at[:, 1]
        # Every ring has corners, and every polygon rings.
        self._top = np.minimum.reduceat(rows, self._ring[:-1]) if len(rows) else rows
        self._bottom = np.maximum.reduceat(rows, self._ring[:-1]) if len(rows) else rows

    def near(self, row: int, count: int) -> NDArray[np.intp]:
        """Return the numbers of the polygons that reach into some rows, or into the row before or after them."""
        outer = self._polygon[:-1]
        return np.flatnonzero((self._bottom[outer] >= row - 1) & (self._top[outer] <= row + count + 1))

    def owners(self, polygons: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the numbers of the geometries that polygons are parts of."""
        owners: NDArray[np.intp] = self._owner[polygons]
        return owners

    def drawn(self, polygon: int, row: int, count: int, whole: bool = False) -> dict[str, Any]:
        """Return a polygon as GeoJSON with the edges that cross some rows.

        Args:
            polygon: Number of the polygon.
            row: First row.
            count: Number of rows.
            whole: True to return all edges.
        """
        first, last = int(self._polygon[polygon]), int(self._polygon[polygon + 1])
        numbers: Any = range(first, last)
        if last - first > 1 and not whole:
            crossing = (self._bottom[first:last] >= row - 1) & (self._top[first:last] <= row + count + 1)
            numbers = np.flatnonzero(crossing) + first
        rings = [self._at[self._ring[number] : self._ring[number + 1]] for number in numbers]
        if not whole:
            rings = [cut_down(ring, self._sign, row, count) if len(ring) >= _MANY_POINTS else ring for ring in rings]
        return {"type": "Polygon", "coordinates": [(ring * self._sign).tolist() for ring in rings]}


def cut_down(ring: NDArray[np.float64], sign: NDArray[np.int64], row: int, count: int) -> NDArray[np.float64]:
    """Return a ring without most of its corners that lie beyond some rows.

    Of successive corners above the rows, or below them, the first and the last are kept. Edges that cross the rows keep
    both ends, so that GDAL computes the same crossings as of the whole ring.

    Args:
        ring: (n + 1, 2) corners as (column, row); the last is the first.
        sign: Factors of columns and rows that the ring is drawn with.
        row: First row.
        count: Number of rows.
    """
    at = ring[:-1]
    side = np.where(at[:, 1] < row - 1, -1, np.where(at[:, 1] > row + count + 1, 1, 0))
    kept = (side == 0) | (side != np.roll(side, 1)) | (side != np.roll(side, -1))
    # The direction of a ring decides on horizontal edges. GDAL finds it at the lowest corner.
    lowest = _lowest(at * sign)
    kept[[lowest - 1, lowest, (lowest + 1) % len(at)]] = True
    cut = at[kept]
    if len(cut) < 3 or _is_clockwise(cut * sign) != _is_clockwise(at * sign):
        return ring
    return np.concatenate([cut, cut[:1]])


def _lowest(at: NDArray[np.float64]) -> int:
    """Return the number of the rightmost of the lowest corners of a ring."""
    lowest = np.flatnonzero(at[:, 1] == at[:, 1].min())
    return int(lowest[np.argmax(at[lowest, 0])])


def _is_clockwise(at: NDArray[np.float64]) -> bool:
    """Return True if GDAL takes a ring for clockwise: by the turn at its lowest corner, else by its signed area."""
    lowest = _lowest(at)
    before, after = at[lowest - 1] - at[lowest], at[(lowest + 1) % len(at)] - at[lowest]
    turn = after[0] * before[1] - before[0] * after[1]
    repeated = np.count_nonzero((at == at[lowest]).all(axis=1)) > 1
    if turn and not repeated and np.abs(before).max() >= _EPSILON and np.abs(after).max() >= _EPSILON:
        return bool(turn < 0)
    x, y = at.T
    return bool(x @ (np.roll(y, -1) - np.roll(y, 1)) < 0)

"""Exact share of each pixel that a polygon covers.

The method is that of font rasterizers: the outline is cut at the lines between pixels, so that each piece lies in one
pixel. A piece adds its height to all pixels to its right, and a part of it, by the place of its middle, to its own
pixel. The sum along a row is the covered share, with a sign that the direction of the outline decides. No geometry is
built, and pixels that no edge touches are either 0, 1 or, beside a horizontal edge, of one share in a run.

Source: R. Levien, Inside the fastest font renderer in the world, 2016 (font-rs); the same sums as in FreeType's
ftgrays.c, with float64 in place of fixed point.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_STEPS = 2.0**45
"""Steps in a pixel that rows are rounded to: sums of heights are then exact, as long as they are below 2**8 pixels."""


@dataclass(frozen=True)
class Shares:
    """Covered shares of the pixels of a window.

    Attributes:
        whole: True at pixels that are covered as a whole, (height, width) bool; pixels of `share` may be, too.
        row: Row of each pixel that is covered in part, from the window's first, (n,).
        col: Column of it, from the window's first, (n,).
        share: Its covered share, (n,) float64.
    """

    whole: NDArray[np.bool_]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    share: NDArray[np.float64]

    def array(self) -> NDArray[np.float64]:
        """Return the covered share of each pixel, (height, width) float64."""
        shares = self.whole.astype(np.float64)
        shares[self.row, self.col] = self.share
        return shares


class Outline:
    """Outline of a polygon in pixel coordinates, of which any window can be asked for covered shares.

    Args:
        polygon: Valid Polygon or MultiPolygon, x the column and y the row; it may reach beyond the raster.

    Attributes:
        bounds: First row, first column, row after the last and column after the last that the polygon reaches; zeros
            for an empty one.
    """

    def __init__(self, polygon: Any) -> None:
        rings = shapely.get_rings(shapely.get_parts(shapely.orient_polygons(polygon)))
        at, ring = shapely.get_coordinates(rings, return_index=True)
        edge = (ring[1:] == ring[:-1]) & (at[1:, 1] != at[:-1, 1])  # a horizontal edge separates nothing within a row
        start, end = at[:-1][edge], at[1:][edge]
        down = end[:, 1] > start[:, 1]
        # Shells run counterclockwise where y grows upwards: the inside is to the right of an edge whose y falls.
        self._sign = np.where(down, -1.0, 1.0)
        self._x0, self._y0 = np.where(down[:, None], start, end).T
        self._x1, self._y1 = np.where(down[:, None], end, start).T
        self.bounds = (0, 0, 0, 0)
        if len(start):
            left, top, right, bottom = shapely.bounds(polygon).tolist()
            self.bounds = (math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right))

    def shares(self, row: int, col: int, height: int, width: int) -> Shares:
        """Return the covered shares of the pixels of a window.

        Args:
            row: First row.
            col: First column.
            height: Rows.
            width: Columns.
        """
        near = np.flatnonzero((self._y1 > row) & (self._y0 < row + height))
        x0, y0, x1, y1 = (values[near] for values in (self._x0, self._y0, self._x1, self._y1))
        # Relative to the window, where coordinates have more digits.
        edge, y0, y1, x0, x1 = _cut(y0 - row, y1 - row, x0 - col, x1 - col, 0, height)
        y0, y1 = _rounded(y0), _rounded(y1)
        inside = y1 > y0
        edge, y0, y1, x0, x1 = edge[inside], y0[inside], y1[inside], x0[inside], x1[inside]
        piece_row, sign = np.floor(y0).astype(np.int64), self._sign[near][edge]
        right = x0 <= x1
        x0, x1, y0, y1 = (np.where(right, one, other) for one, other in ((x0, x1), (x1, x0), (y0, y1), (y1, y0)))
        piece, x0, x1, y0, y1 = _cut(x0, x1, y0, y1, 0, width)
        rise = sign[piece] * np.abs(_rounded(y1) - _rounded(y0))
        return _summed(piece_row[piece], x0, x1, rise, height, width)


def _summed(
    row: NDArray[np.int64],
    x0: NDArray[np.float64],
    x1: NDArray[np.float64],
    rise: NDArray[np.float64],
    height: int,
    width: int,
) -> Shares:
    """Sum pieces of outlines to shares of pixels.

    Args:
        row: Row of each piece, (n,).
        x0: Left end, (n,); not left of the window.
        x1: Right end, (n,), in the same pixel; the window's width for pieces right of it.
        rise: Height, with the sign of its direction, (n,).
        height: Rows of the window.
        width: Columns.
    """
    # Pieces right of the window are counted in a column of their own, so that each row comes back to 0.
    wide = width + 1
    col = np.floor(x0).astype(np.int64)
    key, of_key = np.unique(row * wide + col, return_inverse=True)
    rises = np.bincount(of_key, rise, len(key))
    own = np.bincount(of_key, rise * (1 - ((x0 + x1) / 2 - col)), len(key))
    row, col = np.divmod(key, wide)
    after = np.cumsum(rises)
    first = np.flatnonzero(np.diff(row, prepend=-1))  # the first touched pixel of each row
    before = after - rises
    length = np.diff(first, append=len(key))
    after = after - np.repeat(before[first], length)
    share = np.clip(after - rises + own, 0, 1)
    # Runs of pixels that no edge touches, each to the right of a touched one.
    stop = np.full(len(key), width)
    stop[:-1][row[1:] == row[:-1]] = col[1:][row[1:] == row[:-1]]
    run = stop - col - 1
    full, part = after == 1, (after > 0) & (after != 1)
    whole = _painted(row * width + col + 1, np.where(full, run, 0), height * width).reshape(height, width)
    run = np.where(part, run, 0).clip(min=0)
    at = np.repeat(col + 1 - (np.cumsum(run) - run), run) + np.arange(run.sum())
    touched = (share > 0) & (col < width)
    return Shares(
        whole,
        np.concatenate([row[touched], np.repeat(row, run)]),
        np.concatenate([col[touched], at]),
        np.concatenate([share[touched], np.repeat(np.minimum(after, 1), run)]),
    )


def _rounded(y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.rint(y * _STEPS) / _STEPS)


def _painted(start: NDArray[np.int64], length: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Return True on runs of numbers that don't overlap, (size,)."""
    some = length > 0
    steps = np.zeros(size + 1, np.int8)
    steps[start[some]] += 1
    steps[start[some] + length[some]] -= 1
    painted: NDArray[np.bool_] = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
    return painted


def _cut(
    a0: NDArray[np.float64],
    a1: NDArray[np.float64],
    b0: NDArray[np.float64],
    b1: NDArray[np.float64],
    low: int,
    high: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cut edges where their coordinate `a` is a whole number from `low` to `high`.

    Two pieces that meet have the same end. What lies beyond a limit stays in one piece, with both of its `a` at the
    limit; so it has no extent along `a`, but keeps its extent along `b`.

    Args:
        a0: Coordinate of each edge's start, (n,).
        a1: Coordinate of its end, (n,), not below `a0`.
        b0: Other coordinate of the start, (n,).
        b1: Other coordinate of the end, (n,).
        low: First line.
        high: Last line.

    Returns:
        Number of the edge of each piece, and its two `a` and two `b`.
    """
    first = np.clip(np.floor(a0) + 1, low, high + 1)
    last = np.clip(np.ceil(a1) - 1, low - 1, high)
    count = np.maximum(last - first + 1, 0).astype(np.int64)
    edge = np.repeat(np.arange(len(a0)), count + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(count + 1) - (count + 1), count + 1)
    line = (first[edge] + place).astype(np.float64)
    from0, from1, other0, other1 = a0[edge], a1[edge], b0[edge], b1[edge]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # edges along a line aren't cut
        slope = (other1 - other0) / (from1 - from0)
        lowest, highest = np.minimum(other0, other1), np.maximum(other0, other1)
        starts, ends = place == 0, place == count[edge]
        start_b = np.where(starts, other0, np.clip(other0 + (line - 1 - from0) * slope, lowest, highest))
        end_b = np.where(ends, other1, np.clip(other0 + (line - from0) * slope, lowest, highest))
    start_a = np.clip(np.where(starts, from0, line - 1), low, high)
    end_a = np.clip(np.where(ends, from1, line), low, high)
    return edge, start_a, end_a, start_b, end_b

"""Cells of a frame: laid out over a group of images, and trimmed so that splits keep their distance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""Label of a cell that isn't used, and doesn't need a distance."""


@dataclass(frozen=True)
class Cells:
    """Cells of a frame, row by row.

    Attributes:
        rows: Edges of the rows of cells in the frame, (m + 1,) int64, ascending.
        cols: Edges of the columns, (n + 1,) int64.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return len(self.rows) - 1, len(self.cols) - 1

    def bounds(self) -> NDArray[np.int64]:
        """Return first row, last row, first column and last column of each cell, (m, n, 4)."""
        m, n = self.shape
        result = np.empty((m, n, 4), np.int64)
        result[..., 0], result[..., 1] = self.rows[:-1, None], self.rows[1:, None]
        result[..., 2], result[..., 3] = self.cols[None, :-1], self.cols[None, 1:]
        return result


def lay_out(bounds: tuple[int, int, int, int], size: tuple[float, float]) -> Cells:
    """Divide a frame into cells of about the same size.

    Args:
        bounds: First and last row, first and last column of the frame.
        size: Wanted height and width of a cell, pixels of the frame.
    """
    top, bottom, left, right = bounds
    return Cells(_edges(top, bottom, size[0]), _edges(left, right, size[1]))


def _edges(first: int, last: int, size: float) -> NDArray[np.int64]:
    # As many as fit best, so that no sliver is left at the end.
    count = max(1, min(last - first, round((last - first) / size)))
    return first + np.round(np.arange(count + 1) * ((last - first) / count)).astype(np.int64)


def trim(
    bounds: NDArray[np.int64], labels: NDArray[np.int64], guard: tuple[int, int], rank: Sequence[int]
) -> NDArray[np.int64]:
    """Trim cells so that those of different labels lie at least the guard apart.

    Along one axis, at least, two cells are as far apart as the guard. Of two cells the one of the lower rank gives way;
    of equal ranks each gives half.

    Args:
        bounds: First row, last row, first column and last column of each cell of a grid, (m, n, 4).
        labels: Label of each cell, (m, n); `NONE` for cells that aren't used.
        guard: Guard in rows and columns, pixels.
        rank: Rank of each label; a higher one keeps its ground.

    Returns:
        Bounds after trimming, (m, n, 4); a cell with nothing left has its last row at its first one or before it.
    """
    trimmed = bounds.copy()
    if not any(guard):
        return trimmed
    ranks = np.append(np.asarray(rank, np.int64), 0)
    smallest = [max(1, int(np.diff(edges).min())) for edges in (bounds[:, 0, :2], bounds[0, :, 2:])]
    reach = [math.ceil(distance / size) for distance, size in zip(guard, smallest, strict=True)]
    m, n = labels.shape
    steps = [
        (down, across)
        for down in range(min(reach[0], m - 1) + 1)
        for across in range(-min(reach[1], n - 1), min(reach[1], n - 1) + 1)
        if (down, across) > (0, 0)
    ]
    # Neighbours along an axis first: what they give up often settles the diagonal ones.
    for down, across in sorted(steps, key=lambda step: (bool(step[0]) + bool(step[1]), step)):
        one, other = _pair(trimmed, down, across)
        first, second = _pair(labels, down, across)
        alive = _alive(one) & _alive(other)
        clash = alive & (first != second) & (first != NONE) & (second != NONE)
        _separate(one, other, clash, ranks[first] - ranks[second], guard, across)
    return trimmed


def _pair(values: NDArray[np.int64], down: int, across: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return views of all cells that have a neighbour so many cells down and across, and of these neighbours."""
    m, n = values.shape[:2]
    left, right = max(0, -across), max(0, across)
    return values[: m - down, left : n - right], values[down:, right : n - left]


def _alive(bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((bounds[..., 1] > bounds[..., 0]) & (bounds[..., 3] > bounds[..., 2]))


def _separate(
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    clash: NDArray[np.bool_],
    advantage: NDArray[np.int64],
    guard: tuple[int, int],
    across: int,
) -> None:
    """Trim pairs of cells, in place, of which the other lies below or beside the one."""
    gap_rows = other[..., 0] - one[..., 1]
    gap_cols = other[..., 2] - one[..., 3] if across >= 0 else one[..., 2] - other[..., 3]
    need_rows, need_cols = guard[0] - gap_rows, guard[1] - gap_cols
    clash = clash & (need_rows > 0) & (need_cols > 0)
    # Along the axis on which less is lost.
    by_rows = clash & (need_rows <= need_cols)
    by_cols = clash & (need_rows > need_cols)
    for chosen, need, near_one, near_other in (
        (by_rows, need_rows, 1, 0),
        (by_cols, need_cols, 3 if across >= 0 else 2, 2 if across >= 0 else 3),
    ):
        given = np.where(advantage > 0, 0, np.where(advantage < 0, need, (need + 1) // 2))  # by the one
        sign = 1 if near_one in {1, 3} else -1
        one[..., near_one] -= np.where(chosen, given, 0) * sign
        other[..., near_other] += np.where(chosen, need - given, 0) * sign

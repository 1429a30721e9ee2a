"""Corners of the regions of a map, and the rings through them: pure functions of arrays.

A region is a set of connected pixels of one class. Its outline runs along the lattice lines between pixels, from corner
to corner. A corner joins one horizontal edge, which extends to its left or to its right, and one vertical edge, which
extends upwards or downwards. Along a lattice row the corners of a region, in order, are the two ends of one edge after
the other, and along a lattice column likewise, so that sorting finds all edges.

Where the outline of a region is straight, but another region has a corner on it, it gets a point there: neighbours then
have the same points along their common outline, and form a valid coverage. Such a point is stored as two corners in one
place, joined by an edge of no length.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.vector.columns import Columns

RIGHT, DOWN, REFLEX, POINT = 1, 2, 4, 8
"""Bits of a corner's kind: its edges extend to the right, and downwards; it is a corner of a hole or a notch; it is
half of a point on a straight outline."""


@dataclass(frozen=True)
class Corners(Columns):
    """Corners of regions.

    Attributes:
        region: Number of the region of each corner, (n,) int64.
        row: Lattice row, the number of pixel rows above it, (n,) int32.
        col: Lattice column, (n,) int32.
        kind: Bits RIGHT, DOWN, REFLEX and POINT, (n,) uint8.
    """

    region: NDArray[np.int64]
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    kind: NDArray[np.uint8]


def no_corners() -> Corners:
    """Return no corners."""
    return Corners(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.uint8))


def find_corners(regions: NDArray[np.int32], first: int) -> Corners:
    """Find the corners on the lattice lines between the rows of an array of regions.

    Args:
        regions: Number of the region of each pixel, (rows + 1, width), -1 for none; pixels that share a side and belong
            to one region have the same number.
        first: Lattice row between the array's first two rows.

    Returns:
        Corners on `rows` lattice lines, those at the left and the right end included.
    """
    rows, width = regions.shape[0] - 1, regions.shape[1]
    padded = np.full((rows + 1, width + 2), -1, np.int32)
    padded[:, 1:-1] = regions
    beside = padded[:, 1:] == padded[:, :-1]
    below = padded[1:] == padded[:-1]
    # Elsewhere the outline is straight, or there is none.
    at = np.flatnonzero(~((beside[1:] & beside[:-1]) | (below[:, 1:] & below[:, :-1])))
    row, col = np.divmod(at, width + 1)
    a, b, c, d = padded[row, col], padded[row, col + 1], padded[row + 1, col], padded[row + 1, col + 1]
    found: list[tuple[NDArray[np.bool_], NDArray[np.int32], int]] = []
    for kind, own, beside_own, below_own, opposite in (
        (0, a, b, c, d),
        (RIGHT, b, a, d, c),
        (DOWN, c, d, a, b),
        (RIGHT | DOWN, d, c, b, a),
    ):
        found.append(((own >= 0) & (beside_own != own) & (below_own != own), own, kind))
        notch = (opposite >= 0) & (beside_own == opposite) & (below_own == opposite) & (own != opposite)
        found.append((notch, opposite, kind | REFLEX))
    # Straight along a pair of pixels, where one of the two on the other side belongs to a region and the other doesn't.
    for one, two, three, four, kinds in (
        (a, b, c, d, (0, RIGHT)),
        (c, d, a, b, (0, RIGHT)),
        (a, c, b, d, (0, DOWN)),
        (b, d, a, c, (0, DOWN)),
    ):
        point = (one >= 0) & (one == two) & (three != one) & (four != one) & (three != four)
        found += [(point, one, kind | POINT) for kind in kinds]
    return Corners.joined([_chosen(*each, row + first, col) for each in found])


def _chosen(
    chosen: NDArray[np.bool_], region: NDArray[np.int32], kind: int, row: NDArray[np.int64], col: NDArray[np.int64]
) -> Corners:
    at = np.flatnonzero(chosen)
    return Corners(
        region[at].astype(np.int64),
        row[at].astype(np.int32),
        col[at].astype(np.int32),
        np.full(len(at), kind, np.uint8),
    )


@dataclass(frozen=True)
class Rings:
    """Closed rings of regions.

    Attributes:
        coordinates: Corners along the rings as (column, row), (n, 2) float64; a ring's first corner isn't repeated.
        start: Position of each ring's first corner, (rings,) int64.
        region: Number of each ring's region, (rings,) int64, ascending; the first ring of a region is its shell, the
            others are holes.
    """

    coordinates: NDArray[np.float64]
    start: NDArray[np.int64]
    region: NDArray[np.int64]


def trace(corners: Corners) -> Rings:
    """Join all corners of whole regions to rings.

    Where two pixels of a region touch at a corner only, the rings of the pixels between them meet there, and do not
    cross: a hole that touches another hole or the shell is a ring of its own, as the OGC's simple features demand.
    """
    rank = np.lexsort((corners.kind & RIGHT, corners.col, corners.row, corners.region))
    corners = corners[rank]
    region, row, col, kind = corners.region, corners.row, corners.col, corners.kind.copy()
    twice = (region[1:] == region[:-1]) & (row[1:] == row[:-1]) & (col[1:] == col[:-1])
    twice = np.flatnonzero(twice & (kind[1:] & POINT == 0))
    for side in (twice, twice + 1):
        kind[side] = (kind[side] ^ DOWN) | REFLEX
    # In this order corners 2 i and 2 i + 1 are the ends of a horizontal edge; in the other one, of a vertical edge.
    columns = np.lexsort((kind & DOWN, row, col, region))
    partner = np.empty(len(columns), np.int64)
    partner[columns[0::2]], partner[columns[1::2]] = columns[1::2], columns[0::2]
    order, start = _cycles(partner.tolist())
    # A ring is found at its uppermost corner, the leftmost of these, and a region's shell has the first of all.
    of_ring = region[order[start]]
    point = kind[order] & POINT > 0
    if point.any():
        # The two halves of a point follow each other, and the first corner of a ring is none.
        second = np.flatnonzero(point)[1::2]
        start = start - np.searchsorted(second, start)
        order = np.delete(order, second)
    return Rings(np.stack([col[order], row[order]], axis=1).astype(np.float64), start, of_ring)


def _cycles(partner: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Follow horizontal edges (from i to i ^ 1) and vertical edges (from i to partner[i]) in turn.

    Returns:
        Corners in the order of the rings, and the position of each ring's first corner.
    """
    seen = bytearray(len(partner))
    order: list[int] = []
    start: list[int] = []
    add = order.append
    for first in range(0, len(partner), 2):
        if seen[first]:
            continue
        start.append(len(order))
        at = first
        while True:
            seen[at] = 1
            add(at)
            at ^= 1
            seen[at] = 1
            add(at)
            at = partner[at]
            if at == first:
                break
    return np.array(order, np.int64), np.array(start, np.int64)

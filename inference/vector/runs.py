"""Runs of equal pixels in the rows of a map, and their connected regions: pure functions of arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.vector.columns import Columns


@dataclass(frozen=True)
class Runs(Columns):
    """Runs of pixels of one class, in the order of rows and columns.

    Attributes:
        row: Row of each run, (n,) int64.
        start: First column, (n,) int64.
        stop: Column after the last one, (n,) int64.
        value: Class of the pixels, (n,) uint8.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    value: NDArray[np.uint8]


def find_runs(values: NDArray[np.uint8], wanted: NDArray[np.bool_]) -> Runs:
    """Find the runs of wanted pixels.

    Args:
        values: Class of each pixel, (H, W).
        wanted: True at pixels that belong to a region, (H, W).
    """
    height, width = values.shape
    begins = np.ones((height, width), np.bool_)
    begins[:, 1:] = (values[:, 1:] != values[:, :-1]) | (wanted[:, 1:] != wanted[:, :-1])
    first = np.flatnonzero(begins)
    after = np.append(first[1:], height * width)
    kept = wanted.ravel()[first]
    first, after = first[kept], after[kept]
    row, start = np.divmod(first, width)
    return Runs(row, start, start + after - first, values.ravel()[first])


def touching(runs: Runs, above: Runs, width: int, diagonal: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the runs that touch runs of their class in the row above theirs.

    Args:
        runs: Runs of the rows.
        above: Runs that may lie above them, in order; `runs` itself, or those of the row before.
        width: Width of the map, pixels.
        diagonal: True if pixels that share a corner touch.

    Returns:
        Number of the run, and number of the one above it that it touches, of each pair.
    """
    stride = width + 2
    reach = 1 if diagonal else 0
    over = (runs.row - 1) * stride
    low = np.searchsorted(above.row * stride + above.stop, over + runs.start - reach, side="right")
    high = np.searchsorted(above.row * stride + above.start, over + runs.stop + reach, side="left")
    count = np.maximum(high - low, 0)
    one = np.repeat(np.arange(len(runs)), count)
    other = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    same = runs.value[one] == above.value[other]
    return one[same], other[same]


def connected(nodes: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """Number the connected components of a graph.

    Args:
        nodes: Number of nodes.
        one: A node of each edge.
        other: The edge's other node.

    Returns:
        Number of components, and the component of each node, (nodes,) int64, numbered by their first nodes.
    """
    root = np.arange(nodes)
    while len(one):
        first, second = root[one], root[other]
        apart = first != second
        one, other = one[apart], other[apart]
        low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
        np.minimum.at(root, high, low)
        while True:  # every node to its root
            next_root = root[root]
            if np.array_equal(next_root, root):
                break
            root = next_root
    roots, component = np.unique(root, return_inverse=True)
    return len(roots), component

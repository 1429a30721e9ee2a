"""Positions of foreground pixels (labelled, and of any class but the background) to place training windows on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.common.progress import progress
from train.data.pairs import Scene
from train.data.reader import Reader
from train.data.statistics import blocks

CELL = 64
"""Side of the cells in which foreground pixels are counted, pixels; divides the side of a block."""
POINTS_PER_CELL = 8
"""Foreground pixels that are stored for each cell."""


@dataclass(frozen=True)
class Foreground:
    """Foreground pixels of a split, grouped by cells of neighbouring pixels.

    Attributes:
        scenes: Scene number of each cell, (cells,).
        cumulative: Running sum of the foreground pixels of the cells, (cells,).
        points: Row and column of k pixels of each cell, drawn with replacement, (cells, k, 2).
    """

    scenes: NDArray[np.int64]
    cumulative: NDArray[np.int64]
    points: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.scenes)

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """Draw a foreground pixel, all with about the same probability: its scene number and (row, column)."""
        cell = int(np.searchsorted(self.cumulative, rng.integers(self.cumulative[-1]), side="right"))
        row, col = self.points[cell, rng.integers(self.points.shape[1])]
        return int(self.scenes[cell]), (int(row), int(col))


def find_foreground(scenes: Sequence[Scene], reader: Reader, background: int | None, task: str) -> Foreground:
    """Find the pixels whose label is neither background nor ignored; reads the labels only.

    Args:
        scenes: Scenes of the split.
        reader: Reader with the label rule.
        background: Index of the background class; None if there is none.
        task: Description for the progress bar.

    Raises:
        UserError: A block can't be decoded, or a label value is not a class.
    """
    numbers: list[int] = []
    pixels: list[int] = []
    points: list[NDArray[np.int32]] = []
    parts = blocks(scenes)
    for i, part in progress(parts, len(parts), task):
        label = reader.label(scenes[i], part)
        wanted = label != reader.rule.ignore_index
        if background is not None:
            wanted &= label != background
        rng = np.random.default_rng([i, part.row_off, part.col_off])
        for rows, cols in _cells(wanted):
            chosen = rng.integers(len(rows), size=POINTS_PER_CELL)
            numbers.append(i)
            pixels.append(len(rows))
            points.append(np.stack([part.row_off + rows[chosen], part.col_off + cols[chosen]], axis=1).astype(np.int32))
    return Foreground(
        np.array(numbers, np.int64),
        np.cumsum(np.array(pixels, np.int64)),
        np.array(points, np.int32).reshape(-1, POINTS_PER_CELL, 2),
    )


def _cells(wanted: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and columns of the True pixels of each cell; cells without any are skipped."""
    for row in range(0, wanted.shape[0], CELL):
        for col in range(0, wanted.shape[1], CELL):
            rows, cols = np.nonzero(wanted[row : row + CELL, col : col + CELL])
            if len(rows):
                yield row + rows, col + cols

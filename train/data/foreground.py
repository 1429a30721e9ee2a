"""Positions of foreground pixels (labelled, and of any class but the background) to place training windows on."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.progress import progress
from train.data.pairs import Scene
from train.data.reader import Reader
from train.data.statistics import blocks

CELL = 64
"""Side of the cells in which foreground pixels are counted, pixels; divides the side of a block."""
POINTS_PER_CELL = 8
"""Foreground pixels that are stored for each cell."""
_BLOCKS = 256  # whose foreground is kept; of a block of 2048 pixels, 72 KB


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


def find_foreground(scenes: Sequence[Scene], reader: Reader, background: int | None, task: str = "") -> Foreground:
    """Find the pixels whose label is neither background nor ignored; reads the labels only.

    Args:
        scenes: Scenes of the split.
        reader: Reader with the label rule.
        background: Index of the background class; None if there is none.
        task: Description for the progress bar; empty for none.

    Raises:
        UserError: A block can't be decoded, or a label value is not a class.
    """
    numbers: list[int] = []
    pixels: list[int] = []
    points: list[NDArray[np.int32]] = []
    parts = blocks(scenes)
    for i, part in progress(parts, len(parts), task) if task else parts:
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


class BlockForeground:
    """Foreground pixels of blocks, by the shares of their classes; a block's label is read when it is first drawn.

    Args:
        scenes: Blocks of the split.
        reader: Reader with the label rule; passed to other processes, it opens its own files there.
        background: Index of the background class; None if there is none.
    """

    def __init__(self, scenes: Sequence[Scene], reader: Reader, background: int | None) -> None:
        self._scenes, self._reader, self._background = scenes, reader, background
        pixels = np.array([_foreground_pixels(scene, reader, background) for scene in scenes], np.int64)
        self._numbers = np.flatnonzero(pixels)
        self._cumulative = np.cumsum(pixels[self._numbers])
        self._found: OrderedDict[int, Foreground] = OrderedDict()

    def __len__(self) -> int:
        return len(self._numbers)

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """Draw a foreground pixel, all with about the same probability: its scene number and (row, column).

        Raises:
            UserError: A label can't be read, or has no foreground where the table of blocks says that it has.
        """
        at = int(np.searchsorted(self._cumulative, rng.integers(self._cumulative[-1]), side="right"))
        number = int(self._numbers[at])
        return number, self._of_block(number).draw(rng)[1]

    def _of_block(self, number: int) -> Foreground:
        found = self._found.pop(number, None)
        if found is None:
            scene = self._scenes[number]
            found = find_foreground([scene], self._reader, self._background)
            if not len(found):
                raise UserError(
                    f"{scene.label.path}: block {scene.name} has no foreground, but its row in the table of blocks "
                    "says that it has (run python -m train.prepare again)"
                )
            if len(self._found) >= _BLOCKS:
                self._found.popitem(last=False)
        self._found[number] = found
        return found


def _foreground_pixels(scene: Scene, reader: Reader, background: int | None) -> int:
    """Return the foreground pixels of a block, by the shares of its classes."""
    shares = () if scene.block is None else scene.block.shares
    share = sum(share for index, share in enumerate(shares) if reader.rule.class_of(index) not in (None, background))
    return round(share * scene.height * scene.width)


def _cells(wanted: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and columns of the True pixels of each cell; cells without any are skipped."""
    for row in range(0, wanted.shape[0], CELL):
        for col in range(0, wanted.shape[1], CELL):
            rows, cols = np.nonzero(wanted[row : row + CELL, col : col + CELL])
            if len(rows):
                yield row + rows, col + cols

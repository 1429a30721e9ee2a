"""Reading of normalised tiles from strips of an image.

Each tile is normalised when it is read, not the whole image beforehand: a float32 copy of all rows in memory would take
four times the space of 8-bit pixels.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from inference.tiles.strips import Strip
from inference.tiles.tiling import Axis, reflected

_ROWS = 64  # rows normalised at a time, so that they stay in a core's cache


class TileReader:
    """Buffer of strips from which normalised tiles are read.

    Args:
        rows: Tiles from top to bottom.
        cols: Tiles from left to right.
        mean: (bands,) mean of each band, in the file's units.
        std: (bands,) standard deviation of each band, in the file's units.
    """

    def __init__(self, rows: Axis, cols: Axis, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        self.rows, self.cols = rows, cols
        self._mean = mean.astype(np.float32)[:, None, None]
        self._factor = (1 / std).astype(np.float32)[:, None, None]
        self._strips: deque[Strip] = deque()
        self._below = reflected(rows.tile, rows.length)[rows.inside :]
        self._beside = reflected(cols.tile, cols.length)[cols.inside :]

    def has_row(self, row: int) -> bool:
        """Return whether all pixels of a row of tiles are in the buffer."""
        return bool(self._strips) and self._strips[-1].stop >= self.rows.stop(row)

    def push(self, strip: Strip) -> None:
        """Append the next strip."""
        self._strips.append(strip)

    def discard_above(self, row: int) -> None:
        """Drop the strips that lie entirely above a row of tiles."""
        while self._strips and self._strips[0].stop <= self.rows.starts[row]:
            self._strips.popleft()

    def is_empty(self, row: int, col: int) -> bool:
        """Return whether a tile has no valid pixel."""
        for strip, part, _ in self._parts(row):
            if strip.invalid is None:
                return False
            if not strip.invalid[part, self.cols.starts[col] : self.cols.stop(col)].all():
                return False
        return True

    def read(self, row: int, col: int, out: NDArray[np.float32]) -> None:
        """Write a normalised tile, (pixel - mean) / std, to an array.

        Args:
            row: Index of the row of tiles; its strips must be in the buffer.
            col: Index of the tile in the row.
            out: (bands, tile, tile) float32. Pixels beyond the image are filled by reflection.
        """
        start, stop = self.cols.starts[col], self.cols.stop(col)
        inside = self.cols.inside
        for strip, part, place in self._parts(row):
            target = out[:, place, :inside]
            pixels = strip.pixels[:, part, start:stop]
            for first in range(0, pixels.shape[1], _ROWS):
                rows = np.s_[:, first : first + _ROWS]
                values = target[rows]
                values[:] = pixels[rows]
                # Subtract before scaling: the difference of large values close to the mean is exact.
                values -= self._mean
                values *= self._factor
        if len(self._below):
            out[:, self.rows.inside :] = out[:, self._below]
        if len(self._beside):
            out[:, :, inside:] = out[:, :, self._beside]

    def _parts(self, row: int) -> list[tuple[Strip, slice, slice]]:
        """Return the strips of a row of tiles, each with its rows that are needed and their rows in the tile."""
        first, last = self.rows.starts[row], self.rows.stop(row)
        found = []
        for strip in self._strips:
            start, stop = max(first, strip.row), min(last, strip.stop)
            if start < stop:
                found.append((strip, slice(start - strip.row, stop - strip.row), slice(start - first, stop - first)))
        return found

"""Cutting normalised tiles out of strips of an image.

A tile is normalised as it is cut, and not the image before: a float32 copy of all rows in work would take four times
the memory of the bytes they are read as.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from inference.common.raster import Strip
from inference.tiles.tiling import Axis, reflected


class Cutter:
    """Holds the strips that are in work, and cuts tiles out of them.

    Args:
        rows: Tiles from top to bottom.
        cols: Tiles from left to right.
        mean: Of each band, in units of the file.
        std: Of each band, in units of the file.
    """

    def __init__(self, rows: Axis, cols: Axis, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        self.rows, self.cols = rows, cols
        self._mean = mean.astype(np.float32)[:, None, None]
        self._factor = (1 / std).astype(np.float32)[:, None, None]
        self._strips: deque[Strip] = deque()
        self._below = reflected(rows.tile, rows.length)[rows.inside :]
        self._beside = reflected(cols.tile, cols.length)[cols.inside :]

    def complete(self, row: int) -> bool:
        """Whether all that a row of tiles shows has been taken in."""
        return bool(self._strips) and self._strips[-1].stop >= self.rows.stop(row)

    def take(self, strip: Strip) -> None:
        """Takes in the next strip."""
        self._strips.append(strip)

    def begin(self, row: int) -> None:
        """Lets go of what lies above a row of tiles."""
        while self._strips and self._strips[0].stop <= self.rows.starts[row]:
            self._strips.popleft()

    def is_empty(self, row: int, col: int) -> bool:
        """Whether a tile shows nothing valid."""
        for strip, part, _ in self._parts(row):
            if strip.invalid is None:
                return False
            if not strip.invalid[part, self.cols.starts[col] : self.cols.stop(col)].all():
                return False
        return True

    def cut(self, row: int, col: int, out: NDArray[np.float32]) -> None:
        """Writes a normalised tile to `out`, (bands, tile, tile) float32: (pixel - mean) / std, reflected beyond."""
        start, stop = self.cols.starts[col], self.cols.stop(col)
        inside = self.cols.inside
        for strip, part, place in self._parts(row):
            target = out[:, place, :inside]
            # The difference first: of large numbers close to the mean, it is exact.
            np.subtract(strip.pixels[:, part, start:stop], self._mean, out=target)
            target *= self._factor
        if len(self._below):
            out[:, self.rows.inside :] = out[:, self._below]
        if len(self._beside):
            out[:, :, inside:] = out[:, :, self._beside]

    def _parts(self, row: int) -> list[tuple[Strip, slice, slice]]:
        """Strips that a row of tiles shows, which of their rows, and where in the tile these belong."""
        first, last = self.rows.starts[row], self.rows.stop(row)
        found = []
        for strip in self._strips:
            start, stop = max(first, strip.row), min(last, strip.stop)
            if start < stop:
                found.append((strip, slice(start - strip.row, stop - strip.row), slice(start - first, stop - first)))
        return found

"""Where tiles lie, and how their predictions become one: pure functions of sizes and arrays.

Along each axis there are as few tiles as the overlap allows, spread evenly from border to border: every tile shows real
pixels alone, and no overlap is smaller than what was asked for. Only an image smaller than a tile is continued, by its
reflection.

Blended is the mean of the tiles' probabilities, weighted by a window (`inference.kernels`). Probabilities, and not
logits: the mean of probabilities is itself a probability and moves as the network's votes do, while a single tile that
is very sure of itself would outvote any number of others in a mean of logits.

The mean is kept as a running one: with w the weight of the k-th tile at a pixel and W the sum of the first k weights,
mean += (w / W) (p - mean). Two things follow. The weights are normalised by themselves, so that any overlap and any
size are a partition of unity. And where all tiles say the same, the mean is that to the last bit, which a quotient of
sums is not: for a network that looks at single pixels, the map is exactly the one without tiles.

The weights are a product over the axes, so the mean can be taken along a row of tiles first and then from row to row.
What is kept is one row of tiles and the rows that the next one overlaps: memory grows with the width, not the height.

A tile that shows nothing valid needs no prediction. All it covers is invalid, so any valid pixel has all of its tiles,
and neighbours are blended as if it were there; what comes out under it means nothing, and is masked out.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.kernels import WindowName, border_window

_CHUNK = 2**18  # floats: what is worked on at a time stays in a core's cache


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis.

    Attributes:
        length: Of the image, pixels.
        tile: Side of a tile, pixels.
        starts: First pixel of each tile, ascending. A tile ends inside the image unless the image is smaller.
    """

    length: int
    tile: int
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def inside(self) -> int:
        """How many pixels of a tile lie inside the image: all, unless the image is smaller than a tile."""
        return min(self.tile, self.length)

    def stop(self, index: int) -> int:
        """The pixel of the image after the last one of a tile."""
        return self.starts[index] + self.inside

    def seen(self, index: int) -> int:
        """How many of a tile's first pixels an earlier tile covers too."""
        return self.stop(index - 1) - self.starts[index] if index else 0

    def final(self, index: int) -> int:
        """The pixel after the last one that no later tile covers."""
        return self.starts[index + 1] if index + 1 < len(self) else self.length

    def shares(self, name: WindowName) -> list[NDArray[np.float32]]:
        """For each tile and each of its pixels inside the image: its weight over that of all tiles up to it.

        The first tile that covers a pixel has all of the weight there, 1.
        """
        total = np.zeros(self.length)
        shares = []
        for index, start in enumerate(self.starts):
            weights = border_window(name, self.tile, index == 0, index == len(self) - 1)[: self.inside]
            total[start : self.stop(index)] += weights
            shares.append((weights / total[start : self.stop(index)]).astype(np.float32))
        return shares


def tile_axis(length: int, tile: int, overlap: float) -> Axis:
    """The fewest tiles that cover an axis with at least this overlap, evenly spread.

    Args:
        length: Of the image, pixels, at least 1.
        tile: Side of a tile, pixels, at least 1.
        overlap: Share of a tile that the next one covers as well, in [0, 1).
    """
    if length <= tile:
        return Axis(length, tile, (0,))
    stride = max(1, math.floor(tile * (1 - overlap)))
    gaps = math.ceil((length - tile) / stride)
    return Axis(length, tile, tuple((length - tile) * i // gaps for i in range(gaps + 1)))


def reflected(size: int, length: int) -> NDArray[np.intp]:
    """Which pixels of an axis of `length` a tile of `size` shows: 0 1 2 3 2 1 0 1 ..., the last one not repeated."""
    if length == 1:
        return np.zeros(size, np.intp)
    places = np.arange(size) % (2 * (length - 1))
    return np.minimum(places, 2 * (length - 1) - places)


class Blend:
    """Turns the predictions of tiles, row of tiles by row of tiles, into one that covers the image.

    Args:
        rows: Tiles from top to bottom.
        cols: Tiles from left to right.
        channels: Of a prediction.
        name: The blending window.
    """

    def __init__(self, rows: Axis, cols: Axis, channels: int, name: WindowName) -> None:
        self.rows, self.cols = rows, cols
        self._row_shares = [share[:, None] for share in rows.shares(name)]
        self._col_shares = cols.shares(name)
        # Zeros, not anything: under tiles that are left out, numbers that mean nothing are averaged all the same.
        self._current = np.zeros((channels, rows.inside, cols.length), np.float32)
        kept = max((rows.seen(i) for i in range(len(rows))), default=0)
        self._kept = np.zeros((channels, kept, cols.length), np.float32)

    def add(self, col: int, prediction: NDArray[np.float32]) -> None:
        """Takes in a tile of the current row of tiles; they come from left to right, and some may be left out.

        Args:
            col: Which tile along the columns.
            prediction: (channels, tile, tile) float32.
        """
        start, stop, seen = self.cols.starts[col], self.cols.stop(col), self.cols.seen(col)
        inside = prediction[:, : self.rows.inside, : self.cols.inside]
        if seen:
            _move(self._current[..., start : start + seen], inside[..., :seen], self._col_shares[col][:seen])
        self._current[..., start + seen : stop] = inside[..., seen:]

    def finish(self, row: int) -> NDArray[np.float32]:
        """Ends a row of tiles.

        Args:
            row: Which row of tiles has just been taken in; they come from top to bottom, none left out.

        Returns:
            (channels, n, width) float32: the rows of the image that are final now, those from `rows.starts[row]` to
            `rows.final(row)`. A view, to be used before the next call.
        """
        start, seen, final = self.rows.starts[row], self.rows.seen(row), self.rows.final(row)
        if seen:
            _approach(self._current[:, :seen], self._kept[:, :seen], self._row_shares[row][:seen])
        ready = final - start
        rest = self.rows.inside - ready
        self._kept[:, :rest] = self._current[:, ready:]
        return self._current[:, :ready]


def _move(mean: NDArray[np.float32], new: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """Moves a mean towards what is new, in place: mean + share (new - mean)."""
    difference = new - mean
    difference *= share
    mean += difference


def _approach(new: NDArray[np.float32], mean: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """The same, in the place of what is new, and a few rows at a time."""
    step = max(1, _CHUNK // mean.shape[-1])
    for channel in range(len(new)):
        for first in range(0, new.shape[1], step):
            part = np.s_[first : first + step]
            new[channel, part] -= mean[channel, part]
            new[channel, part] *= share[part]
            new[channel, part] += mean[channel, part]

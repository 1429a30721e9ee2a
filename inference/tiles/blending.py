"""Blending: the weighted mean of overlapping tile predictions, accumulated row of tiles by row of tiles.

The mean is taken over probabilities, weighted by a window (`inference.kernels`). A mean of logits would let a single
very confident tile outvote any number of others; a mean of probabilities is itself a probability.

The mean is a running one (West, Updating mean and variance estimates, CACM 22(9), 1979, doi:10.1145/359146.359153):
with w the weight of the k-th tile at a pixel and W the sum of the first k weights, mean += (w / W) (p - mean). The
weights are thereby normalised for any overlap and any image size. Where all tiles agree, the mean equals their value to
the last bit, which a quotient of sums does not guarantee; for a pointwise network the map is exactly the untiled one.

The weights are separable, so the mean is taken along a row of tiles first and then from row to row. Memory holds one
row of tiles and the rows that the next one overlaps: it grows with the width of the image, not with its height.

A tile without a valid pixel needs no prediction: every pixel it covers is invalid, so any valid pixel has all of its
tiles. Values under a skipped tile are meaningless and are masked out later.
"""

import numpy as np
from numpy.typing import NDArray

from inference.kernels import border_window
from inference.options import WindowName
from inference.tiles.tiling import Axis

_CHUNK = 2**18  # floats processed at a time, so that they stay in a core's cache


def running_weights(axis: Axis, name: WindowName) -> list[NDArray[np.float32]]:
    """Return the weights of each tile for the running mean along an axis.

    Args:
        axis: Tiles along the axis.
        name: Blending window.

    Returns:
        For each tile, (axis.inside,) float32: its weight at each pixel divided by the summed weights of all tiles up to
        and including it. The first tile that covers a pixel has weight 1 there.
    """
    total = np.zeros(axis.length)
    found = []
    for index, start in enumerate(axis.starts):
        weights = border_window(name, axis.tile, index == 0, index == len(axis) - 1)[: axis.inside]
        total[start : axis.stop(index)] += weights
        found.append((weights / total[start : axis.stop(index)]).astype(np.float32))
    return found


class Blend:
    """Running weighted mean of tile predictions over an image.

    Args:
        rows: Tiles from top to bottom.
        cols: Tiles from left to right.
        channels: Channels of a prediction.
        name: Blending window.
    """

    def __init__(self, rows: Axis, cols: Axis, channels: int, name: WindowName) -> None:
        self.rows, self.cols = rows, cols
        self._row_weights = [share[:, None] for share in running_weights(rows, name)]
        self._col_weights = running_weights(cols, name)
        # Zeros and not `empty`: values under skipped tiles are averaged too, and must stay finite.
        self._current = np.zeros((channels, rows.inside, cols.length), np.float32)
        kept = max((rows.overlap(i) for i in range(len(rows))), default=0)
        self._kept = np.zeros((channels, kept, cols.length), np.float32)

    def add(self, col: int, prediction: NDArray[np.float32]) -> None:
        """Add a tile of the current row of tiles, from left to right; tiles may be skipped.

        Args:
            col: Index of the tile along the columns.
            prediction: (channels, tile, tile) float32.
        """
        start, stop, shared = self.cols.starts[col], self.cols.stop(col), self.cols.overlap(col)
        mean = self._current[..., start : start + shared]
        inside = prediction[:, : self.rows.inside, : self.cols.inside]
        if shared:
            _update_mean(mean, inside[..., :shared], self._col_weights[col][:shared])
        self._current[..., start + shared : stop] = inside[..., shared:]

    def finish(self, row: int) -> NDArray[np.float32]:
        """Finish a row of tiles and return the image rows that no later tile changes.

        Args:
            row: Index of the row of tiles; every row must be finished, from top to bottom.

        Returns:
            (channels, n, width) float32: the image rows from `rows.starts[row]` to `rows.final_stop(row)`. A view,
            valid until the next call.
        """
        start, shared, final = self.rows.starts[row], self.rows.overlap(row), self.rows.final_stop(row)
        if shared:
            _overwrite_with_mean(self._current[:, :shared], self._kept[:, :shared], self._row_weights[row][:shared])
        ready = final - start
        rest = self.rows.inside - ready
        self._kept[:, :rest] = self._current[:, ready:]
        return self._current[:, :ready]


def _update_mean(mean: NDArray[np.float32], new: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """Update a running mean in place: mean += share (new - mean)."""
    difference = new - mean
    difference *= share
    mean += difference


def _overwrite_with_mean(new: NDArray[np.float32], mean: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """Write the updated mean, mean + share (new - mean), over the new values, a few rows at a time."""
    step = max(1, _CHUNK // mean.shape[-1])
    for channel in range(len(new)):
        for first in range(0, new.shape[1], step):
            part = np.s_[first : first + step]
            new[channel, part] -= mean[channel, part]
            new[channel, part] *= share[part]
            new[channel, part] += mean[channel, part]

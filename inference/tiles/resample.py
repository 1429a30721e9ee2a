"""Resampling between the mosaic's grid and the network's grid of another ground sample distance, strip by strip.

Along each axis an output pixel is a mean of input pixels weighted by a triangle filter: linear interpolation when
upsampling, and when downsampling a triangle as wide as two output pixels, so that every input pixel contributes
(Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989). Invalid pixels have no weight.

The support is symmetric: where a network pixel contributes to a mosaic pixel on the way back, that mosaic pixel
contributed to it on the way there. A valid mosaic pixel therefore never depends on an empty network pixel.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.tiles.strips import Strip


class FilterWeights:
    """Triangle filter that resamples an axis from `old` to `new` pixels.

    Args:
        old: Length of the axis before, pixels.
        new: Length of the axis after, pixels.

    Attributes:
        index: (k, new) indices of the input pixels of each output pixel.
        weight: (k, new) float32 weights of those pixels, which sum to 1; 0 where an output pixel has fewer than k.
        first: (new,) first input pixel with weight for each output pixel.
        last: (new,) last input pixel with weight for each output pixel.
    """

    def __init__(self, old: int, new: int) -> None:
        scale = old / new
        support = max(1.0, scale)
        centre = (np.arange(new) + 0.5) * scale - 0.5
        places = np.floor(centre - support).astype(np.intp) + np.arange(2 * math.ceil(support) + 2)[:, None]
        weight = np.maximum(0, 1 - np.abs(places - centre) / support)
        weight[(places < 0) | (places >= old)] = 0
        self.weight = (weight / weight.sum(axis=0)).astype(np.float32)
        self.index = np.clip(places, 0, old - 1)
        self.first = np.where(self.weight > 0, self.index, old).min(axis=0)
        self.last = np.where(self.weight > 0, self.index, -1).max(axis=0)

    def __len__(self) -> int:
        return int(self.index.shape[1])

    def columns(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Resample the last axis, (..., old) to (..., new)."""
        total = np.zeros((*values.shape[:-1], len(self)), np.float32)
        for index, weight in zip(self.index, self.weight, strict=True):
            if weight.any():
                total += np.take(values, index, axis=-1) * weight
        return total


class RowResampler:
    """Resampling of the rows of an image that arrives in pieces, from top to bottom.

    Args:
        weights: Filter along the rows.
        top: First row of the image that arrives.
        first: First resampled row that is wanted, for which no row above `top` is needed.
    """

    def __init__(self, weights: FilterWeights, top: int = 0, first: int = 0) -> None:
        self._weights = weights
        self._held: NDArray[np.float32] | None = None
        self._top = top
        self._next = first

    def push(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the next rows and return the resampled rows that are complete.

        Args:
            rows: (channels, n, width) float32.

        Returns:
            (channels, m, width) float32; m may be 0.
        """
        weights = self._weights
        held = rows if self._held is None else np.concatenate([self._held, rows], axis=1)
        stop = self._top + held.shape[1]
        begin, end = self._next, max(self._next, int(np.searchsorted(weights.last, stop)))
        ready = np.zeros((held.shape[0], end - begin, held.shape[2]), np.float32)
        for index, weight in zip(weights.index[:, begin:end], weights.weight[:, begin:end], strict=True):
            if weight.any():
                # An index without weight may lie outside the held rows, hence the clipping.
                ready += held[:, np.clip(index - self._top, 0, held.shape[1] - 1)] * weight[:, None]
        self._next = end
        keep = min(int(weights.first[end]) if end < len(weights) else stop, stop)
        self._held, self._top = held[:, keep - self._top :].copy(), keep
        return ready


def resampled_size(size: tuple[int, int], factor: tuple[float, float] | None) -> tuple[int, int]:
    """Return (height, width) of the network's grid from that of a mosaic; see `ResampledGrid`."""
    rows, cols = (max(1, round(length * by)) for length, by in zip(size, factor or (1, 1), strict=True))
    return rows, cols


class ResampledGrid:
    """Conversion between a mosaic's grid and the network's grid, in both directions.

    Args:
        height: Height of the mosaic, pixels.
        width: Width of the mosaic, pixels.
        factor: Height and width of a mosaic pixel divided by the side of a network pixel, both on the ground.
        fill_value: Value of invalid pixels on the network's grid.

    Attributes:
        height: Height of the network's grid, pixels.
        width: Width of the network's grid, pixels.
    """

    def __init__(self, height: int, width: int, factor: tuple[float, float], fill_value: float) -> None:
        self._fill_value = fill_value
        self.height, self.width = resampled_size((height, width), factor)
        self._to_network = FilterWeights(height, self.height), FilterWeights(width, self.width)
        self._to_mosaic = FilterWeights(self.height, height), FilterWeights(self.width, width)
        self._returning = RowResampler(self._to_mosaic[0])

    def mosaic_rows(self, first: int, stop: int) -> tuple[int, int]:
        """Return the mosaic's rows that rows of the network's grid are made of: the first, and the one after the last.

        Args:
            first: First row of the network's grid.
            stop: Row after the last one.
        """
        weights = self._to_network[0]
        return int(weights.first[first]), int(weights.last[stop - 1]) + 1

    def from_mosaic(self, strips: Iterable[Strip], first: int = 0) -> Iterator[Strip]:
        """Yield a mosaic's strips on the network's grid.

        Args:
            strips: Strips of the mosaic, from top to bottom.
            first: First row of the network's grid that is wanted; `mosaic_rows` says where the strips may begin.

        Yields:
            Strips with float32 pixels; a pixel is invalid where no valid mosaic pixel has weight.
        """
        rows: RowResampler | None = None
        cols, done = self._to_network[1], first
        for strip in strips:
            if rows is None:
                rows = RowResampler(self._to_network[0], strip.row, first)
            values = strip.pixels.astype(np.float32)
            valid = (
                np.ones(values.shape[1:], np.float32) if strip.invalid is None else (~strip.invalid).astype(np.float32)
            )
            ready = rows.push(cols.columns(np.concatenate([values * valid, valid[None]])))
            if not ready.shape[1]:
                continue
            coverage = ready[-1]
            empty = coverage <= 0
            pixels = ready[:-1] / np.where(empty, 1, coverage)
            pixels[:, empty] = self._fill_value
            yield Strip(done, pixels, empty if empty.any() else None)
            done += ready.shape[1]

    def to_mosaic(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resample the next rows of probabilities back to the mosaic's grid.

        Args:
            probability: (channels, n, self.width) float32 on the network's grid, from top to bottom.

        Returns:
            (channels, m, width) float32 on the mosaic's grid: the rows that are complete.
        """
        return self._returning.push(self._to_mosaic[1].columns(probability))

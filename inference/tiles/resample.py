"""Resampling between a mosaic's grid and one of another ground sample distance, strip by strip.

Along each axis an output pixel is a mean of input pixels under a triangle: linear interpolation where pixels become
smaller, and where they become larger a triangle as wide as they are, so that nothing is missed (Heckbert, Fundamentals
of Texture Mapping and Image Warping, 1989). Invalid pixels have no weight.

Which pixels weigh on which is the same on the way there and back: a valid pixel of the mosaic never asks for one of the
other grid under which there is nothing valid.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.raster import Strip


class Taps:
    """Which pixels of an axis each pixel of a resampled axis is a mean of.

    Attributes:
        index: (k, new) the pixels.
        weight: (k, new) float32 their weights, which sum to 1; 0 where a pixel has fewer than k.
        first: (new,) the first pixel that weighs on each.
        last: (new,) the last one.
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
        """Resamples the last axis, (..., old) to (..., new)."""
        total = np.zeros((*values.shape[:-1], len(self)), np.float32)
        for index, weight in zip(self.index, self.weight, strict=True):
            if weight.any():
                total += np.take(values, index, axis=-1) * weight
        return total


class Rows:
    """Resamples the rows of something that comes from top to bottom, in pieces."""

    def __init__(self, taps: Taps) -> None:
        self._taps = taps
        self._held: NDArray[np.float32] | None = None
        self._top = 0
        self._next = 0

    def push(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes in the next rows, (channels, n, width); returns those that are complete now, (channels, m, width)."""
        taps = self._taps
        held = rows if self._held is None else np.concatenate([self._held, rows], axis=1)
        begin, end = self._next, int(np.searchsorted(taps.last, self._top + held.shape[1]))
        ready = np.zeros((held.shape[0], end - begin, held.shape[2]), np.float32)
        for index, weight in zip(taps.index[:, begin:end], taps.weight[:, begin:end], strict=True):
            if weight.any():
                # A place without weight may lie outside of what is held.
                ready += held[:, np.clip(index - self._top, 0, held.shape[1] - 1)] * weight[:, None]
        self._next = end
        keep = min(int(taps.first[end]) if end < len(taps) else self._top + held.shape[1], self._top + held.shape[1])
        self._held, self._top = held[:, keep - self._top :].copy(), keep
        return ready


class Grid:
    """A mosaic's grid and the one it is resampled to.

    Args:
        height: Of the mosaic, pixels.
        width: Of the mosaic, pixels.
        factor: Side of a mosaic's pixel over that of the other grid, both on the ground.
        fill_value: What invalid pixels of the other grid get.
    """

    def __init__(self, height: int, width: int, factor: float, fill_value: float) -> None:
        self._fill_value = fill_value
        self.height, self.width = (max(1, round(length * factor)) for length in (height, width))
        self._there = Taps(height, self.height), Taps(width, self.width)
        self._back = Taps(self.height, height), Taps(self.width, width)
        self._returning = Rows(self._back[0])

    def strips(self, strips: Iterable[Strip]) -> Iterator[Strip]:
        """The mosaic on the other grid: pixels float32, invalid where nothing valid has weight."""
        rows, cols = Rows(self._there[0]), self._there[1]
        done = 0
        for strip in strips:
            values = strip.pixels.astype(np.float32)
            valid = (
                np.ones(values.shape[1:], np.float32) if strip.invalid is None else (~strip.invalid).astype(np.float32)
            )
            ready = rows.push(cols.columns(np.concatenate([values * valid, valid[None]])))
            if not ready.shape[1]:
                continue
            share = ready[-1]
            nothing = share <= 0
            pixels = ready[:-1] / np.where(nothing, 1, share)
            pixels[:, nothing] = self._fill_value
            yield Strip(done, pixels, nothing if nothing.any() else None)
            done += ready.shape[1]

    def back(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows of the other grid, (channels, n, its width), as they come; (channels, m, width) of the mosaic's."""
        return self._returning.push(self._back[1].columns(probability))

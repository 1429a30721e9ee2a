"""Regions of a map as polygons, from rows that come from top to bottom.

Rows come in bands of any height. A region that reaches the last row of a band stays open: its corners and totals are
kept, and nothing of its pixels. Once it ends, its corners are joined to polygons. So no region is cut, the result does
not depend on the height of the bands, and memory holds one band and the outlines of the open regions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.vector.columns import Columns
from inference.vector.corners import Corners, find_corners, no_corners, trace
from inference.vector.runs import Runs, connected, find_runs, touching

AreaOfRuns = Callable[[Runs], NDArray[np.float64]]
"""Function that returns the area of each run, (n,) float64; rows count from the first row of the band."""


@dataclass(frozen=True)
class Regions(Columns):
    """Regions, in the order of their last rows, then of their first pixels.

    Attributes:
        geometry: Polygon of each region, (n,) of shapely geometries, x the column and y the row of the map. With
            diagonal neighbours a region may be a MultiPolygon, whose parts touch at points.
        value: Class, (n,) uint8.
        pixels: Number of pixels, (n,) int64.
        area: Sum of the areas of the pixels, (n,) float64.
        probability: Mean probability of the pixels, (n,) float64; NaN where none was given.
        lowest: Lowest probability, (n,) float32; NaN where none was given.
        first: First pixel, (n,) int64: row times width of the map, plus column.
        last: Last row, (n,) int64.
    """

    geometry: NDArray[Any]
    value: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    area: NDArray[np.float64]
    probability: NDArray[np.float64]
    lowest: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@dataclass(frozen=True)
class _Totals(Columns):
    """Totals of regions, see `Regions`; `probability` is the sum of the probabilities."""

    value: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    area: NDArray[np.float64]
    probability: NDArray[np.float64]
    lowest: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


class RegionFinder:
    """Finder of the regions of a map, fed with bands of rows.

    Args:
        width: Width of the map, pixels.
        diagonal: True if pixels of one class that share a corner belong to one region (8-connectivity).
    """

    def __init__(self, width: int, diagonal: bool = False) -> None:
        self._width, self._diagonal = width, diagonal
        self._row = 0
        self._above = find_runs(np.zeros((1, width), np.uint8), np.zeros((1, width), np.bool_))
        self._above_region = np.zeros(0, np.int64)  # number of the open region of each of these runs
        self._open = _totals_of(0)
        self._corners = no_corners()

    def add(
        self,
        values: NDArray[np.uint8],
        wanted: NDArray[np.bool_],
        areas: AreaOfRuns | None = None,
        probability: NDArray[np.float32] | None = None,
    ) -> Regions:
        """Add the next rows of the map, and return the regions that end above their last row.

        Args:
            values: Class of each pixel, (n, width).
            wanted: True at pixels that belong to a region, (n, width).
            areas: Function that returns the areas of runs of these rows; None for pixels with an area of 1.
            probability: Probability of each pixel's class, (n, width) float32; None if it isn't known.
        """
        runs = find_runs(values, wanted)
        count, open_region, run_region = self._connect(runs)
        ids = np.full((len(values) + 1, self._width), -1, np.int32)
        _paint(ids[:1], self._above, open_region[self._above_region])
        _paint(ids[1:], runs, run_region)
        found = find_corners(ids, self._row)
        moved = Corners(open_region[self._corners.region], self._corners.row, self._corners.col, self._corners.kind)
        corners = Corners.joined([moved, found])
        totals = _sum(
            count,
            [(open_region, self._open), (run_region, self._totals(runs, wanted, areas, probability))],
        )
        last = runs.row == len(values) - 1
        return self._close(len(values), runs[last], run_region[last], totals, corners)

    @property
    def open(self) -> int:
        """Number of regions that reach the last row."""
        return len(self._open.value)

    @property
    def oldest(self) -> int:
        """First pixel of the region that began first of those that reach the last row; if there is none, the next."""
        return int(self._open.first.min(initial=self._row * self._width))

    def finish(self) -> Regions:
        """Return the regions that reach the last row."""
        nothing = np.zeros((1, self._width), np.uint8)
        return self.add(nothing, nothing > 0)

    def _connect(self, runs: Runs) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of regions, and the regions of the open regions and of the runs."""
        known = len(self._open.value)
        one, other = touching(runs, runs, self._width, self._diagonal)
        low, high = touching(runs, self._above, self._width, self._diagonal)
        count, region = connected(
            known + len(runs),
            np.concatenate([one + known, low + known]),
            np.concatenate([other + known, self._above_region[high]]),
        )
        return count, region[:known], region[known:]

    def _totals(
        self,
        runs: Runs,
        wanted: NDArray[np.bool_],
        areas: AreaOfRuns | None,
        probability: NDArray[np.float32] | None,
    ) -> _Totals:
        length = runs.stop - runs.start
        area = length.astype(np.float64) if areas is None else areas(runs)
        total, lowest = np.full(len(runs), np.nan), np.full(len(runs), np.inf, np.float32)
        if probability is not None and len(runs):
            # The wanted pixels in order are the pixels of one run after the other.
            inside, at = probability[wanted], np.cumsum(length) - length
            total, lowest = np.add.reduceat(inside, at, dtype=np.float64), np.minimum.reduceat(inside, at)
        row = runs.row + self._row
        return _Totals(runs.value, length, area, total, lowest, row * self._width + runs.start, row)

    def _close(
        self, rows: int, last: Runs, last_region: NDArray[np.int64], totals: _Totals, corners: Corners
    ) -> Regions:
        """Keep the regions of the last row open, and return the others."""
        stays = np.zeros(len(totals.value), np.bool_)
        stays[last_region] = True
        number = np.cumsum(stays) - 1  # of the open regions, from 0
        staying = stays[corners.region]
        kept = corners[staying]
        self._corners = Corners(number[kept.region], kept.row, kept.col, kept.kind)
        self._open = totals[stays]
        self._above = Runs(np.full(len(last), -1), last.start, last.stop, last.value)
        self._above_region = number[last_region]
        self._row += rows
        ended = np.flatnonzero(~stays)
        ended = ended[np.lexsort((totals.first[ended], totals.last[ended]))]
        rank = np.empty(len(totals.value), np.int64)
        rank[ended] = np.arange(len(ended))
        done = corners[~staying]
        geometry = _polygons(Corners(rank[done.region], done.row, done.col, done.kind), self._diagonal)
        return Regions(
            geometry,
            totals.value[ended],
            totals.pixels[ended],
            totals.area[ended],
            totals.probability[ended] / totals.pixels[ended],
            np.where(np.isfinite(totals.lowest[ended]), totals.lowest[ended], np.float32(np.nan)),
            totals.first[ended],
            totals.last[ended],
        )


def _paint(ids: NDArray[np.int32], runs: Runs, region: NDArray[np.int64]) -> None:
    """Write the number of each run's region to its pixels, in place."""
    length = runs.stop - runs.start
    start = np.maximum(runs.row, 0) * ids.shape[1] + runs.start
    at = np.arange(length.sum()) + np.repeat(start - (np.cumsum(length) - length), length)
    ids.ravel()[at] = np.repeat(region, length)


def _polygons(corners: Corners, repair: bool) -> NDArray[Any]:
    """Return the polygon of each region, (regions,); regions are numbered from 0 without gaps."""
    if not len(corners):
        return np.zeros(0, object)
    rings = trace(corners)
    length = np.diff(rings.start, append=len(rings.coordinates))
    drawn = shapely.linearrings(rings.coordinates, indices=np.repeat(np.arange(len(length)), length))
    geometry: NDArray[Any] = shapely.polygons(drawn, indices=rings.region)
    if repair:
        broken = ~shapely.is_valid(geometry)
        geometry[broken] = shapely.make_valid(geometry[broken])
    return geometry


def _totals_of(count: int) -> _Totals:
    whole = np.zeros(count, np.int64)
    return _Totals(
        np.zeros(count, np.uint8),
        whole,
        np.zeros(count),
        np.zeros(count),
        np.full(count, np.inf, np.float32),
        np.full(count, np.iinfo(np.int64).max),
        whole - 1,
    )


def _sum(count: int, parts: list[tuple[NDArray[np.int64], _Totals]]) -> _Totals:
    """Add the totals of parts of `count` regions; each part comes with the numbers of its regions."""
    result = _totals_of(count)
    pixels, area, probability = result.pixels.copy(), result.area.copy(), result.probability.copy()
    last = result.last.copy()
    for region, totals in parts:
        result.value[region] = totals.value
        pixels += np.bincount(region, totals.pixels, count).astype(np.int64)
        area += np.bincount(region, totals.area, count)
        probability += np.bincount(region, totals.probability, count)
        np.minimum.at(result.lowest, region, totals.lowest)
        np.minimum.at(result.first, region, totals.first)
        np.maximum.at(last, region, totals.last)
    return _Totals(result.value, pixels, area, probability, result.lowest, result.first, last)

"""Nodata that a file doesn't declare: detection of the value that fills an image's collar, gaps or empty blocks.

Most drone mosaics arrive with a white or black collar and no nodata value. Such a value is told by where it lies, not
by what it is: black shadows, glint and calm water hold 0 or 255 in all bands too.

A value is suspected if all bands have it in more than 0.1 % of the pixels, it is one that programs fill with (0, 255,
65535, -9999, -32768, the type's extremes, see `candidates`), and one of these holds:

- No image holds it: -9999 and below, or a magnitude above 1e30.
- More than half of its pixels lie in solid pieces that touch the image's border and end sharply, as a collar does.
- 99 % of its pixels fill whole blocks of a tiled file, as blocks that were never written do.

A one-colour surface inside an image touches no border, and its outline crosses blocks: it stays valid. So does a roof
or glint at the border that is too bright for the sensor: around it lie pixels of almost the same value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.validity import equal

LEAST_SHARE = 0.001
"""Share of an image's pixels above which a value is suspected."""
_FILL_VALUES = (0.0, 255.0, 65535.0, -9999.0, -32768.0, -32767.0, -99999.0)
_NEVER_DATA = -9999.0  # and below
_HUGE = 1e30
_CELLS = 1024  # cells along the longer side of an image, at most
_SMALLEST_CELL = 4  # pixels
_ACTIVE = 0.25  # share of a cell's pixels from which it is a part of a piece
_NEAR = {1: 16, 2: 64}  # difference of almost equal values, by the bytes of an integer type
_SHARP = 0.1  # almost equal pixels for each pixel of a piece; more around what is too bright or too dark
_SOLID = 0.8  # share of a piece's pixels that have the value; less in shadows and glint
_IN_PIECES, _IN_BLOCKS = 0.5, 0.99
_EVERY = 8  # rows
_CHUNK = 2**18  # pixels processed at a time, so that they stay in a core's cache
_TURNS = 500  # of a piece that is followed from the border


@dataclass(frozen=True)
class Suspect:
    """Value that is probably nodata, though its file doesn't say so.

    Attributes:
        value: The value, which all bands have.
        share: Share of the image's pixels.
        number: Number of the value in what `NodataDetector.add` returns.
    """

    value: float
    share: float
    number: int


def candidates(dtype: str) -> list[float]:
    """Return the values of a data type that programs fill empty pixels with."""
    if np.dtype(dtype).kind == "f":
        largest = float(np.finfo(np.float32).max)
        return [*_FILL_VALUES, -largest, largest]
    info = np.iinfo(dtype)
    return list(dict.fromkeys(v for v in (*_FILL_VALUES, info.min, info.max) if info.min <= v <= info.max))


class NodataDetector:
    """Search for undeclared nodata in an image that is read in parts, each pixel once.

    Args:
        height: Rows of the image, pixels.
        width: Columns of the image, pixels.
        dtype: The file's data type.
        block: (height, width) of the file's blocks, pixels; None if they are of no interest.
    """

    def __init__(self, height: int, width: int, dtype: str, block: tuple[int, int] | None = None) -> None:
        self._height, self._width = height, width
        self._values = candidates(dtype)
        self._float = np.dtype(dtype).kind == "f"
        cell = max(_SMALLEST_CELL, -(-max(height, width) // _CELLS))
        self._cells = _Grid(height, width, cell, cell)
        tiled = block is not None and min(block) >= 16 and block[1] < width
        self._blocks = _Grid(height, width, *block) if tiled and block is not None else None
        self._near = 0 if self._float else _NEAR.get(np.dtype(dtype).itemsize, 64)
        self._counts: dict[int, list[NDArray[np.int64]]] = {}
        self._almost: dict[int, NDArray[np.int64]] = {}
        self._border: dict[int, NDArray[np.bool_]] = {}
        self._seen = 0

    def add(
        self, row: int, pixels: NDArray[Any], invalid: NDArray[np.bool_] | None, col: int = 0
    ) -> NDArray[np.uint8] | None:
        """Add a part of the image.

        Args:
            row: First row of the part.
            pixels: (bands, H, W) in units of the file.
            invalid: (H, W) bool, True at pixels that are known to be invalid; None if there are none.
            col: First column of the part.

        Returns:
            (H, W) uint8, the number of the fill value that a pixel has, counted from 1, else 0; None if no pixel has
            one.
        """
        first = pixels[0]
        self._seen += first.size
        if not first.size:
            return None
        low, high = float(np.nanmin(first)), float(np.nanmax(first))
        if self._float:
            for extreme in (low, high):
                if abs(extreme) > _HUGE and np.isfinite(extreme) and extreme not in self._values:
                    self._values.append(extreme)
        # Most images hold a few such pixels. A part with very few, by every eighth row, is not worth the time.
        rows = slice(None, None, _EVERY)
        sample, left_out = pixels[:, rows], None if invalid is None else invalid[rows]
        frequent = [
            (number, value)
            for number, value in enumerate(self._values[:255], 1)
            if low <= value <= high
            and np.count_nonzero(_all_equal(sample, left_out, value)) > LEAST_SHARE * sample[0].size
        ]
        if not frequent:
            return None
        found = np.zeros(first.shape, np.uint8)
        step = max(1, _CHUNK // first.shape[1])
        for top in range(0, len(first), step):
            part = np.s_[top : top + step]
            values, left_out = pixels[:, part], None if invalid is None else invalid[part]
            for number, value in frequent:
                has = _all_equal(values, left_out, value)
                self._count(number, row + top, col, has)
                if self._near:
                    near = _almost_equal(values, value, self._near)
                    self._cells.add(self._almost[number], row + top, col, np.greater(near, has, out=near))
                # Ten times as fast as an assignment to the pixels that have the value; none has two.
                np.maximum(found[part], has.view(np.uint8) * np.uint8(number), out=found[part])
        return found

    def _count(self, number: int, row: int, col: int, has: NDArray[np.bool_]) -> None:
        grids = [self._cells] if self._blocks is None else [self._cells, self._blocks]
        if number not in self._counts:
            self._counts[number] = [np.zeros(grid.shape, np.int64) for grid in grids]
            self._border[number] = np.zeros(self._cells.shape, np.bool_)
            self._almost[number] = np.zeros(self._cells.shape, np.int64)
        for grid, counts in zip(grids, self._counts[number], strict=True):
            grid.add(counts, row, col, has)
        border, size = self._border[number], self._cells.height
        if row == 0:
            border[0, (np.flatnonzero(has[0]) + col) // size] = True
        if row + has.shape[0] == self._height:
            border[-1, (np.flatnonzero(has[-1]) + col) // size] = True
        if col == 0:
            border[(np.flatnonzero(has[:, 0]) + row) // size, 0] = True
        if col + has.shape[1] == self._width:
            border[(np.flatnonzero(has[:, -1]) + row) // size, -1] = True

    def suspects(self) -> list[Suspect]:
        """Return the values that are probably nodata, by falling share."""
        found = []
        for number, counts in self._counts.items():
            pixels, value = int(counts[0].sum()), self._values[number - 1]
            if pixels <= LEAST_SHARE * self._seen:
                continue
            if (
                value <= _NEVER_DATA
                or abs(value) > _HUGE
                or self._in_pieces(number) > _IN_PIECES * pixels
                or (self._blocks is not None and _in_full(counts[1], self._blocks.areas) >= _IN_BLOCKS * pixels)
            ):
                found.append(Suspect(value, pixels / self._seen, number))
        return sorted(found, key=lambda each: -each.share)

    def _in_pieces(self, number: int) -> int:
        """Return how many pixels lie in solid pieces that touch the border."""
        counts, areas = self._counts[number][0], self._cells.areas
        active = counts >= _ACTIVE * areas
        reached = active & self._border[number]
        for _ in range(_TURNS):
            before = np.count_nonzero(reached)
            reached = _along_rows(active, _along_rows(active, reached).T.copy(), turned=True)
            if np.count_nonzero(reached) == before:
                break
        inner = counts[reached & _eroded(reached)].sum(), areas[reached & _eroded(reached)].sum()
        if inner[1] and inner[0] < _SOLID * inner[1]:
            return 0
        around = ~_eroded(~reached)  # cells that a piece's ragged edge only grazes
        pixels = int(counts[around].sum())
        return 0 if self._almost[number][around].sum() > _SHARP * pixels else pixels


def _all_equal(pixels: NDArray[Any], invalid: NDArray[np.bool_] | None, value: float) -> NDArray[np.bool_]:
    """Find the pixels, (H, W) bool, all of whose bands have a value and that aren't known to be invalid."""
    has = equal(pixels[0], value)
    for band in pixels[1:]:
        if not has.any():
            return has
        has &= equal(band, value)
    return has if invalid is None else has & ~invalid


def _almost_equal(pixels: NDArray[Any], value: float, difference: int) -> NDArray[np.bool_]:
    """Find the pixels, (H, W) bool, all of whose bands are nearer to a value than `difference`."""
    info = np.iinfo(pixels.dtype) if pixels.dtype.kind in "iu" else None
    low, high = value - difference, value + difference
    if info is not None:
        low, high = int(low), int(high)  # compared with a float, integers would be converted to it
    has = np.ones(pixels.shape[1:], np.bool_)
    for band in pixels:  # a limit beyond the type's range needs no comparison
        if info is None or low > info.min:
            has &= band > low
        if info is None or high < info.max:
            has &= band < high
    return has


class _Grid:
    """Cells over an image, in which pixels are counted."""

    def __init__(self, height: int, width: int, rows: int, cols: int) -> None:
        self.height, self.width = rows, cols
        self.shape = -(-height // rows), -(-width // cols)
        down, along = (
            np.diff(np.append(np.arange(0, length, step), length)) for length, step in ((height, rows), (width, cols))
        )
        self.areas: NDArray[np.int64] = np.outer(down, along)

    def add(self, counts: NDArray[np.int64], row: int, col: int, has: NDArray[np.bool_]) -> None:
        """Add the True pixels of a part, whose first pixel is at (row, col), to the counts of the cells."""
        rows, top = _starts(row, has.shape[0], self.height)
        cols, left = _starts(col, has.shape[1], self.width)
        found = np.add.reduceat(_row_sums(has, rows), cols, axis=1, dtype=np.int64)
        counts[top : top + len(rows), left : left + len(cols)] += found


def _row_sums(has: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.uint32]:
    """Return how many pixels of each column are True in each group of rows, (len(starts), W).

    Bytes are added to bytes, up to 255 rows at a time: 30 times as fast as `np.add.reduceat` over rows.

    Args:
        has: (H, W) bool.
        starts: First row of each group, rising from 0; a group ends where the next one starts.
    """
    values, stops = has.view(np.uint8), [*starts[1:], len(has)]
    sums = np.zeros((len(starts), has.shape[1]), np.uint32)
    for place, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        for first in range(start, stop, 255):
            sums[place] += np.add.reduce(values[first : min(first + 255, stop)], axis=0, dtype=np.uint8)
    return sums


def _starts(first: int, length: int, step: int) -> tuple[NDArray[np.intp], int]:
    """Return where cells begin within a part of an axis, from 0, and the number of the first cell."""
    cell = first // step
    edges = np.arange(cell * step, first + length, step) - first
    edges[0] = 0
    return edges, cell


def _along_rows(active: NDArray[np.bool_], reached: NDArray[np.bool_], turned: bool = False) -> NDArray[np.bool_]:
    """Extend the reached cells along the runs of active cells in each row; in each column if `turned`."""
    active = active.T.copy() if turned else active
    start = active.copy()
    start[:, 1:] &= ~active[:, :-1]
    run = np.cumsum(start.ravel(), dtype=np.int32).reshape(active.shape)  # a number for each run
    known = np.zeros(int(run[-1, -1]) + 1, np.bool_)
    known[run[reached]] = True
    extended: NDArray[np.bool_] = known[run] & active
    return extended.T.copy() if turned else extended


def _eroded(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells all of whose eight neighbours within the grid are set too."""
    padded = np.pad(cells, 1, constant_values=True)
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    whole: NDArray[np.bool_] = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return whole


def _in_full(counts: NDArray[np.int64], areas: NDArray[np.int64]) -> int:
    """Return how many pixels lie in blocks that have no others."""
    return int(counts[counts == areas].sum())


def share_text(share: float) -> str:
    """Return a share in percent, such as 73.2 %; a small one as <0.1 %."""
    return f"{100 * share:.1f} %" if share >= 0.0005 else "<0.1 %"

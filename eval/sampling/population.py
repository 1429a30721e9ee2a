"""Population of a sample: the units of a map, read window by window, and their totals by class and probability.

A unit is a valid pixel, or a plot of `plot` x `plot` pixels with at least one valid pixel. Plots lie on a grid that
begins at the upper left corner of the map; of those at its lower and right edge, only a part is inside.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eval.sampling.class_map import CountedMap, reading
from eval.sampling.design import Floats, Ints
from inference.common.areas import CELL_COLS, CELL_ROWS, cell_edges, pixel_areas, usable_crs
from inference.common.errors import UserError
from inference.common.progress import Progress
from inference.common.raster import WINDOW_CACHE, environment, open_raster
from inference.vector.class_map import probabilities_header

_ROWS, _COLS = 512, 2048
"""Sides of a window, pixels."""
_PIXELS = _ROWS * _COLS
_SMALLEST, _HALF = 103 * 16, 126 * 16  # leading bits of 2**-24 and of 0.5 as float32: exponent, 4 bits of mantissa
_LOWER: Floats = (np.arange(_SMALLEST, _HALF + 1, dtype=np.int32) << 19).view(np.float32).astype(np.float64)
EDGES: Floats = np.concatenate([[0.0], _LOWER, 1 - _LOWER[-2::-1], [1.0]])
"""Edges of the bins of the score, 0 to 1: 16 in each power of two from either end, because probabilities of 1e-2 and
1e-6 are both common and must be told apart."""
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Units:
    """Units of a window.

    Attributes:
        row: Row of each unit in the grid of units, (n,).
        col: Column of each unit in the grid of units, (n,).
        mapped: (n,), index of the class of the map; of a plot, the class with the largest area.
        area: (n,), ground area in m² of the valid pixels.
        score: (n,), bin of EDGES of the score, which strata are made from: of two classes, the probability of the
            second; of more, the probability that the mapped class is wrong. 0 without probabilities.
        probability: (K, n) float32, probability of each class; of a plot, the mean over its pixels. None without
            probabilities.
        pixel_area: (K,), ground area of the pixels of each class.
        window: Pixels that the units lie in.
        valid: (H, W) ground area of each valid pixel of the window, 0 where invalid.
    """

    row: Ints
    col: Ints
    mapped: Ints
    area: Floats
    score: Ints
    probability: NDArray[np.float32] | None
    pixel_area: Floats
    window: Window
    valid: Floats


class Population:
    """Units of a map that can be read several times.

    Args:
        class_map: The map.
        probabilities: File of probabilities on the same grid, a float band for each class, or a single one of the
            second of two classes; None for none.
        plot: Side of a unit, pixels.

    Attributes:
        shape: Rows and columns of the grid of units.

    Raises:
        UserError: The probabilities aren't those of the map.
    """

    def __init__(self, class_map: CountedMap, probabilities: str | None = None, plot: int = 1) -> None:
        self.class_map, self.plot = class_map, plot
        header, number = class_map.header, len(class_map.names)
        self.probabilities = None if probabilities is None else probabilities_header(probabilities, header, number)
        self.shape = (-(-header.height // plot), -(-header.width // plot))
        cells = (cell_edges(header.height, CELL_ROWS), cell_edges(header.width, CELL_COLS))
        areas = pixel_areas(usable_crs(header), header.transform, *(edges.astype(np.float64) for edges in cells))
        assert areas is not None  # `count_class_map` has checked it
        self._areas = areas

    def windows(self, what: str) -> Iterator[Units]:
        """Read all units, window by window; windows without a unit are left out.

        Args:
            what: Description of the work, for the progress.

        Raises:
            UserError: A file can't be read; a valid pixel has no probability, or one that can't be.
        """
        header, chances = self.class_map.header, self.probabilities
        starts = self._starts()
        with (
            environment(WINDOW_CACHE),
            open_raster(header.path) as map_file,
            nullcontext() if chances is None else open_raster(chances.path) as other,
            Progress(len(starts), what, "windows") as bar,
        ):
            for done, window in enumerate(starts):
                units = self._units(map_file, other, window)
                if units is not None:
                    yield units
                bar.show(done + 1)

    def _starts(self) -> list[Window]:
        """Return windows that cover the map and don't cut a plot; as wide as the map where a file has such blocks."""
        header, plot = self.class_map.header, self.plot
        files = [header] if self.probabilities is None else [header, self.probabilities]
        cols = header.width if any(file.block[1] >= header.width for file in files) else _COLS
        rows = max(1, _PIXELS // cols) if cols > _COLS else _ROWS
        rows, cols = (-(-length // plot) * plot for length in (rows, cols))
        return [
            Window(col, row, min(cols, header.width - col), min(rows, header.height - row))
            for row in range(0, header.height, rows)
            for col in range(0, header.width, cols)
        ]

    def _units(self, map_file: Any, other: Any, window: Window) -> Units | None:
        with reading(self.class_map.header.path):
            mapped = self.class_map.read(map_file, window)
        inside = mapped >= 0
        if not inside.any():
            return None
        area = np.where(inside, self._pixel_areas(window), 0)
        chances = None if other is None else self._read_probabilities(other, window, inside)
        classes = len(self.class_map.names)
        pixel_area: Floats = np.bincount(mapped[inside], area[inside], classes).astype(np.float64)
        if self.plot > 1:
            mapped, area_of_unit, chances = self._plots(mapped, area, chances)
        else:
            area_of_unit = area
        place = np.flatnonzero(area_of_unit)
        row, col = np.divmod(place, area_of_unit.shape[1])
        of_unit = mapped.ravel()[place]
        probability = None if chances is None else np.take(chances.reshape(classes, -1), place, axis=1)
        return Units(
            row + window.row_off // self.plot,
            col + window.col_off // self.plot,
            of_unit,
            area_of_unit.ravel()[place],
            np.zeros(len(row), np.int64) if probability is None else _score(probability, of_unit),
            probability,
            pixel_area,
            window,
            area,
        )

    def unit_shares(self, units: Units, shares: Floats) -> Floats:
        """Return the share of each unit's area that something covers, (n,), from its share of each pixel (H, W)."""
        covered = units.valid * shares
        if self.plot > 1:
            covered = _block_sums(covered, self.plot)
        row, col = units.row - units.window.row_off // self.plot, units.col - units.window.col_off // self.plot
        found: Floats = covered[row, col] / units.area
        return found

    def _pixel_areas(self, window: Window) -> Floats:
        """Return the ground area of each pixel of a window, (H, W) in m², as `ClassCounter` counts it."""
        rows = (window.row_off + np.arange(window.height)) // CELL_ROWS
        cols = (window.col_off + np.arange(window.width)) // CELL_COLS
        areas: Floats = self._areas[rows[:, None], cols]
        return areas

    def _read_probabilities(self, file: Any, window: Window, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Read the probability of each class, (K, H, W) float32; 0 at invalid pixels."""
        assert self.probabilities is not None
        path = self.probabilities.path
        with reading(path):
            values: NDArray[np.float32] = file.read(window=window, out_dtype="float32")
        if len(values) == 1:
            values = np.concatenate([1 - values, values])
        values[:, ~inside] = 0
        total = values.sum(axis=0)
        problem = _problem_at(values, total, inside)
        if problem is not None:
            what, row, col = problem
            raise UserError(
                f"{path}: row {window.row_off + row}, column {window.col_off + col}: {what} (the map is valid there; "
                "give the probabilities that the map was made from, as inference.py --probabilities writes them)"
            )
        return values

    def _plots(
        self, mapped: Ints, area: Floats, chances: NDArray[np.float32] | None
    ) -> tuple[Ints, Floats, NDArray[np.float32] | None]:
        """Return class, area and probabilities of plots from those of their pixels."""
        sums = partial(_block_sums, side=self.plot)
        whole = sums(area)
        by_class = np.stack([sums(np.where(mapped == k, area, 0)) for k in range(len(self.class_map.names))])
        if chances is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                means = np.stack([sums(area * band) for band in chances]) / whole
            chances = np.where(whole > 0, means, 0).astype(np.float32)
        return by_class.argmax(axis=0), whole, chances


@dataclass(frozen=True)
class Histogram:
    """Totals of a population by mapped class and bin of the score: K classes, B bins (one without probabilities).

    Attributes:
        units: (K, B), number of units.
        area: (K, B), ground area in m².
        probability: (K, B, K), ground area times probability of each class; None without probabilities.
        variance: (K, B, K), ground area times p (1 - p); None without probabilities.
        pixel_area: (K,), ground area of the pixels of each class.
    """

    units: Floats
    area: Floats
    probability: Floats | None
    variance: Floats | None
    pixel_area: Floats


def count(population: Population) -> Histogram:
    """Read a population once and return its totals.

    Raises:
        UserError: See `Population.windows`.
    """
    classes = len(population.class_map.names)
    bins = 1 if population.probabilities is None else len(EDGES) - 1
    size = classes * bins
    units, area, pixel_area = np.zeros(size), np.zeros(size), np.zeros(classes)
    sums = np.zeros((2, classes, size))
    for each in population.windows("counting"):
        key = each.mapped * bins + each.score
        units += np.bincount(key, minlength=size)
        area += np.bincount(key, each.area, size)
        pixel_area += each.pixel_area
        if each.probability is not None:
            for k, chance in enumerate(each.probability):
                weighted = each.area * chance
                sums[0, k] += np.bincount(key, weighted, size)
                sums[1, k] += np.bincount(key, weighted * (1 - chance), size)
    probability, variance = (part.T.reshape(classes, bins, classes) for part in sums)
    with_chances = population.probabilities is not None
    return Histogram(
        units.reshape(classes, bins),
        area.reshape(classes, bins),
        probability if with_chances else None,
        variance if with_chances else None,
        pixel_area,
    )


def _problem_at(
    values: NDArray[np.float32], total: NDArray[np.float32], inside: NDArray[np.bool_]
) -> tuple[str, int, int] | None:
    """Return what is wrong with a pixel's probabilities, its row and its column; None if all are sound."""
    for wrong, what in (
        (~np.isfinite(total), "has no probability"),
        ((values < -1e-6).any(axis=0) | (values > 1 + 1e-6).any(axis=0), "a probability is not in 0 to 1"),
        (np.abs(total - 1) > _SUM_TOLERANCE, "the probabilities of the classes don't sum to 1"),
    ):
        wrong = wrong & inside
        if wrong.any():
            row, col = np.unravel_index(wrong.argmax(), wrong.shape)
            return what, int(row), int(col)
    return None


def _score(probability: NDArray[np.float32], mapped: Ints) -> Ints:
    """Return the bin of EDGES of the score of each unit, (n,), from probabilities (K, n).

    The bin is read from the bits of a float32, which is the same on every machine.
    """
    if len(probability) == 2:
        rest, score = probability
    else:
        score, rest = np.zeros((2, len(mapped)), np.float32)
        for k, chance in enumerate(probability):
            right = mapped == k
            score += np.where(right, np.float32(0), chance)
            rest += np.where(right, chance, np.float32(0))
    smaller = np.clip(np.minimum(score, rest), np.float32(0), np.float32(0.5)).astype(np.float32)
    bins = np.clip((smaller.view(np.int32) >> 19) - _SMALLEST + 1, 0, len(_LOWER) - 1).astype(np.int64)
    found: Ints = np.where(score > rest, len(EDGES) - 2 - bins, bins)
    return found


def _block_sums(values: Floats, side: int) -> Floats:
    """Return the sums of (H, W) over blocks of `side` x `side`; those at the end may be smaller."""
    starts: Sequence[NDArray[np.int64]] = [np.arange(0, length, side) for length in values.shape]
    sums: Floats = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    return sums

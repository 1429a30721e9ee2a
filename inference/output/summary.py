"""Summary of a map: pixels and ground areas by class, and the run's data, as values and as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.areas import CELL_COLS, CELL_ROWS, cell_edges, count_in_cells, pixel_areas
from inference.common.bands import AlphaSurvey
from inference.common.raster import Header
from inference.common.text import LONGEST_NAME, clean_line
from inference.common.undeclared import NodataDetector, share_text
from inference.common.validity import alpha_bands

_CHUNK = 2**18  # pixels processed at a time, so that they stay in a core's cache


class ClassCounter:
    """Pixels and ground area of each class, accumulated while a map is written.

    Args:
        classes: Number of classes.
        crs: Coordinate reference system of the map; None where it has none.
        transform: Affine transform from (column, row) to the CRS.
        width: Width of the map, pixels.

    Attributes:
        pixels: (classes,) int64 valid pixels of each class.
        invalid: Number of invalid pixels.
        fill_values: (256, classes) int64 pixels of each class by the number of their fill value, see
            `inference.common.undeclared`; row 0 is of no meaning.
    """

    def __init__(self, classes: int, crs: Any, transform: Any, width: int) -> None:
        self.pixels = np.zeros(classes, np.int64)
        self.invalid = 0
        self.fill_values = np.zeros((256, classes), np.int64)
        self._areas: NDArray[np.float64] | None = np.zeros(classes)
        self._crs, self._transform = crs, transform
        self._cols = cell_edges(width, CELL_COLS)

    def add(self, row: int, values: NDArray[np.uint8], invalid: NDArray[np.bool_] | None) -> None:
        """Add the next rows of a map.

        Args:
            row: First of the rows.
            values: (n, width) uint8 class of each pixel.
            invalid: (n, width) bool, True at invalid pixels; None where all pixels are valid.
        """
        rows = cell_edges(len(values), CELL_ROWS)
        counts = np.zeros((len(self.pixels), len(rows) - 1, len(self._cols) - 1), np.int64)
        valid = (
            np.outer(np.diff(rows), np.diff(self._cols))
            if invalid is None
            else count_in_cells(~invalid, rows, self._cols)
        )
        for number in range(1, len(counts)):
            found = values == number
            if invalid is not None:
                found &= ~invalid
            counts[number] = count_in_cells(found, rows, self._cols)
        counts[0] = valid - counts[1:].sum(axis=0)
        self.pixels += counts.sum(axis=(1, 2))
        self.invalid += values.size - int(valid.sum())
        areas = pixel_areas(self._crs, self._transform, (rows + row).astype(np.float64), self._cols.astype(np.float64))
        if areas is None or self._areas is None:
            self._areas = None
        else:
            self._areas += (counts * areas).sum(axis=(1, 2))

    def add_fill_values(self, values: NDArray[np.uint8], fill_values: NDArray[np.uint8]) -> None:
        """Add the fill values of rows of a map.

        Args:
            values: (n, width) uint8 class of each pixel.
            fill_values: (n, width) uint8 number of each pixel's fill value, 0 for none.
        """
        step = max(1, _CHUNK // values.shape[1])
        for first in range(0, len(values), step):
            part = np.s_[first : first + step]
            for number in range(1, int(fill_values[part].max()) + 1):
                has = fill_values[part] == number
                on = [np.count_nonzero(has & (values[part] == c)) for c in range(1, len(self.pixels))]
                self.fill_values[number] += [np.count_nonzero(has) - sum(on), *on]

    @property
    def areas(self) -> NDArray[np.float64] | None:
        """Ground area of each class, (classes,) float64, m²; None where the map isn't georeferenced."""
        return self._areas


def undeclared_notices(
    path: str, detector: NodataDetector, counter: ClassCounter, names: Sequence[str]
) -> tuple[str, ...]:
    """Return a notice for each value of a mosaic that is probably undeclared nodata, with its share of each class."""
    lines = []
    for suspect in detector.suspects():
        on = [
            f"{clean_line(name, LONGEST_NAME)} {share_text(part / whole)}"
            for name, part, whole in zip(names, counter.fill_values[suspect.number], counter.pixels, strict=True)
            if part
        ]
        shares = f"; of the map's areas lie on it: {', '.join(on)}" if on else ""
        lines.append(
            f"{path}: all bands are {suspect.value:.9g} in {share_text(suspect.share)} of the pixels, which is "
            f"probably nodata that the file doesn't declare{shares} (declare it with "
            f"--nodata={suspect.value:.9g}; if it is data: --nodata none)"
        )
    return tuple(lines)


def alpha_notices(header: Header, bands: Sequence[int], surveys: Sequence[AlphaSurvey]) -> tuple[str, ...]:
    """Return a notice for each alpha band that decided on validity but holds data."""
    found = zip(alpha_bands(header, bands), surveys, strict=True)
    return tuple(
        f"{header.path}: band {band} is marked as alpha (transparency) but has {survey.values:,} different values, as "
        f"a band of data has; its zeros made pixels invalid (a model for {len(bands) + 1} bands reads it as data with "
        f"--bands {','.join(map(str, (*bands, band)))}; to drop the mark: gdal_edit.py -colorinterp_{band} undefined)"
        for band, survey in found
        if survey.holds_data
    )


@dataclass(frozen=True)
class ClassTotal:
    """Pixels and area of one class in a map.

    Attributes:
        name: Name of the class.
        value: Value of the class in the map.
        pixels: Number of valid pixels.
        area: Ground area, m²; None where the map isn't georeferenced.
    """

    name: str
    value: int
    pixels: int
    area: float | None


def class_table(classes: Sequence[ClassTotal], invalid: int, no_areas: str) -> list[str]:
    """Return a table of pixels and areas by class, as lines.

    Args:
        classes: Totals by class.
        invalid: Number of invalid pixels.
        no_areas: Reason why areas aren't known, where they aren't.
    """
    valid = sum(total.pixels for total in classes)
    names = [clean_line(total.name, LONGEST_NAME) for total in classes]
    wide = max(7, *map(len, names))
    known = all(total.area is not None for total in classes)
    lines = [f"{'class':<{wide}}  value {'pixels':>14} {'share':>7}" + (f" {'m²':>14} {'ha':>11}" if known else "")]
    for name, total in zip(names, classes, strict=True):
        share = 100 * total.pixels / valid if valid else 0.0
        line = f"{name:<{wide}}  {total.value:>5} {total.pixels:>14,} {share:>6.2f}%"
        lines.append(line + (f" {total.area:>14,.1f} {total.area / 1e4:>11,.4f}" if total.area is not None else ""))
    lines.append(f"{'invalid':<{wide}}        {invalid:>14,}")
    if not known:
        lines.append(f"no areas: {no_areas}")
    return lines


@dataclass(frozen=True)
class Summary:
    """Summary of a map and of the run that made it; `str` formats it for the terminal.

    Attributes:
        classes: Totals by class, in the order of their values.
        invalid: Number of invalid pixels.
        height: Height of the map, pixels.
        width: Width of the map, pixels.
        tiles: Number of predicted tiles.
        skipped: Number of tiles without a valid pixel, which are not predicted.
        tile: Side of a tile, pixels.
        seconds: Run time from the call to the finished map, including loading the model.
        backend: Library and version, device and precision.
        model: Name, revision and file of the model.
        paths: Files that were written.
        notices: Notices for the user, a line each.
        no_areas: Reason why areas aren't known, where they aren't.
        lines: Lines about polygons.
    """

    classes: Sequence[ClassTotal]
    invalid: int
    height: int
    width: int
    tiles: int
    skipped: int
    tile: int
    seconds: float
    backend: str
    model: str
    paths: Sequence[str]
    notices: Sequence[str] = field(default_factory=tuple)
    no_areas: str = "the mosaic isn't georeferenced"
    lines: Sequence[str] = field(default_factory=tuple)

    def __str__(self) -> str:
        lines = [*class_table(self.classes, self.invalid, self.no_areas), *self.lines]
        speed = self.height * self.width / 1e6 / self.seconds if self.seconds else 0.0
        lines += [
            f"model: {self.model}",
            f"computed with: {self.backend}; {self.tiles:,} tiles of {self.tile} px, {self.skipped:,} empty tiles "
            "skipped",
            f"took: {self.seconds:.1f} s, {speed:.2f} Mpx/s",
        ]
        return "\n".join(lines + [f"wrote: {path}" for path in self.paths])

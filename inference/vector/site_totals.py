"""Totals of sites: ground areas of classes, what is unmapped, and probabilities, summed while a map is written or read.

A pixel that the outline of a site cuts counts by its covered share. The ground area of a pixel is that of the class
totals of the map, so that a site around the whole map has the same areas as the map.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.areas import CELL_COLS, CELL_ROWS, cell_edges, count_in_cells, pixel_areas, usable_crs
from inference.common.raster import Header
from inference.common.vector_grid import ground_areas
from inference.vector.coverage import Outline
from inference.vector.sites import Sites

_AT_ONCE = 2**22
"""Pixels of a site that are summed at once, which bounds memory."""
# Pixels, or parts of a site's extent: an edge that is straight on the map is a curve on an equal-area projection.
_LONGEST_EDGE, _MOST_PARTS = 16.0, 4096


@dataclass(frozen=True)
class SiteRow:
    """Totals of a site.

    Attributes:
        name: Name of the site.
        date: Date; empty if it isn't known.
        tide: Height of the tide as the file of sites has it; empty if it isn't known.
        species: Dominant species as the file of sites has it; empty if it isn't known.
        area: Ground area within the whole outline, m².
        classes: Ground area mapped as each class, m².
        invalid: Ground area of invalid pixels, m².
        outside: Ground area beyond the map, m².
        probability: Mean probability over the pixels of all classes but the background, weighted by their ground area
            within the site; NaN if there are no such pixels or no probabilities.
        pixels: Number of valid pixels, cut ones by their share.
    """

    name: str
    date: str
    tide: str
    species: str
    area: float
    classes: tuple[float, ...]
    invalid: float
    outside: float
    probability: float
    pixels: float

    @property
    def unmapped(self) -> float:
        """Share of the site that is invalid or beyond the map, 0 to 1; NaN for a site without area."""
        return min(1.0, (self.invalid + self.outside) / self.area) if self.area else float("nan")


class SiteTotals:
    """Totals of sites, fed with the rows of a map.

    Args:
        sites: Sites.
        header: Header of the map, or of another raster on its grid.
        classes: Number of classes.
        background: Class that the mean probability leaves out; None for no class.
    """

    def __init__(self, sites: Sites, header: Header, classes: int, background: int | None = 0) -> None:
        self._sites, self._header, self._background = sites, header, background
        self._crs = usable_crs(header)
        self._cols = cell_edges(header.width, CELL_COLS).astype(np.float64)
        self._outlines = [Outline(geometry) for geometry in sites.geometries]
        bounds = np.array([outline.bounds for outline in self._outlines], np.int64).reshape(-1, 4)
        self._top, self._bottom = bounds[:, [0, 2]].clip(0, header.height).T
        self._left, self._right = bounds[:, [1, 3]].clip(0, header.width).T
        self._areas = np.zeros((len(sites), classes))
        self._invalid, self._pixels = np.zeros(len(sites)), np.zeros(len(sites))
        self._probability = np.zeros(len(sites))
        self._probabilities = False

    def add(
        self,
        row: int,
        values: NDArray[np.uint8],
        invalid: NDArray[np.bool_] | None,
        probability: NDArray[np.float32] | None,
    ) -> None:
        """Add the next rows of the map.

        Args:
            row: First of the rows, a multiple of CELL_ROWS.
            values: (n, width) class of each pixel; n is a multiple of CELL_ROWS, or less at the end.
            invalid: (n, width), True at invalid pixels; None if all pixels are valid.
            probability: (n, width), probability of each pixel's own class; None if it isn't known.
        """
        self._probabilities |= probability is not None
        end = row + len(values)
        meets = np.flatnonzero((self._top < end) & (self._bottom > row) & (self._left < self._right))
        if not len(meets):
            return
        rows = (cell_edges(len(values), CELL_ROWS) + row).astype(np.float64)
        areas = pixel_areas(self._crs, self._header.transform, rows, self._cols)
        if areas is None:
            areas = np.full((len(rows) - 1, len(self._cols) - 1), np.nan)
        for site in meets.tolist():
            step = max(1, _AT_ONCE // int(self._right[site] - self._left[site]) // CELL_ROWS) * CELL_ROWS
            for start in range(row, end, step):
                top, bottom = max(start, int(self._top[site])), min(start + step, end, int(self._bottom[site]))
                if top < bottom:
                    part = slice(top - row, bottom - row), slice(self._left[site], self._right[site])
                    self._add(
                        site,
                        top,
                        values[part],
                        None if invalid is None else invalid[part],
                        None if probability is None else probability[part],
                        areas[(top - row) // CELL_ROWS :],
                    )

    def _add(
        self,
        site: int,
        top: int,
        values: NDArray[np.uint8],
        invalid: NDArray[np.bool_] | None,
        probability: NDArray[np.float32] | None,
        areas: NDArray[np.float64],
    ) -> None:
        """Add a part of the bounding box of a site.

        Args:
            site: Number of the site.
            top: First row.
            values: (n, m) class of each pixel.
            invalid: (n, m), True at invalid pixels; None if all are valid.
            probability: (n, m) probability; None if it isn't known.
            areas: Ground area of a pixel in each cell, the first row of cells being that of `top`.
        """
        left, classes = int(self._left[site]), self._areas.shape[1]
        shares = self._outlines[site].shares(top, left, *values.shape)
        rows, cols = _edges(top, values.shape[0], CELL_ROWS), _edges(left, values.shape[1], CELL_COLS)
        grid = (len(rows) - 1, len(cols) - 1)
        areas = areas[: grid[0], left // CELL_COLS :][:, : grid[1]].ravel()
        # Pixels that are covered as a whole: counted. Class 0 is what no other class has, as in the totals of the map.
        valid = shares.whole if invalid is None else shares.whole & ~invalid
        counts = np.zeros((classes, len(areas)))
        counts[0] = count_in_cells(valid, rows, cols).ravel()
        for number in range(1, classes):
            counts[number] = count_in_cells(valid & (values == number), rows, cols).ravel()
        counts[0] -= counts[1:].sum(axis=0)
        # Pixels that are covered in part: summed.
        cell = np.searchsorted(rows, shares.row, "right") - 1
        cell = cell * grid[1] + np.searchsorted(cols, shares.col, "right") - 1
        value, share = values[shares.row, shares.col].astype(np.intp), shares.share
        value[value >= classes] = 0
        if invalid is not None:
            lost = invalid[shares.row, shares.col]
            gone = np.bincount(cell, np.where(lost, share, 0), len(areas))
            gone += count_in_cells(shares.whole & invalid, rows, cols).ravel()
            self._invalid[site] += gone @ areas
            share = np.where(lost, 0, share)
        counts += np.bincount(value * len(areas) + cell, share, counts.size).reshape(counts.shape)
        self._areas[site] += counts @ areas
        self._pixels[site] += counts.sum()
        if probability is not None:
            inside = valid if self._background is None else valid & (values != self._background)
            chosen = np.where(inside, probability, 0)
            chosen = np.add.reduceat(chosen, rows[:-1], axis=0, dtype=np.float64)
            total = np.add.reduceat(chosen, cols[:-1], axis=1).ravel()
            cut = (share > 0) & (value != self._background)
            weighted = share[cut] * probability[shares.row[cut], shares.col[cut]]
            total += np.bincount(cell[cut], weighted, len(areas))
            self._probability[site] += total @ areas

    def rows(self) -> list[SiteRow]:
        """Return the totals of each site, once the whole map has been added."""
        whole = shapely.box(0, 0, self._header.width, self._header.height)
        areas, outside = (
            ground_areas(_divided(geometries), self._header)
            for geometries in (self._sites.geometries, shapely.difference(self._sites.geometries, whole))
        )
        targets = np.delete(self._areas, [] if self._background is None else [self._background], axis=1).sum(axis=1)
        return [
            SiteRow(
                name=self._sites.names[at],
                date=self._sites.dates[at],
                tide=self._sites.tides[at],
                species=self._sites.species[at],
                area=float(areas[at]),
                classes=tuple(self._areas[at].tolist()),
                invalid=float(self._invalid[at]),
                outside=float(outside[at]),
                probability=float(self._probability[at] / targets[at])
                if self._probabilities and targets[at]
                else float("nan"),
                pixels=float(self._pixels[at]),
            )
            for at in range(len(self._sites))
        ]


def _divided(geometries: NDArray[Any]) -> NDArray[Any]:
    """Return polygons in pixel coordinates with short edges, (n,)."""
    left, top, right, bottom = shapely.bounds(geometries).T
    extent = np.nan_to_num(np.fmax(right - left, bottom - top))
    divided: NDArray[Any] = shapely.segmentize(geometries, np.maximum(_LONGEST_EDGE, extent / _MOST_PARTS))
    return divided


def _edges(first: int, length: int, step: int) -> NDArray[np.int64]:
    """Return the edges of the cells that a window meets along an axis, counted from its first pixel."""
    cells = np.arange(first // step, -(-(first + length) // step) + 1) * step
    return cells.clip(first, first + length) - first

"""Ground areas and lengths of the pixels and outlines of a map, whose polygons are in pixel coordinates."""

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.areas import CELL_COLS, CELL_ROWS, cell_edges, pixel_areas, pixel_sides_at, usable_crs
from inference.common.raster import Header
from inference.vector.runs import Runs


class Ground:
    """Ground areas and lengths of a map.

    Areas of pixels are those of the class totals of a map: within a cell all pixels have the same area.

    Args:
        header: Header of the map, or of another raster on its grid.

    Attributes:
        known: True if the map is placed on the Earth; areas and lengths are NaN where it isn't.
    """

    def __init__(self, header: Header) -> None:
        self._crs, self._transform = usable_crs(header), header.transform
        self._down = (np.arange(0, header.height, CELL_ROWS) + CELL_ROWS / 2).clip(max=header.height)
        self._across = (np.arange(0, header.width, CELL_COLS) + CELL_COLS / 2).clip(max=header.width)
        self._cols = cell_edges(header.width, CELL_COLS)
        self._sides: NDArray[np.float64] | None = None
        self.known = self._find_sides()

    def _find_sides(self) -> bool:
        """Find height and width of the pixels in the middle of each cell, m."""
        if self._crs is None or self._transform.is_identity:
            return False
        row, col = np.meshgrid(self._down, self._across, indexing="ij")
        found = pixel_sides_at(self._crs, self._transform, row.ravel(), col.ravel())
        if found is None:
            return False
        self._sides = found.reshape(2, *row.shape)
        return True

    def of_runs(self, row: int, rows: int) -> Callable[[Runs], NDArray[np.float64]]:
        """Return a function that returns the ground area of runs in some rows, m².

        Args:
            row: First of the rows, a multiple of CELL_ROWS.
            rows: Number of rows.
        """
        down, cols = cell_edges(rows, CELL_ROWS), self._cols
        areas = None
        if self.known:
            areas = pixel_areas(self._crs, self._transform, (down + row).astype(np.float64), cols.astype(np.float64))
        if areas is None:
            return lambda runs: np.full(len(runs), np.nan)
        before = np.zeros((len(down) - 1, len(cols)))  # area of the pixels of a row to the left of each cell
        before[:, 1:] = np.cumsum(areas * np.diff(cols), axis=1)

        def of(runs: Runs) -> NDArray[np.float64]:
            cell = runs.row // CELL_ROWS
            first, last = runs.start // CELL_COLS, (runs.stop - 1) // CELL_COLS
            left = before[cell, first] + (runs.start - cols[first]) * areas[cell, first]
            right = before[cell, last] + (runs.stop - cols[last]) * areas[cell, last]
            within: NDArray[np.float64] = (runs.stop - runs.start) * areas[cell, first]
            return np.where(first == last, within, right - left)

        return of

    def perimeters(self, geometries: NDArray[Any]) -> NDArray[np.float64]:
        """Return the length on the ground of the outlines of polygons, holes included, m, (n,) float64.

        The sides of the pixel in the middle of a cell hold for the whole cell.
        """
        if self._sides is None:
            return np.full(len(geometries), np.nan)
        parts, of_part = shapely.get_parts(geometries, return_index=True)
        rings, of_ring = shapely.get_rings(parts, return_index=True)
        at, ring = shapely.get_coordinates(rings, return_index=True)
        same = ring[1:] == ring[:-1]
        step, middle = np.diff(at, axis=0)[same], ((at[1:] + at[:-1]) / 2)[same]
        row = np.clip(middle[:, 1] // CELL_ROWS, 0, len(self._down) - 1).astype(np.intp)
        col = np.clip(middle[:, 0] // CELL_COLS, 0, len(self._across) - 1).astype(np.intp)
        high, wide = self._sides[:, row, col]
        lengths = np.hypot(step[:, 0] * wide, step[:, 1] * high)
        return np.bincount(of_part[of_ring[ring[1:][same]]], lengths, len(geometries)).astype(np.float64)

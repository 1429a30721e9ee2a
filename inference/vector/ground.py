"""Ground areas and lengths of pixels and polygons of a map."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform as to_crs

from inference.common.areas import CELL_COLS, CELL_ROWS, cell_edges, equal_area, pixel_areas, pixel_sides_at, usable_crs
from inference.common.raster import Header


class Ground:
    """Ground areas and lengths of a map; all are NaN if it isn't georeferenced.

    Areas of pixels are those of the class totals of a map: within a cell all pixels have the same area.

    Args:
        header: Header of the map, or of another raster on its grid.
    """

    def __init__(self, header: Header) -> None:
        self.crs, self._transform = usable_crs(header), header.transform
        self._height, self._width = header.height, header.width
        if header.transform.is_identity:
            self.crs = None
        self._cols = cell_edges(header.width, CELL_COLS)
        self._sides: NDArray[np.float64] | None = None

    @property
    def known(self) -> bool:
        """True if the map is placed on the Earth."""
        return self.crs is not None

    def pixel_areas(self, row: int, rows: int) -> NDArray[np.float64] | None:
        """Return the ground area of the pixels of some rows, m², (rows, width) float64; None if it isn't known.

        Args:
            row: First row, a multiple of CELL_ROWS.
            rows: Number of rows.
        """
        edges = cell_edges(rows, CELL_ROWS)
        areas = pixel_areas(self.crs, self._transform, (edges + row).astype(np.float64), self._cols.astype(np.float64))
        if areas is None:
            return None
        return np.repeat(np.repeat(areas, np.diff(edges), axis=0), np.diff(self._cols), axis=1)

    def areas(self, geometries: NDArray[Any]) -> NDArray[np.float64]:
        """Return the ground area of polygons in pixel coordinates, m², (n,) float64."""
        if not self.known:
            return np.full(len(geometries), np.nan)
        projected = shapely.transform(geometries, self._equal_area)
        areas: NDArray[np.float64] = shapely.area(projected)
        return areas

    def _equal_area(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (column, row) to metres on an equal-area projection, (n, 2)."""
        if not len(at):
            return at
        t = self._transform
        x, y = t.a * at[:, 0] + t.b * at[:, 1] + t.c, t.d * at[:, 0] + t.e * at[:, 1] + t.f
        longitude, latitude = np.array(to_crs(self.crs, "EPSG:4326", x, y))
        # Relative to one place, so that an image across 180 degrees stays in one piece.
        longitude = (longitude - longitude[0] + 180) % 360 - 180
        metres: NDArray[np.float64] = equal_area(longitude, latitude).T
        return metres - metres[0]  # areas are differences of products, which keep more digits near the origin

    def perimeters(self, geometries: NDArray[Any]) -> NDArray[np.float64]:
        """Return the length on the ground of the outlines of polygons in pixel coordinates, m, (n,) float64."""
        if not self.known:
            return np.full(len(geometries), np.nan)
        parts, of_part = shapely.get_parts(geometries, return_index=True)
        rings, of_ring = shapely.get_rings(parts, return_index=True)
        at, ring = shapely.get_coordinates(rings, return_index=True)
        same = ring[1:] == ring[:-1]
        step, middle = np.diff(at, axis=0)[same], ((at[1:] + at[:-1]) / 2)[same]
        high, wide = self._sides_at(middle[:, 1], middle[:, 0])
        lengths = np.hypot(step[:, 0] * wide, step[:, 1] * high)
        return np.bincount(of_part[of_ring[ring[1:][same]]], lengths, len(geometries))

    def _sides_at(self, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return height and width of the pixels at some places, m, (2, n), from those in the middle of each cell."""
        down, across = -(-self._height // CELL_ROWS), -(-self._width // CELL_COLS)
        if self._sides is None:
            row, col = np.meshgrid(
                (np.arange(down) + 0.5) * CELL_ROWS, (np.arange(across) + 0.5) * CELL_COLS, indexing="ij"
            )
            found = pixel_sides_at(self.crs, self._transform, row.ravel(), col.ravel())
            assert found is not None, "a usable CRS has a place for every pixel"
            self._sides = found.reshape(2, down, across)
        cell_row = np.clip(rows // CELL_ROWS, 0, down - 1).astype(np.intp)
        cell_col = np.clip(cols // CELL_COLS, 0, across - 1).astype(np.intp)
        return self._sides[:, cell_row, cell_col]

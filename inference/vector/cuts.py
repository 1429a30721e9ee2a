"""Cuts: areas of masks that are erased from polygons, and areas that polygons are clipped to."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.raster import Header
from inference.common.text import quoted
from inference.common.vector import VectorLayer
from inference.common.vector_grid import near_raster, polygons_of, valid_pixels

GRID = 2.0**-20
"""Grid of the corners that a cut makes, pixels: the common outline of two polygons is cut at one place."""
CELL = 1024
"""Side of the cells that a mask is divided into, pixels."""


class Mask:
    """Area on the grid of a map, divided into cells, so that a polygon is compared with what lies near it.

    Args:
        layer: Polygons of the mask; where they overlap, they count once.
        header: Header of the map.

    Attributes:
        path: File of the mask.
        notices: Lines about what was repaired or left out.

    Raises:
        UserError: They can't be placed on the map, or none lies on it.
    """

    def __init__(self, layer: VectorLayer, header: Header) -> None:
        self.path = layer.path
        if not len(layer.geometries):
            raise UserError(
                f"{layer.path}: layer {quoted(layer.name)} has no polygons (draw them, or leave the file out)"
            )
        placed, self.notices = valid_pixels(near_raster(layer, header), header)
        whole = shapely.box(0, 0, header.width, header.height)
        area = shapely.union_all(polygons_of(shapely.intersection(placed[shapely.intersects(placed, whole)], whole)))
        if not area.area:
            raise UserError(
                f"{layer.path}: none of its polygons lies on {header.path} (check the coordinate reference systems of "
                "both, or leave the file out)"
            )
        self._cells = polygons_of(_divided(area))
        self._cells = self._cells[~shapely.is_empty(self._cells)]
        self._tree = shapely.STRtree(self._cells)

    def near(self, geometries: NDArray[Any]) -> NDArray[Any]:
        """Return the part of the mask near each polygon, (n,); None where there is none."""
        boxes = shapely.box(*shapely.bounds(geometries).T)
        polygon, cell = self._tree.query(boxes, predicate="intersects")
        order = np.lexsort((cell, polygon))
        polygon, cell = polygon[order], cell[order]
        found = np.full(len(geometries), None, object)
        together, starts = np.unique(polygon, return_index=True)
        for number, first, after in zip(together, starts, np.append(starts, len(cell))[1:], strict=True):
            cells = cell[first:after]
            found[number] = self._cells[cells[0]] if len(cells) == 1 else shapely.union_all(self._cells[cells])
        return found

    def erase(self, geometries: NDArray[Any]) -> NDArray[Any]:
        """Return polygons without the mask's area, (n,); empty where nothing is left, the same where nothing is cut."""
        return self._cut(geometries, shapely.difference, covered=shapely.Polygon())

    def clip(self, geometries: NDArray[Any]) -> NDArray[Any]:
        """Return the parts of polygons within the mask's area, (n,); empty where none is, the same where all is."""
        return self._cut(geometries, shapely.intersection, covered=None)

    def _cut(self, geometries: NDArray[Any], overlay: Any, covered: Any) -> NDArray[Any]:
        """Overlay polygons with the mask.

        Args:
            geometries: (n,) polygons.
            overlay: Function of shapely.
            covered: Result for a polygon within the mask; None for the polygon itself.
        """
        erase = covered is not None
        cut = geometries.copy()
        masks = self.near(geometries)
        has = ~shapely.is_missing(masks)
        meets = np.zeros(len(cut), np.bool_)
        meets[has] = shapely.intersects(masks[has], geometries[has])
        inside = np.zeros(len(cut), np.bool_)
        inside[meets] = shapely.covers(masks[meets], geometries[meets])
        edge = np.flatnonzero(meets & ~inside)
        cut[edge] = polygons_of(overlay(geometries[edge], masks[edge], grid_size=GRID))
        if erase:
            cut[inside] = covered
        else:
            cut[~meets] = shapely.Polygon()
        return cut


def _divided(area: Any) -> NDArray[Any]:
    """Divide an area into the cells of a grid; by halves, so that each cut concerns a part of it alone."""
    left, top, right, bottom = shapely.bounds(area)
    if shapely.is_empty(area) or max(right - left, bottom - top) <= CELL:
        return np.array([area], object)
    if right - left >= bottom - top:
        at = CELL * round((left + right) / 2 / CELL)
        halves = [(left, top, at, bottom), (at, top, right, bottom)] if left < at < right else []
    else:
        at = CELL * round((top + bottom) / 2 / CELL)
        halves = [(left, top, right, at), (left, at, right, bottom)] if top < at < bottom else []
    if not halves:
        return np.array([area], object)
    return np.concatenate([_divided(shapely.intersection(area, shapely.box(*half))) for half in halves])

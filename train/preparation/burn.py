"""Burning of polygons into rows of class indices.

A pixel belongs to a polygon if its centre lies inside (or, with `all_touched`, if the polygon touches it). GDAL decides
this row by row, from the edges that cross the row; so rows can be burned in strips, and the result doesn't depend on
their height. The pixels equal those of `rasterio.features.rasterize` over the whole image in its own transform. With
`all_touched` pixels may differ that a polygon touches at a point of their edge only, where GDAL's own rounding decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize

from train.data.prepared import IGNORED

_MANY_POINTS = 500
"""Corners from which a polygon is cut down to the edges that cross a strip, before it is given to GDAL."""
_BESIDE = 2
"""Rows beside a strip that are burned with it where all touched pixels count."""


@dataclass(frozen=True)
class BurnRule:
    """Rule for what polygons become on the pixel grid.

    Attributes:
        order: Classes whose polygons win over those of other classes, the first of them most; classes that aren't named
            lose. Empty to ignore pixels that two classes claim.
        priority: True if `order` decides; False to ignore pixels that two classes claim.
        border: Distance from an outline within which pixels are ignored, as (rows, columns) in pixels; zeros for none.
        all_touched: True to burn all pixels that a polygon touches.
        background: Class of labelled pixels outside all polygons.
    """

    order: tuple[int, ...] = ()
    priority: bool = False
    border: tuple[float, float] = (0.0, 0.0)
    all_touched: bool = False
    background: int = 0


@dataclass
class Burner:
    """Burner of the polygons of one image.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        geometries: (n,) valid polygons in pixel coordinates.
        classes: (n,) class of each, or IGNORED.
        areas: (m,) polygons inside which everything is labelled; None for the whole image.
        rule: Rule.

    Attributes:
        conflicts: Pixels so far that polygons of two classes claim.
    """

    height: int
    width: int
    geometries: NDArray[Any]
    classes: NDArray[np.uint8]
    areas: NDArray[Any] | None = None
    rule: BurnRule = field(default_factory=BurnRule)
    conflicts: int = 0

    def __post_init__(self) -> None:
        self._tree = shapely.STRtree(self.geometries)
        self._borders = shapely.STRtree(self._rings()) if any(self.rule.border) else None
        self._areas = None if self.areas is None else shapely.STRtree(self.areas)

    def rows(self, row: int, count: int) -> NDArray[np.uint8]:
        """Return the labels of some rows, (count, width) uint8; IGNORED where there is no label."""
        labels = np.full((count, self.width), self.rule.background, np.uint8)
        found = self._near(self._tree, row, count)
        classes = self.classes[found]
        claimed = np.zeros(labels.shape, np.bool_)
        conflict = np.zeros(labels.shape, np.bool_)
        for value in self._ascending(classes[classes != IGNORED]):
            inside = self._burn(self.geometries[found[classes == value]], row, count, self.rule.all_touched)
            conflict |= claimed & inside
            claimed |= inside
            labels[inside] = value
        self.conflicts += int(np.count_nonzero(conflict))
        if not self.rule.priority:
            labels[conflict] = IGNORED
        ignored = found[classes == IGNORED]
        if len(ignored):
            labels[self._burn(self.geometries[ignored], row, count, self.rule.all_touched)] = IGNORED
        if self._borders is not None:
            near = self._borders.geometries[self._near(self._borders, row, count)]
            labels[self._burn(near, row, count, False)] = IGNORED
        if self._areas is not None:
            near = self._areas.geometries[self._near(self._areas, row, count)]
            labels[~self._burn(near, row, count, False)] = IGNORED
        return labels

    def _ascending(self, classes: NDArray[np.uint8]) -> list[int]:
        """Return the classes in the order of burning: what wins comes last."""
        order: Sequence[int] = self.rule.order
        rank = {value: len(order) - place for place, value in enumerate(order)}
        return sorted({int(value) for value in classes}, key=lambda value: (rank.get(value, 0), value))

    def _near(self, tree: Any, row: int, count: int) -> NDArray[np.intp]:
        """Return the numbers of the geometries whose bounds touch some rows, in order."""
        found: NDArray[np.intp] = np.sort(tree.query(shapely.box(-1, row - 1, self.width + 1, row + count + 1)))
        return found

    def _rings(self) -> NDArray[Any]:
        """Return the ground within the border distance of the outlines of the polygons."""
        high, wide = self.rule.border
        # Stretched, so that the distance is the same along both axes.
        stretched = shapely.transform(self.geometries, lambda at: at * (high / wide, 1))
        rings = shapely.buffer(shapely.boundary(stretched), high, quad_segs=16)
        return np.asarray(shapely.transform(rings, lambda at: at * (wide / high, 1)))

    def _burn(self, geometries: NDArray[Any], row: int, count: int, all_touched: bool) -> NDArray[np.bool_]:
        """Return True at the pixels of some rows that lie in any of the geometries, (count, width)."""
        if not len(geometries):
            return np.zeros((count, self.width), np.bool_)
        first, last = row, row + count
        if all_touched:
            # GDAL draws lines that touch a row from outside only where the row beyond is a part of the image.
            first, last = max(0, row - _BESIDE), min(self.height, row + count + _BESIDE)
        else:
            geometries = np.array([within_rows(each, row, count) for each in geometries], object)
        # On a horizontal edge GDAL decides by the direction of the ring, so rows count upwards, as northings do.
        burned = rasterize(
            [shapely.transform(each, lambda at: at * (1, -1)) for each in geometries],
            (last - first, self.width),
            transform=Affine(1, 0, 0, 0, -1, -first),
            all_touched=all_touched,
            dtype=np.uint8,
        )
        return np.asarray(burned[row - first : row - first + count], np.uint8).view(np.bool_)


def within_rows(geometry: Any, row: int, count: int) -> Any:
    """Return a polygon with only the edges that cross some rows kept as they are.

    Of successive points above the rows, or below them, the first and the last are kept. Edges that cross the rows keep
    both ends, so that GDAL computes the same crossings as of the whole polygon.
    """
    if shapely.get_num_coordinates(geometry) < _MANY_POINTS:
        return geometry
    polygons = []
    for polygon in shapely.get_parts(geometry):
        rings = [_ring_within_rows(ring, row, count) for ring in shapely.get_rings(polygon)]
        polygons.append(
            shapely.Polygon(rings[0], [ring for ring in rings[1:] if ring is not None]) if rings[0] else None
        )
    kept = [polygon for polygon in polygons if polygon is not None]
    return shapely.MultiPolygon(kept) if kept else geometry


def _ring_within_rows(ring: Any, row: int, count: int) -> Any:
    """Return a ring with only the edges that cross some rows; None if there are none."""
    at = shapely.get_coordinates(ring)[:-1]
    side = np.where(at[:, 1] < row - 1, -1, np.where(at[:, 1] > row + count + 1, 1, 0))
    if (side == side[0]).all() and side[0]:
        return None
    kept = (side == 0) | (side != np.roll(side, 1)) | (side != np.roll(side, -1))
    cut = shapely.linearrings(at[kept]) if np.count_nonzero(kept) > 3 else ring
    # The direction of a ring decides on horizontal edges, and what was left out may turn it.
    return cut if shapely.is_ccw(cut) == shapely.is_ccw(ring) else ring

"""Small polygons that are dropped, and small holes that are filled, while the regions of a map are found.

Holes come first: a hole is filled if nothing is left in it, that is, if it holds only background and polygons that are
too small after their own holes have been filled. A hole with an invalid pixel or another polygon in it stays.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.vector.columns import Columns
from inference.vector.regions import Regions


@dataclass
class Counts:
    """Number and ground area, m², of polygons."""

    number: int = 0
    area: float = 0.0

    def add(self, areas: NDArray[np.float64]) -> None:
        """Count polygons of these areas."""
        self.number += len(areas)
        self.area += float(areas.sum())


@dataclass(frozen=True)
class _Pieces(Columns):
    """Areas in which nothing is left, see `Regions`; in their original state, without filled holes."""

    first: NDArray[np.int64]
    pixels: NDArray[np.int64]
    area: NDArray[np.float64]

    def __add__(self, other: "_Pieces | Regions") -> "_Pieces":
        return _Pieces(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("first", "pixels", "area")))


class SpeckFilter:
    """Filter of the regions of a map, fed in the order of their last rows.

    Args:
        width: Width of the map, pixels.
        min_area: Smallest ground area of a polygon, m².
        fill_holes: Largest ground area of a hole that is filled, m².

    Attributes:
        dropped: Polygons that were too small. In a hole that was filled, their area is that of the polygon around it.
        filled: Holes that were filled.
    """

    def __init__(self, width: int, min_area: float, fill_holes: float) -> None:
        self._width, self._min_area, self._fill_holes = width, min_area, fill_holes
        self._pieces = _Pieces(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        self.dropped, self.filled = Counts(), Counts()

    def filter(self, regions: Regions, background: Regions | None = None, oldest: int = 0) -> Regions:
        """Return the regions that are large enough, with small holes filled.

        Args:
            regions: Regions that have ended.
            background: Regions of background that have ended with them; None to fill no holes.
            oldest: First pixel of the open region that began first.
        """
        if background is not None:
            self._pieces += background[background.area <= self._fill_holes]
            regions = self._filled(regions)
            # What lies in a hole of an open region begins after it.
            self._pieces = self._pieces[self._pieces.first > oldest]
        small = regions.area < self._min_area
        self.dropped.add(regions.area[small])
        return regions[~small]

    def _filled(self, regions: Regions) -> Regions:
        """Fill the small holes of regions, and keep those that are too small as pieces of the holes of others."""
        holes, of_hole, place, pixels = _holes(regions.geometry)
        # The pixels of a region and of its holes are almost of one size.
        near = pixels * (regions.area / regions.pixels)[of_hole] <= 1.01 * self._fill_holes
        holes, of_hole, place, pixels = holes[near], of_hole[near], place[near], pixels[near]
        known, everything = len(self._pieces.first), self._pieces + regions
        # True where nothing is left; of regions with holes this is decided below, inner ones first, as they end first.
        empty = np.ones(len(everything.first), np.bool_)
        empty[known:] = regions.area < self._min_area
        empty[known + of_hole] = False
        start, inside = self._contents(holes, everything)
        geometry, area, count = regions.geometry.copy(), regions.area.copy(), regions.pixels.copy()
        edges = np.append(np.searchsorted(of_hole, np.unique(of_hole)), len(of_hole))
        for first, after in pairwise(edges):
            region, filled, totals = of_hole[first], [], []
            for hole in range(first, after):
                parts = inside[start[hole] : start[hole + 1]]
                parts = parts[empty[parts]]
                total = everything.area[parts].sum()
                if everything.pixels[parts].sum() == pixels[hole] and total <= self._fill_holes:
                    filled.append(hole)
                    totals.append(total)
            if filled:
                geometry[region] = _without(geometry[region], set(place[filled].tolist()))
                area[region] += sum(totals)
                count[region] += pixels[filled].sum()
            empty[known + region] = area[region] < self._min_area
            if not empty[known + region]:
                self.filled.add(np.array(totals))
        self._pieces += regions[area < self._min_area]
        return replace(regions, geometry=geometry, area=area, pixels=count)

    def _contents(self, holes: NDArray[Any], pieces: _Pieces) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find what lies in holes.

        Returns:
            For each hole, the place of its first piece in the result that follows, (holes + 1,); numbers of the pieces.
        """
        row, col = np.divmod(pieces.first, self._width)
        piece, hole = shapely.STRtree(holes).query(shapely.points(col + 0.5, row + 0.5), predicate="within")
        order = np.lexsort((piece, hole))
        return np.searchsorted(hole[order], np.arange(len(holes) + 1)), piece[order]


def _holes(
    geometries: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the holes of polygons.

    Returns:
        The holes as polygons; number of the polygon of each; number of the hole within the polygon; pixels in it.
    """
    parts, of_part = shapely.get_parts(geometries, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    inner = np.zeros(len(rings), np.bool_)
    inner[1:] = of_ring[1:] == of_ring[:-1]  # the first ring of a part is its shell
    holes, of_hole = shapely.polygons(rings[inner]), of_part[of_ring[inner]]
    place = np.arange(len(holes)) - np.searchsorted(of_hole, of_hole)
    return holes, of_hole, place, np.rint(shapely.area(holes)).astype(np.int64)


def _without(geometry: Any, places: set[int]) -> Any:
    """Return a polygon without the holes of some numbers."""
    parts, hole = [], 0
    for part in shapely.get_parts(geometry):
        shell, *rings = shapely.get_rings(part)
        parts.append(shapely.Polygon(shell, [ring for number, ring in enumerate(rings, hole) if number not in places]))
        hole += len(rings)
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)

"""Simplified outlines of polygons that form a coverage: common outlines stay common, and nothing begins to overlap."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.vector_grid import polygons_of
from inference.vector.runs import connected

_AT_ONCE = 1000
"""Polygons that are simplified at once, at least, if there are so many: the time grows faster than their number."""


def simplified(geometries: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Simplify the outlines of polygons of a coverage by the algorithm of Visvalingam and Whyatt.

    A corner goes where its triangle is smaller than the square of the tolerance, unless outlines would then cross
    (GEOS's CoverageSimplifier). Source: Visvalingam and Whyatt, The Cartographic Journal 30 (1), 1993,
    doi:10.1179/000870493786962263.

    Args:
        geometries: Valid coverage, (n,) Polygons and MultiPolygons.
        tolerance: Tolerance, in units of the coordinates.

    Returns:
        (n,) valid Polygons and MultiPolygons, which form a valid coverage.
    """
    drawn = geometries.copy()
    # An outline keeps to the box around its polygon. So polygons can be simplified apart from all others whose boxes
    # they don't meet, directly or through others.
    count, group = _groups(geometries)
    order = np.argsort(group, kind="stable")
    start = 0
    for stop in np.searchsorted(group[order], np.arange(1, count + 1)).tolist():
        if stop - start >= _AT_ONCE or stop == len(order):
            part = order[start:stop]
            drawn[part] = shapely.coverage_simplify(geometries[part], tolerance)
            start = stop
    # Parts of one polygon that met at a corner may overlap each other: their union stays within the same neighbours.
    broken = ~shapely.is_valid(drawn)
    drawn[broken] = polygons_of(shapely.make_valid(drawn[broken], method="structure", keep_collapsed=False))
    return drawn


def bottoms(geometries: NDArray[Any]) -> NDArray[np.float64]:
    """Return the last row that a polygon, and all that must be simplified with it, reach, (n,)."""
    count, group = _groups(geometries)
    last = np.full(count, -np.inf)
    np.maximum.at(last, group, shapely.bounds(geometries)[:, 3])
    return last[group]


def _groups(geometries: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """Return the number of groups of polygons whose boxes meet, directly or through others, and the group of each."""
    boxes = shapely.box(*shapely.bounds(geometries).T)
    return connected(len(geometries), *shapely.STRtree(boxes).query(boxes))

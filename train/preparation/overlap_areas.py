"""Overlap of polygons of different classes, on the ground."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.raster import Header
from inference.common.vector_grid import ground_areas, polygons_of
from train.data.prepared import IGNORED

SLIVER = 0.01
"""Area up to which an overlap of two classes is a rounding of outlines that touch, pixels."""


@dataclass(frozen=True)
class Overlap:
    """Ground that polygons of two classes claim.

    Attributes:
        classes: The two classes, the smaller index first.
        geometry: The ground, in pixel coordinates.
        area: Its area, m²; NaN without georeference.
        pixels: Its area in pixels.
    """

    classes: tuple[int, int]
    geometry: Any
    area: float
    pixels: float


def overlaps(geometries: NDArray[Any], classes: NDArray[np.uint8], header: Header) -> list[Overlap]:
    """Find the overlaps of polygons of different classes; ignored polygons don't count.

    Args:
        geometries: (n,) valid polygons in pixel coordinates.
        classes: (n,) class of each.
        header: Header of the image.

    Returns:
        One overlap for each pair of classes that has any larger than a sliver, in the order of the pairs.
    """
    counted = classes != IGNORED
    geometries, classes = geometries[counted], classes[counted]
    if len(np.unique(classes)) < 2:
        return []
    one, other = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    apart = classes[one] < classes[other]  # each pair once
    one, other = one[apart], other[apart]
    shared = polygons_of(shapely.intersection(geometries[one], geometries[other]))
    real = shapely.area(shared) > 0
    pairs = classes[one[real]].astype(int) * 256 + classes[other[real]]
    found = []
    for pair in np.unique(pairs):
        together = shapely.union_all(shared[real][pairs == pair])
        pixels = float(shapely.area(together))
        if pixels > SLIVER:
            area = float(ground_areas(np.array([together], object), header)[0])
            found.append(Overlap((int(pair) // 256, int(pair) % 256), together, area, pixels))
    return found

"""Polygons of labels: the class of each, repaired, on the pixel grid of an image."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.raster import Header
from inference.common.text import limited, quoted
from inference.common.vector import VectorLayer, value_text
from inference.common.vector_grid import valid_pixels
from train.data.prepared import IGNORED

OTHERS = "*"
"""Key of a class map for all values that have none."""
_SHOWN = 20


@dataclass(frozen=True)
class LabelPolygons:
    """Polygons of labels on the grid of an image.

    Attributes:
        geometries: (n,) valid Polygons and MultiPolygons in pixel coordinates, none empty; all touch the image.
        classes: (n,) uint8 class of each, or IGNORED.
        notices: Lines about what was repaired or left out.
    """

    geometries: NDArray[Any]
    classes: NDArray[np.uint8]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.geometries)


def classes_of(layer: VectorLayer, column: str | None, values: Mapping[str, int]) -> NDArray[np.uint8]:
    """Return the class of each polygon of a layer, (n,) uint8.

    Args:
        layer: Polygons.
        column: Column that holds the class; None if all polygons are of one class.
        values: Class of each value of the column, or IGNORED; `OTHERS` for all other values, and for all polygons if
            there is no column.

    Raises:
        UserError: A value has no class; all such values are listed, with their counts.
    """
    if column is None:
        return np.full(len(layer.geometries), values[OTHERS], np.uint8)
    names = [value_text(value) for value in layer.columns[column]]
    unknown = Counter(name for name in names if name not in values)
    if unknown and OTHERS not in values:
        found = limited((f"{quoted(name)} ({count})" for name, count in unknown.most_common()), _SHOWN, len(unknown))
        raise UserError(
            f"{layer.path}: column {quoted(column)} of layer {quoted(layer.name)} has values that classes.map doesn't "
            f'name: {", ".join(found)} (give each a class or ignore, or all others with "*": ignore)'
        )
    return np.array([values.get(name, values.get(OTHERS, IGNORED)) for name in names], np.uint8)


def label_polygons(layer: VectorLayer, classes: NDArray[np.uint8], header: Header) -> LabelPolygons:
    """Place the polygons of a layer on the grid of an image, and repair them.

    Args:
        layer: Polygons.
        classes: Class of each, (n,).
        header: Header of the image.

    Raises:
        UserError: They can't be placed on the image.
    """
    geometries, notices = valid_pixels(layer, header)
    near = shapely.intersects(geometries, shapely.box(0, 0, header.width, header.height)) & ~shapely.is_empty(
        geometries
    )
    return LabelPolygons(geometries[near], classes[near], tuple(notices))

"""Features of a file of polygons: their outlines and attributes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.palette import MAP_COLOURS, class_colours
from inference.common.qgis_style import Category, raster_style
from inference.common.raster import Header
from inference.vector.columns import Columns

COLUMNS = {
    "id": "number of the feature, from 1",
    "class": "number of the class, its value in the map",
    "name": "name of the class",
    "area_m2": "ground area, m²",
    "perimeter_m": "length of the outline on the ground, holes included, m",
    "pixels": "number of pixels",
    "mean_probability": "mean probability of the class over the pixels",
    "lowest_probability": "lowest probability of the class among the pixels",
    "image": "file name of the mosaic",
    "date": "date of the image, YYYY-MM-DD",
    "model": "name of the model",
    "revision": "revision of the model",
}
"""Columns of a file of polygons, and what they hold; without a value where it isn't known."""


@dataclass(frozen=True)
class MapInfo:
    """Contents of a map that its polygons and tables say.

    Attributes:
        header: Header of the map, or of another raster on its grid.
        names: Name of each class.
        background: Index of the class that is no target; None if all are targets.
        image: File name of the mosaic; empty if it isn't known, as all that follows.
        date: Date of the image, YYYY-MM-DD.
        model: Name of the model.
        revision: Revision of the model.
        values: Value of each class in the map, ascending; None for 0, 1, ...
    """

    header: Header
    names: Sequence[str]
    background: int | None
    image: str = ""
    date: str = ""
    model: str = ""
    revision: str = ""
    values: Sequence[int] | None = None

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Value of each class in the map, (classes,) int64."""
        return np.arange(len(self.names)) if self.values is None else np.array(self.values, np.int64)

    def categories(self, classes: Sequence[int]) -> list[Category]:
        """Return the names and colours of classes for a style of QGIS; background, if asked for, is grey."""
        colours = class_colours(len(self.names), self.background, MAP_COLOURS)
        return [
            Category(self.names[at], self.names[at], colours.get(at, "#808080"), number=int(self.numbers[at]))
            for at in classes
        ]

    @property
    def targets(self) -> list[int]:
        """Indices of the classes but the background."""
        return [at for at in range(len(self.names)) if at != self.background]

    def raster_style(self) -> str:
        """Return the style of QGIS of the map."""
        return raster_style(self.categories(self.targets))


@dataclass(frozen=True)
class Features(Columns):
    """Polygons of a map with their attributes, see `COLUMNS`.

    Attributes:
        geometry: Outlines in pixel coordinates, (n,) of shapely geometries.
        value: Index of the class, (n,) uint8.
        area: Ground area, m², (n,) float64; NaN if it isn't known, as in what follows.
        perimeter: Length of the outline on the ground, m, (n,) float64.
        pixels: Number of pixels, (n,) int64.
        probability: Mean probability, (n,) float64.
        lowest: Lowest probability, (n,) float64.
    """

    geometry: NDArray[Any]
    value: NDArray[np.uint8]
    area: NDArray[np.float64]
    perimeter: NDArray[np.float64]
    pixels: NDArray[np.int64]
    probability: NDArray[np.float64]
    lowest: NDArray[np.float64]

    def dissolved(self) -> "Features":
        """Return one feature a class, in the order of the classes.

        Polygons of one class meet at corners at most, so that together they are a valid geometry of several parts.
        """
        found = []
        for value in np.unique(self.value):
            own = self[self.value == value]
            found.append(
                Features(
                    np.array([shapely.multipolygons(shapely.get_parts(own.geometry))], object),
                    own.value[:1],
                    own.area.sum(keepdims=True),
                    own.perimeter.sum(keepdims=True),
                    own.pixels.sum(keepdims=True),
                    np.array([np.average(own.probability, weights=np.maximum(own.pixels, 1))]),
                    own.lowest.min(keepdims=True),
                )
            )
        return Features.joined(found) if found else self

    def in_crs(self, header: Header) -> NDArray[Any]:
        """Return the outlines in the CRS of a raster on whose grid they are, (n,)."""
        t = header.transform

        def place(at: NDArray[np.float64]) -> NDArray[np.float64]:
            col, row = at[:, 0], at[:, 1]
            return np.column_stack([t.c + t.a * col + t.b * row, t.f + t.d * col + t.e * row])

        placed: NDArray[Any] = shapely.transform(self.geometry, place)
        return placed

    def columns(self, info: MapInfo, first: int) -> dict[str, NDArray[Any]]:
        """Return the values of the columns, (n,) each, masked where they aren't known.

        Args:
            info: Contents of the map.
            first: Number of the first feature.
        """
        names = np.array(info.names, object)

        def text(value: str) -> NDArray[Any]:
            return np.full(len(self), value or None, object)

        return {
            "id": np.arange(first, first + len(self)),
            "class": info.numbers[self.value].astype(np.int32),
            "name": names[self.value],
            "area_m2": np.ma.masked_invalid(self.area),
            "perimeter_m": np.ma.masked_invalid(self.perimeter),
            "pixels": self.pixels,
            "mean_probability": np.ma.masked_invalid(self.probability),
            "lowest_probability": np.ma.masked_invalid(self.lowest),
            "image": text(info.image),
            "date": text(info.date),
            "model": text(info.model),
            "revision": text(info.revision),
        }

"""Labels of each image, as rows to be burned: from polygons, a label raster, areas, or nothing but background."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from inference.common.areas import pixel_sides
from inference.common.errors import UserError
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster
from inference.common.text import quoted
from inference.common.vector import VectorLayer, read_layer
from train.data.prepared import IGNORED
from train.preparation.burn import Burner, BurnRule
from train.preparation.config import PrepareConfig, distance
from train.preparation.label_rasters import LabelRaster
from train.preparation.overlap_areas import Overlap, overlaps
from train.preparation.polygons import OTHERS, LabelPolygons, classes_of, label_polygons
from train.preparation.sources import SourceFiles

Rows = Callable[[int, int], NDArray[np.uint8]]
"""Returns the labels of some rows, (count, width) uint8, from the first row and the number of rows."""
Read = TypeVar("Read", VectorLayer, NDArray[np.uint8])
_RASTERS = {".tif", ".tiff", ".vrt", ".img", ".png", ".jp2"}
_VECTORS = {".gpkg", ".shp", ".geojson", ".json", ".fgb", ".kml", ".gml", ".zip", ".shz", ".parquet", ".sqlite", ".gdb"}
_WHOLE = re.compile(r"-?[0-9]+")
_BESIDE = 0.05
"""Share of an image's extent beside it in which polygons are placed on it, too."""


@dataclass
class ImageLabels:
    """Labels of an image.

    Attributes:
        source: Image and its files.
        polygons: Polygons on the image; None for a label raster.
        raster: Label raster; None for polygons.
        areas: (m,) polygons in pixel coordinates inside which everything was labelled; None for the whole image.
        rule: Rule for burning.
        overlaps: Ground that polygons of two classes claim.
        column_areas: (n,) polygons in pixel coordinates that carry a value of `split.column`.
        column_values: Value of each of them.
        notices: Lines about what was repaired or left out.
        label_layer: Layer that the polygons are from; None for a label raster.
        area_layer: Layer that the areas are from; None for the whole image.
    """

    source: SourceFiles
    polygons: LabelPolygons | None
    raster: Path | str | None
    areas: NDArray[Any] | None
    rule: BurnRule
    overlaps: list[Overlap]
    column_areas: NDArray[Any]
    column_values: tuple[str, ...]
    notices: tuple[str, ...]
    label_layer: VectorLayer | None = None
    area_layer: VectorLayer | None = None

    def polygon_counts(self) -> dict[int, int]:
        """Return the number of polygons of each class, IGNORED included; empty for a label raster."""
        return {} if self.polygons is None else dict(sorted(Counter(self.polygons.classes.tolist()).items()))

    def placed(self, what: str) -> tuple[VectorLayer | None, NDArray[Any]]:
        """Return the layer of the polygons or areas of this image, and those that touch the image."""
        none = np.zeros(0, object)
        if what == "area":
            return self.area_layer, none if self.areas is None else self.areas
        return self.label_layer, none if self.polygons is None else self.polygons.geometries

    @contextmanager
    def burning(self, values: Mapping[str, int], classes: int) -> Iterator[tuple[Rows, Callable[[], None]]]:
        """Yield a function that returns rows of labels, and one that checks them after the last row.

        Args:
            values: Class of each value of a label raster, or IGNORED; empty if the values are the class indices.
            classes: Number of classes.
        """
        image = self.source.image
        none = np.zeros(0, object), np.zeros(0, np.uint8)
        polygons = none if self.polygons is None else (self.polygons.geometries, self.polygons.classes)
        burner = Burner(image.height, image.width, *polygons, self.areas, self.rule, image.transform.determinant < 0)
        if self.raster is None:
            yield burner.rows, lambda: None
            return
        numbers = {int(value): index for value, index in values.items() if _WHOLE.fullmatch(value)}
        if values and not numbers:
            raise UserError(
                f"{self.raster}: is a label raster, and classes.map has no whole numbers (name its values there, "
                "such as 1: 1)"
            )
        with LabelRaster(self.raster, image, numbers, classes, values.get(OTHERS)) as raster:

            def rows(row: int, count: int) -> NDArray[np.uint8]:
                labels = raster.rows(row, count)
                if self.areas is not None:
                    labels[burner.rows(row, count) == IGNORED] = IGNORED
                return labels

            yield rows, raster.check


class Layers:
    """Layers of vector files, each read once, with the class of each polygon.

    Attributes:
        notices: Lines about features that were left out.
    """

    def __init__(self) -> None:
        self.notices: list[str] = []
        self._read: dict[tuple[str, str | None, tuple[str, ...]], VectorLayer | UserError] = {}
        self._classes: dict[int, NDArray[np.uint8] | UserError] = {}

    def read(self, path: Path | str, layer: str | None, columns: Sequence[str], option: str) -> VectorLayer:
        """Read the polygons of a layer; the arguments are those of `read_layer`."""
        key = str(path), layer, tuple(columns)
        if key not in self._read:
            try:
                found = self._read[key] = read_layer(path, layer, columns, option)
            except UserError as error:
                self._read[key] = error
                raise
            if found.nulls or found.empties:
                self.notices.append(
                    f"{path}: layer {quoted(found.name)}: {found.nulls} features have no geometry and {found.empties} "
                    "an empty one; they are left out"
                )
        return _result(self._read[key])

    def classes(self, layer: VectorLayer, column: str | None, values: Mapping[str, int]) -> NDArray[np.uint8]:
        """Return the class of each polygon of a layer; the arguments are those of `classes_of`."""
        if id(layer) not in self._classes:
            try:
                self._classes[id(layer)] = classes_of(layer, column, values)
            except UserError as error:
                self._classes[id(layer)] = error
        return _result(self._classes[id(layer)])


def _result(found: Read | UserError) -> Read:
    if isinstance(found, UserError):
        raise found
    return found


def is_raster(path: Path | str) -> bool:
    """Return True if a file of labels is a raster, by its suffix or else by trying to open it."""
    suffix = Path(path).suffix.lower()
    if suffix in _RASTERS or suffix in _VECTORS:
        return suffix in _RASTERS
    try:
        with environment(), open_raster(path) as file:
            return bool(file.count)
    except GDAL_ERRORS:
        return False


def read_labels(source: SourceFiles, config: PrepareConfig, layers: Layers) -> ImageLabels:
    """Read the labels and areas of an image.

    Raises:
        UserError: They can't be read or placed on the image, or a value has no class.
    """
    header = source.image
    raster = source.labels if source.labels is not None and is_raster(source.labels) else None
    polygons = None
    notices: list[str] = []
    column = config.split.column
    label_layer: VectorLayer | None = None
    area_layer: VectorLayer | None = None
    if source.labels is not None and raster is None:
        columns = [config.classes.column] if config.classes.column is not None else []
        if column is not None and source.areas is None and column not in columns:
            columns.append(column)
        label_layer = layers.read(source.labels, source.layer, columns, "layer in its source")
        classes = layers.classes(label_layer, config.classes.column, _values(config, source))
        near = _near(label_layer, header)
        polygons = label_polygons(_part(label_layer, near), classes[near], header)
        notices += polygons.notices
    elif source.labels is None:
        polygons = LabelPolygons(np.zeros(0, object), np.zeros(0, np.uint8))
    areas = None
    if source.areas is not None:
        columns = [] if column is None else [column]
        area_layer = layers.read(source.areas, source.areas_layer, columns, "areas_layer in its source")
        near = _near(area_layer, header)
        placed = label_polygons(_part(area_layer, near), np.zeros(int(near.sum()), np.uint8), header)
        notices += placed.notices
        areas = placed.geometries
    return ImageLabels(
        source,
        polygons,
        raster,
        areas,
        _rule(config, header),
        [] if polygons is None else overlaps(polygons.geometries, polygons.classes, header),
        *_column(label_layer if area_layer is None else area_layer, column, header),
        tuple(notices),
        label_layer,
        area_layer,
    )


def _values(config: PrepareConfig, source: SourceFiles) -> dict[str, int]:
    """Return the class of each value of polygons.

    Raises:
        UserError: The config doesn't say of which class polygons are.
    """
    if config.classes.column is not None:
        return config.values
    if config.classes.map is None and len(config.class_names) == 2:
        return {OTHERS: 1}
    raise UserError(
        f"{source.labels}: are polygons, and the config doesn't say which column holds their class (give "
        "classes.column; or, for a single class, classes: {name: kelp})"
    )


def _rule(config: PrepareConfig, header: Header) -> BurnRule:
    border = distance(config.border_ignore)
    sides: tuple[float, float] | None = (1.0, 1.0)
    if border.unit == "m" and border.value:
        sides = pixel_sides(header.crs, header.transform, header.height, header.width)
        if sides is None:
            raise UserError(
                f"border_ignore: {border} can't be measured in {header.path}, which isn't georeferenced (give it in "
                "pixels, such as 2 px)"
            )
    assert sides is not None
    return BurnRule(
        order=tuple(config.priority),
        priority=bool(config.priority),
        border=(border.value / sides[0], border.value / sides[1]),
        all_touched=config.all_touched,
    )


def _near(layer: VectorLayer, header: Header) -> NDArray[np.bool_]:
    """Find the polygons of a layer that may touch an image, (n,): placing those of a survey on each takes long."""
    every = np.ones(len(layer.geometries), np.bool_)
    if header.crs is None or header.transform.is_identity or not len(layer.geometries):
        return every
    try:
        west, south, east, north = transform_bounds(header.crs, layer.crs, *bounds_of(header))
    except (*GDAL_ERRORS, ValueError):
        return every
    if not np.isfinite([west, south, east, north]).all() or west >= east or south >= north:
        return every  # across 180 degrees, or a pole
    wide, high = _BESIDE * (east - west), _BESIDE * (north - south)
    bounds = shapely.bounds(layer.geometries)
    near = (bounds[:, 0] <= east + wide) & (bounds[:, 2] >= west - wide)
    return np.asarray(near & (bounds[:, 1] <= north + high) & (bounds[:, 3] >= south - high))


def bounds_of(header: Header) -> tuple[float, float, float, float]:
    """Return west, south, east and north of an image in its CRS."""
    corners = [header.transform @ (col, row) for col in (0, header.width) for row in (0, header.height)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _part(layer: VectorLayer, kept: NDArray[np.bool_]) -> VectorLayer:
    """Return some polygons of a layer."""
    columns = {name: values[kept] for name, values in layer.columns.items()}
    return VectorLayer(layer.path, layer.name, layer.geometries[kept], columns, layer.crs)


def _column(layer: VectorLayer | None, column: str | None, header: Header) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the polygons that carry values of a column, in pixel coordinates, and the values."""
    if layer is None or column is None:
        return np.zeros(0, object), ()
    near = _part(layer, _near(layer, header))
    values = np.array(["" if value is None or value != value else str(value) for value in near.columns[column]], object)
    geometries, found = [np.zeros(0, object)], list[str]()
    for value in sorted(set(values) - {""}):
        part = _part(near, np.asarray(values == value))
        placed = label_polygons(part, np.zeros(len(part.geometries), np.uint8), header)
        geometries.append(placed.geometries)
        found += [value] * len(placed)
    return np.concatenate(geometries), tuple(found)

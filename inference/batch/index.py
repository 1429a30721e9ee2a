"""Index of a batch as a GeoPackage: the footprint of each image with its state and its areas, styled for QGIS."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.warp import transform as to_crs

from inference.batch.entries import Entry
from inference.batch.journal import DONE, FAILED, SKIPPED, STARTED
from inference.common.geopackage import finish, write_layer
from inference.common.palette import GREEN, ORANGE, SKY, VERMILION
from inference.common.qgis_style import Category, polygon_style
from inference.common.raster import GDAL_ERRORS
from inference.output.staged import StagedFile

LAYER = "images"
"""Name of the layer."""
_COLOURS = {DONE: GREEN, FAILED: VERMILION, SKIPPED: SKY, STARTED: ORANGE}
_COMPANIONS = ("-wal", "-shm", "-journal")
_POINTS = 9  # on each side of a footprint, which is no straight line in degrees
_CRS = "EPSG:4326"


def write_index(path: Path, entries: Sequence[Entry], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write the index, in longitude and latitude; images whose place isn't known have no footprint.

    Args:
        path: The file, which is replaced.
        entries: Images.
        columns: Values of each column, one an image.

    Raises:
        UserError: It can't be written.
    """
    geometries = np.full(len(entries), None, object)
    geometries[:] = [footprint(each) for each in entries]
    file = StagedFile(path, True, [path.name + ending for ending in _COMPANIONS])
    try:
        with file.failing():
            filled = {name: [_stored(value) for value in values] for name, values in columns.items()}
            write_layer(file.file, LAYER, geometries, filled, _CRS)
            categories = [Category(state, state, colour) for state, colour in _COLOURS.items()]
            finish(file.file, {LAYER: polygon_style("state", categories)})
        file.complete()
        file.publish()
    except BaseException:
        file.discard()
        raise


def footprint(image: Entry) -> Any:
    """Return the outline of an image in longitude and latitude, degrees; None where its place isn't known."""
    if image.transform is None or not image.crs or not image.width or not image.height:
        return None
    across, down = np.linspace(0, image.width, _POINTS), np.linspace(0, image.height, _POINTS)
    cols = np.concatenate([across, np.full(_POINTS, image.width), across[::-1], np.zeros(_POINTS)])
    rows = np.concatenate([np.zeros(_POINTS), down, np.full(_POINTS, image.height), down[::-1]])
    t = image.transform
    x, y = t.c + t.a * cols + t.b * rows, t.f + t.d * cols + t.e * rows
    try:
        longitude, latitude = to_crs(image.crs, _CRS, x, y)
    except (*GDAL_ERRORS, ValueError):
        return None
    corners = np.column_stack([longitude, latitude])
    return shapely.polygons(corners) if np.isfinite(corners).all() else None


def _stored(value: Any) -> Any:
    """Return a value as a column holds it: no value for empty text, and text that can be encoded."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode() or None
    return value

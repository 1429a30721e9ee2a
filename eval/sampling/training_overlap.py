"""Overlap of a sample with polygons that a model was trained on, which would make it look better than it is."""

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as to_crs

from eval.sampling.record import SampleRecord
from inference.common.errors import UserError, first_line
from inference.common.raster import GDAL_ERRORS
from inference.common.text import limited
from inference.common.vector import Table, read_tables
from train.data.prepared import BLOCKS_TABLE

_SHOWN = 10
_UNUSED_SPLIT = "test"


def overlap_notice(record: SampleRecord, path: str) -> list[str]:
    """Return a line about the points that lie where a model was trained; none if no point does.

    Args:
        record: The sample.
        path: `dataset.gpkg` of a prepared data set, of which the selected blocks of the train and val splits count, or
            another vector file, of which all polygons count.

    Raises:
        UserError: The file can't be read or has no polygons.
    """
    option = "--training-data"
    tables = read_tables(Path(path) if "://" not in path else path)
    layers = {name: table for name, table in tables.items() if table.geometries is not None}
    layer = layers.get(BLOCKS_TABLE) or next(iter(layers.values()), None)
    if layer is None or layer.geometries is None:
        raise UserError(f"{option}: {path} has no layer with polygons (allowed: dataset.gpkg of train.prepare)")
    if layer.crs is None:
        raise UserError(f"{option}: {path} has no coordinate reference system (give dataset.gpkg of train.prepare)")
    used = layer.geometries[_trained_on(layer)]
    used = used[~(shapely.is_missing(used) | shapely.is_empty(used))]
    design, drawn = record.design, record.drawn
    top, left, bottom, right = design.corners(drawn.row, drawn.col)
    x, y = design.affine @ ((left + right) / 2, (top + bottom) / 2)
    try:
        at = np.array(to_crs(CRS.from_wkt(design.crs), CRS.from_user_input(layer.crs), x, y))
    except (*GDAL_ERRORS, CRSError, ValueError) as error:
        raise UserError(f"{option}: {path}: its CRS can't be used: {first_line(error)} (choose another file)") from None
    inside, _ = shapely.STRtree(used).query(shapely.points(at.T), predicate="intersects")
    numbers = np.unique(record.ids[inside]).tolist()
    if not numbers:
        return []
    return [
        f"{len(numbers)} of {len(drawn)} points lie in polygons of {path} that the model was trained on, where it is "
        "better than elsewhere: the accuracies are too high, and the areas are right only for a map that includes such "
        f"ground: points {', '.join(limited(map(str, numbers), _SHOWN, len(numbers)))}"
    ]


def _trained_on(layer: Table) -> NDArray[np.bool_]:
    """Return True for features that training used: selected blocks of all splits but the test split, if it has such."""
    assert layer.geometries is not None
    used = np.ones(len(layer.geometries), np.bool_)
    if "split" in layer.columns:
        used &= layer.columns["split"].astype(str) != _UNUSED_SPLIT
    if "selected" in layer.columns:
        selected: Any = layer.columns["selected"]
        used &= np.array([bool(value) for value in selected], np.bool_)
    return used

"""Files of sites, and maps for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS

from inference.common.raster import Header
from inference.vector.sites import Sites

NORTH_UP = Affine(0.1, 0, 562_000, 0, -0.1, 5_722_000)


def map_header(height: int, width: int, transform: Affine = NORTH_UP, crs: str | None = "EPSG:32609") -> Header:
    """Return the header of a map."""
    placed = None if crs is None else CRS.from_user_input(crs)
    return Header("map.tif", height, width, (512, 512), 1, "uint8", (None,), (), False, placed, transform)


def on_ground(geometries: Any, transform: Affine = NORTH_UP) -> NDArray[Any]:
    """Return polygons in pixel coordinates as polygons in the CRS of a map."""
    placed: NDArray[Any] = shapely.transform(
        np.array(geometries, object), lambda at: np.column_stack(transform @ (at[:, 0], at[:, 1]))
    )
    return placed


def write_sites(path: Path, geometries: Any, crs: str = "EPSG:32609", **columns: Any) -> Path:
    """Write polygons in a CRS to a vector file."""
    masks = [np.array([value is None for value in values], np.bool_) for values in columns.values()]
    values = [
        np.array(values, object if any(isinstance(value, str) for value in values) else None)
        for values in columns.values()
    ]
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(geometries, object)),
        field_data=values,
        field_mask=[None if data.dtype == object else mask for data, mask in zip(values, masks, strict=True)],
        fields=list(columns),
        geometry_type="Unknown",
        crs=crs,
    )
    return path


def sites_of(*geometries: Any, names: Any = None, dates: Any = None, tides: Any = None, species: Any = None) -> Sites:
    """Return sites in pixel coordinates."""
    empty = ("",) * len(geometries)
    return Sites(
        "sites.gpkg",
        tuple(names or map(str, range(len(geometries)))),
        tuple(dates or empty),
        tuple(tides or empty),
        tuple(species or empty),
        np.array([*geometries, None], object)[:-1],
    )

"""Tiny surveys for tests of a preparation: mosaics, and polygons on them."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from rasterio import Affine
from rasterio.warp import transform as to_crs

from tests.conftest import write_raster

CRS = "EPSG:32609"
ORIGIN = (5e5, 5.8e6)
PIXEL = 0.1
"""Metres."""


def write_mosaic(
    path: Path, size: tuple[int, int] = (120, 160), at: tuple[float, float] = (0.0, 0.0), **profile: Any
) -> Path:
    """Write a mosaic of three bands whose upper left corner lies `at` metres east and south of ORIGIN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(len(path.stem)).integers(1, 255, (3, *size)).astype(np.uint8)
    east, north = ORIGIN[0] + at[0], ORIGIN[1] - at[1]
    return write_raster(path, image, origin=(east, north), **profile)


def ground(row: float, col: float, height: float, width: float, at: tuple[float, float] = (0.0, 0.0)) -> Any:
    """Return the rectangle of pixels of a mosaic in CRS."""
    transform = Affine(PIXEL, 0, ORIGIN[0] + at[0], 0, -PIXEL, ORIGIN[1] - at[1])
    corners = [(col, row), (col + width, row), (col + width, row + height), (col, row + height)]
    return shapely.Polygon([transform @ corner for corner in corners])


def write_polygons(
    path: Path,
    shapes: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
    crs: str | None = CRS,
    layer: str | None = None,
    **options: Any,
) -> Path:
    """Write polygons, which are given in CRS, in a CRS of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def moved(points: np.ndarray) -> np.ndarray:
        return np.column_stack(to_crs(CRS, crs, *points.T))

    placed = (
        list(shapes) if crs in {CRS, None} else [None if s is None else shapely.transform(s, moved) for s in shapes]
    )
    columns = columns or {"label": ["kelp"] * len(placed)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some tests are about files without a CRS
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(placed),
            field_data=[np.array(list(values), object) for values in columns.values()],
            fields=list(columns),
            geometry_type="Unknown",
            crs=crs,
            layer=layer,
            append=path.exists(),
            **options,
        )
    return path

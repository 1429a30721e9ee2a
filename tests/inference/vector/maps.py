"""Small maps of classes for the tests of polygons."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from scipy.ndimage import gaussian_filter

UTM = Affine(0.1, 0, 500_000, 0, -0.1, 5_700_000)
"""Transform of 10 cm pixels, in EPSG:32609."""


def write_map(
    path: Path,
    values: NDArray[Any],
    crs: str | None = "EPSG:32609",
    transform: Affine = UTM,
    tags: dict[str, str] | None = None,
    **profile: Any,
) -> Path:
    """Write an array, (H, W) or (bands, H, W), as a GeoTIFF."""
    bands = values[None] if values.ndim == 2 else values
    profile = {"driver": "GTiff", "dtype": bands.dtype, "crs": crs, "transform": transform, **profile}
    with rasterio.open(path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], **profile) as dst:
        dst.write(bands)
        dst.update_tags(**(tags or {}))
    return path


def patches(height: int, width: int, classes: int, seed: int, smooth: float = 1.5) -> NDArray[np.uint8]:
    """Draw a map of patches of all classes, (height, width)."""
    noise = gaussian_filter(np.random.default_rng(seed).random((height, width)), smooth)
    edges = np.quantile(noise, np.arange(1, classes) / classes)
    values: NDArray[np.uint8] = np.digitize(noise, edges).astype(np.uint8)
    return values


def write_polygons(
    path: Path, shapes: list[Any], transform: Affine | None = UTM, crs: str = "EPSG:32609", **columns: Any
) -> Path:
    """Write polygons, in pixel coordinates of a map or, without a transform, in the CRS."""
    if transform is not None:
        t = transform
        shapes = [
            shapely.transform(
                s,
                lambda at: np.column_stack(
                    [t.a * at[:, 0] + t.b * at[:, 1] + t.c, t.d * at[:, 0] + t.e * at[:, 1] + t.f]
                ),
            )
            for s in shapes
        ]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs).to_file(path)
    return path


def read_polygons(path: Path) -> Any:
    """Read a file of polygons as a GeoDataFrame."""
    return geopandas.read_file(path, layer=pyogrio.list_layers(path)[0][0])

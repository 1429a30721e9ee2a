"""Ground areas of pixels in any coordinate reference system (CRS).

A projection's square metres are not the ground's: EPSG:3857 overstates areas 2.4 times at 50 degrees north, and
EPSG:4326 has no metres at all. Corners are therefore taken to longitude and latitude, and from there to the Lambert
cylindrical equal-area projection of the WGS84 ellipsoid, on which the area of a polygon is the ground's.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform as to_crs

from inference.common.raster import GDAL_ERRORS

SEMI_MAJOR = 6378137.0
"""Semi-major axis of WGS84, metres."""
_ECCENTRICITY = math.sqrt(2 / 298.257223563 - 298.257223563**-2)
_LARGEST = {True: 10.0, False: 1e6}  # degrees, metres: largest side of a quadrilateral
_SQUARE = 100  # pixels: the area of a single pixel of a centimetre is lost in the rounding


def equal_area(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project degrees to the Lambert cylindrical equal-area projection of WGS84: (2, ...), metres.

    Source: Snyder, Map Projections: A Working Manual, USGS Professional Paper 1395, 1987, equations 10-14, 10-15 and
    3-12.
    """
    e, sine = _ECCENTRICITY, np.sin(np.radians(latitude))
    q = (1 - e**2) * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
    return np.stack([SEMI_MAJOR * np.radians(longitude), SEMI_MAJOR * q / 2])


def pixel_areas(
    crs: Any, transform: Any, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the mean ground area of a pixel in each cell of a grid over an image, m².

    Args:
        crs: The image's CRS; None if it has none.
        transform: From (column, row) to the CRS.
        rows: Edges of the cells in rows of pixels, (n + 1,), ascending.
        cols: Edges in columns, (m + 1,), ascending.

    Returns:
        (n, m) float64; None if the CRS can't be placed on the Earth.
    """
    if crs is None or transform.is_identity:
        return None
    step = max(abs(transform.a), abs(transform.b), abs(transform.d), abs(transform.e))
    largest = step * max(np.diff(rows).max(), np.diff(cols).max())
    # A cell as wide as the Earth has no width, its two sides being one meridian; so large ones are taken by parts.
    parts = max(1, math.ceil(largest / _LARGEST[bool(crs.is_geographic)]))
    cells = _cells(crs, transform, _divided(rows, parts), _divided(cols, parts))
    if cells is None:
        return None
    together = cells.reshape(len(rows) - 1, parts, len(cols) - 1, parts).sum(axis=(1, 3))
    pixels: NDArray[np.float64] = np.outer(np.diff(rows), np.diff(cols))
    mean: NDArray[np.float64] = together / pixels
    return mean


def _divided(edges: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """Divide each interval between edges into `parts`."""
    at = np.arange((len(edges) - 1) * parts + 1) / parts
    return np.interp(at, np.arange(len(edges)), edges)


def _cells(
    crs: Any, transform: Any, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the ground area of each cell, m²; see `pixel_areas`."""
    col, row = (places.ravel() for places in np.meshgrid(cols, rows))
    x = transform.a * col + transform.b * row + transform.c
    y = transform.d * col + transform.e * row + transform.f
    try:
        longitude, latitude = to_crs(crs, "EPSG:4326", x, y)
    except (*GDAL_ERRORS, ValueError):  # an engineering CRS, or one that PROJ doesn't know
        return None
    corners = np.array([longitude, latitude]).reshape(2, len(rows), len(cols))
    if not np.isfinite(corners).all():
        return None
    # Longitudes jump at the antimeridian; within an image they are continuous.
    corners[0] = np.unwrap(np.unwrap(corners[0], axis=1, period=360), axis=0, period=360)
    x, y = equal_area(*corners)
    # The shoelace formula for a quadrilateral: half the cross product of its diagonals.
    down_x, down_y = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    up_x, up_y = x[:-1, 1:] - x[1:, :-1], y[:-1, 1:] - y[1:, :-1]
    cells: NDArray[np.float64] = np.abs(down_x * up_y - down_y * up_x) / 2
    return cells


def ground_sample_distance(crs: Any, transform: Any, height: int, width: int) -> float | None:
    """Return the side of a square with the ground area of a pixel in the image's middle, metres.

    None if the image is not georeferenced. A projection's metres are not the ground's: EPSG:3857 overstates lengths 1.6
    times at 52 degrees north.
    """
    rows, cols = (np.array([length / 2, length / 2 + _SQUARE]) for length in (height, width))
    area = pixel_areas(crs, transform, rows, cols)
    return None if area is None or not area[0, 0] else math.sqrt(area[0, 0])

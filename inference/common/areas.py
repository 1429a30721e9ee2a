"""Ground areas of pixels in any coordinate reference system (CRS).

A projection's square metres are not the ground's: EPSG:3857 overstates areas 2.4 times at 50 degrees north, and
EPSG:4326 has no metres at all. Corners are therefore taken to longitude and latitude, and from there to the Lambert
cylindrical equal-area projection of the WGS84 ellipsoid, on which the area of a polygon is the ground's.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform as to_crs

from inference.common.raster import GDAL_ERRORS, Header

SEMI_MAJOR = 6378137.0
"""Semi-major axis of WGS84, metres."""
FIX_GEOREFERENCE = "give the file the CRS of its coordinates: gdal_edit.py -a_srs EPSG:... FILE"
"""Advice about a wrong georeference."""
_ECCENTRICITY = math.sqrt(2 / 298.257223563 - 298.257223563**-2)
_LARGEST = {True: 10.0, False: 1e6}  # degrees, metres: largest side of a quadrilateral
_POLE, _MERIDIAN = 90.0, 540.0  # degrees; an image across 180 degrees may count on
_SMALLEST_PIXEL = 1e-3  # metres or feet
_SQUARE_TOLERANCE = 0.01
CELL_ROWS, CELL_COLS = 64, 512
"""Sides of the cells, pixels, within which all pixels are taken to have the same ground area. On coarse drone mosaics a
cell is about 100 m wide."""
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


def cell_edges(length: int, step: int) -> NDArray[np.int64]:
    """Return the edges of cells of `step` pixels along an axis; the last cell may be shorter."""
    return np.append(np.arange(0, length, step), length)


def count_in_cells(found: NDArray[np.bool_], rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the True pixels of (H, W) bool in each cell, (n, m), between edges of n + 1 rows and m + 1 columns."""
    return np.array(
        [
            [np.count_nonzero(found[top:bottom, left:right]) for left, right in pairwise(cols)]
            for top, bottom in pairwise(rows)
        ]
    )


def georeference_problem(crs: Any, transform: Any, height: int, width: int) -> str | None:
    """Return what is wrong with a georeference that the Earth doesn't have; None if nothing is.

    Such are metres under a CRS in degrees, degrees under a CRS in metres, and places beyond the poles or outside the
    domain of a projection. A local CRS, which can't be placed on the Earth, is not wrong.

    Args:
        crs: The image's CRS; None if it has none.
        transform: From (column, row) to the CRS.
        height: Rows, pixels.
        width: Columns, pixels.
    """
    if crs is None or transform.is_identity:
        return None
    if transform.is_degenerate:
        return "its pixels have no extent"
    cols, rows = np.array([0, width, 0, width, width / 2]), np.array([0, 0, height, height, height / 2])
    x = transform.a * cols + transform.b * rows + transform.c
    y = transform.d * cols + transform.e * rows + transform.f
    name = ":".join(crs.to_authority() or ["its CRS"])
    reach = f"x {x.min():.9g} to {x.max():.9g}, y {y.min():.9g} to {y.max():.9g}"
    step = max(abs(transform.a), abs(transform.b), abs(transform.d), abs(transform.e))
    if crs.is_geographic:
        # The outermost pixels of a global grid may have their centres at the poles.
        inside = np.abs(y).max() <= _POLE + step and np.abs(x).max() <= _MERIDIAN + step
        return None if inside else f"the Earth has no place at {reach} degrees, in {name}"
    try:
        longitude, latitude = to_crs(crs, "EPSG:4326", x, y)
    except (*GDAL_ERRORS, ValueError):
        return f"{name} has no place at {reach}" if _is_placed(crs) else None
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return f"{name} has no place at {reach}" if _is_placed(crs) else None
    if step < _SMALLEST_PIXEL and np.abs(x).max() <= _MERIDIAN and np.abs(y).max() <= _POLE:
        return f"{reach} look like degrees, but {name} has lengths"
    return None


def _is_placed(crs: Any) -> bool:
    """Return True if PROJ can place a CRS on the Earth: it knows the place of some point."""
    for x, y in ((0.0, 0.0), (5e5, 5e6), (5e5, 5e5)):
        try:
            if np.isfinite(to_crs(crs, "EPSG:4326", [x], [y])).all():
                return True
        except (*GDAL_ERRORS, ValueError):
            continue
    return False


def usable_crs(header: Header) -> Any:
    """Return an image's CRS for areas and lengths on the ground; None if it has none, or its georeference is wrong."""
    problem = georeference_problem(header.crs, header.transform, header.height, header.width)
    return header.crs if problem is None else None


def why_no_areas(header: Header) -> str:
    """Return why the areas of an image aren't known, where they aren't."""
    if georeference_problem(header.crs, header.transform, header.height, header.width) is not None:
        return "the georeference of the mosaic is wrong"
    if header.crs is None or header.transform.is_identity:
        return "the mosaic isn't georeferenced"
    return "the coordinate reference system of the mosaic can't be placed on the Earth"


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


def pixel_sides(crs: Any, transform: Any, height: int, width: int) -> tuple[float, float] | None:
    """Return height and width on the ground of a pixel in the image's middle, metres.

    None if the image is not georeferenced, or the Earth has no such place. Pixels in degrees are square at the equator
    only.
    """
    if crs is None or transform.is_identity or georeference_problem(crs, transform, height, width) is not None:
        return None
    sides = pixel_sides_at(crs, transform, np.array([height / 2]), np.array([width / 2]))
    if sides is None:
        return None
    high, wide = sides[:, 0]
    return (float(high), float(wide)) if high and wide else None


def pixel_sides_at(
    crs: Any, transform: Any, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return heights and widths on the ground of the pixels at some places, (2, n) float64, metres.

    Lengths follow from the radii of curvature of the meridian and of the prime vertical (Snyder, Map Projections: A
    Working Manual, USGS Professional Paper 1395, 1987, equations 4-18 and 4-20).

    Args:
        crs: The image's CRS.
        transform: From (column, row) to the CRS.
        rows: Row of each place, (n,).
        cols: Column of each place, (n,).

    Returns:
        None if the CRS can't be placed on the Earth.
    """
    # The place itself, one below it, and one to its right.
    col, row = np.stack([cols, cols, cols + _SQUARE]), np.stack([rows, rows + _SQUARE, rows])
    x = transform.a * col + transform.b * row + transform.c
    y = transform.d * col + transform.e * row + transform.f
    try:
        degrees = np.array(to_crs(crs, "EPSG:4326", x.ravel(), y.ravel())).reshape(2, 3, -1)
    except (*GDAL_ERRORS, ValueError):
        return None
    if not np.isfinite(degrees).all():
        return None
    longitude, latitude = np.radians(degrees)
    inverse = 1 - (_ECCENTRICITY * np.sin(latitude[0])) ** 2
    turned = np.unwrap(longitude, axis=0)[1:] - longitude[0]
    east = turned * np.cos(latitude[0]) * SEMI_MAJOR / np.sqrt(inverse)
    north = (latitude[1:] - latitude[0]) * SEMI_MAJOR * (1 - _ECCENTRICITY**2) / inverse**1.5
    lengths: NDArray[np.float64] = np.hypot(east, north) / _SQUARE
    return lengths


def is_square(sides: tuple[float, float]) -> bool:
    """Return True if height and width of a pixel on the ground, metres, are the same within 1 %."""
    return abs(sides[0] / sides[1] - 1) < _SQUARE_TOLERANCE


def ground_sample_distance(crs: Any, transform: Any, height: int, width: int) -> float | None:
    """Return the side of a square with the ground area of a pixel in the image's middle, metres.

    None if the image is not georeferenced, or the Earth has no such place. A projection's metres are not the ground's:
    EPSG:3857 overstates lengths 1.6 times at 52 degrees north.
    """
    if georeference_problem(crs, transform, height, width) is not None:
        return None
    rows, cols = (np.array([length / 2, length / 2 + _SQUARE]) for length in (height, width))
    area = pixel_areas(crs, transform, rows, cols)
    return None if area is None or not area[0, 0] else math.sqrt(area[0, 0])

"""Polygons on the grid of a raster: from any coordinate reference system to (column, row)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as to_crs

from inference.common.areas import equal_area, usable_crs
from inference.common.errors import UserError, first_line
from inference.common.raster import GDAL_ERRORS, Header
from inference.common.text import clean_line, quoted
from inference.common.vector import CHUNK, VectorLayer, vector_libraries

TOLERANCE = 0.05
"""Largest distance between a straight edge and its projection, pixels of the raster."""
_ROUNDS = 6
_LONGEST_REASON = 200
_MOST_POINTS = 10_000  # on one edge; an edge across a continent at centimetre pixels is a mistake
_GRID = 9  # places along a raster's sides from which its reach in another CRS follows
_MARGIN = 1.0  # of the raster's larger side: what is kept around it
_HALF_TURN = 180.0  # degrees
_INSIDE = np.array([0.25, 0.5, 0.75])  # places on an edge at which its projection is compared with the straight line


def to_pixels(layer: VectorLayer, header: Header) -> NDArray[Any]:
    """Convert the polygons of a layer to the pixel coordinates of a raster.

    An edge that is straight in the layer's CRS is a curve in the raster's. It gets as many points as keep it within
    TOLERANCE of that curve.

    Args:
        layer: Polygons.
        header: Header of the raster.

    Returns:
        (n,) Polygons and MultiPolygons; x is the column and y the row, 0 at the outer edge of the first pixel.

    Raises:
        UserError: The raster isn't georeferenced, or there is no way from one CRS to the other.
    """
    _, shapely = vector_libraries()
    if header.crs is None or header.transform.is_identity:
        raise UserError(
            f"{header.path}: isn't georeferenced, so the polygons of {layer.path} can't be placed on it (give the "
            "image its CRS and transform)"
        )
    try:
        source = CRS.from_user_input(layer.crs)
    except (CRSError, ValueError) as error:
        raise UserError(f"{layer.path}: its CRS can't be used: {_reason(error)} (choose a known one)") from None
    inverse = inverse_transform(header.transform)
    if source == header.crs:
        return _rebuilt(shapely, layer.geometries, lambda at: _pixels(inverse, at), dense=False)

    def project(at: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            placed = np.array(to_crs(source, header.crs, at[:, 0], at[:, 1])).T
        except (*GDAL_ERRORS, ValueError) as error:
            raise UserError(
                f"{layer.path}: layer {quoted(layer.name)} can't be placed on {header.path}: {_reason(error)} "
                "(check the CRS of both)"
            ) from None
        if not np.isfinite(placed).all():
            raise UserError(
                f"{layer.path}: layer {quoted(layer.name)} has points that the CRS of {header.path} has no place for "
                "(check the CRS of both)"
            )
        return _pixels(inverse, placed)

    return _rebuilt(shapely, layer.geometries, project, dense=True)


def near_raster(layer: VectorLayer, header: Header) -> VectorLayer:
    """Return the polygons of a layer around a raster, cut where they reach far beyond it.

    A projection has no place for what is far away, or a wrong one: the coasts of the Earth can't be placed on the grid
    of a drone's mosaic, but what lies around it can.

    Args:
        layer: Polygons.
        header: Header of the raster.

    Returns:
        Polygons that cover the same area of the raster; the layer itself where the raster can't be placed in its CRS.
    """
    _, shapely = vector_libraries()
    try:
        source = CRS.from_user_input(layer.crs)
    except (CRSError, ValueError):
        return layer
    if usable_crs(header) is None or source == header.crs:
        return layer
    col, row = (
        each.ravel() for each in np.meshgrid(*(np.linspace(0, n, _GRID) for n in (header.width, header.height)))
    )
    try:
        at = np.array(to_crs(header.crs, source, *(header.transform @ (col, row))))
    except (*GDAL_ERRORS, ValueError):
        return layer
    low, high = at.min(axis=1), at.max(axis=1)
    if (source.is_geographic and high[0] - low[0] > _HALF_TURN) or not np.isfinite(at).all():
        return layer
    margin = _MARGIN * (high - low).max()
    around = np.array([*(low - margin), *(high + margin)])
    # Longitudes may count from -180 or from 0.
    turns = np.array([-360.0, 0.0, 360.0]) if source.is_geographic else np.zeros(1)
    boxes = shapely.box(around[0] + turns, around[1], around[2] + turns, around[3])
    area = shapely.union_all(boxes)
    outlines = shapely.box(*shapely.bounds(layer.geometries).T)
    kept = shapely.intersects(outlines, area)
    geometries, valid = layer.geometries[kept], shapely.is_valid(layer.geometries[kept])
    wide = valid & ~shapely.covered_by(outlines[kept], area)
    geometries[wide] = polygons_of(shapely.intersection(geometries[wide], area))
    rest = ~shapely.is_empty(geometries)
    return VectorLayer(layer.path, layer.name, geometries[rest], {}, layer.crs, layer.nulls, layer.empties)


def _reason(error: BaseException) -> str:
    """Return the first line of an error, shortened: PROJ may repeat the whole definition of a CRS."""
    return clean_line(first_line(error), _LONGEST_REASON)


def inverse_transform(transform: Any) -> tuple[float, float, float, float, float, float]:
    """Return the inverse of an affine transform, computed as GDAL does: c0 + c1 x + c2 y, c3 + c4 x + c5 y.

    With the same rounding as GDAL's, an outline that runs through the centre of a pixel falls on the same side.
    """
    a, b, c, d, e, f = transform.a, transform.b, transform.c, transform.d, transform.e, transform.f
    if b == 0 and d == 0:
        return -c / a, 1 / a, 0.0, -f / e, 0.0, 1 / e
    determinant = 1 / (a * e - b * d)
    return (
        (b * f - c * e) * determinant,
        e * determinant,
        -b * determinant,
        (-a * f + c * d) * determinant,
        -d * determinant,
        a * determinant,
    )


def ground_areas(geometries: NDArray[Any], header: Header) -> NDArray[np.float64]:
    """Return the ground area of polygons in the pixel coordinates of a raster, m², (n,); NaN without georeference.

    Edges are taken to be straight on an equal-area projection, from which those of a few hundred metres differ by less
    than 1e-8 of the area.
    """
    _, shapely = vector_libraries()
    crs, t = usable_crs(header), header.transform
    if crs is None or t.is_identity:
        return np.full(len(geometries), np.nan)

    def project(at: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(at):
            return at
        x, y = t.a * at[:, 0] + t.b * at[:, 1] + t.c, t.d * at[:, 0] + t.e * at[:, 1] + t.f
        longitude, latitude = np.array(to_crs(crs, "EPSG:4326", x, y))
        # Relative to one place: an image across 180 degrees stays in one piece, and areas, which are differences of
        # products, keep more digits.
        longitude = (longitude - longitude[0] + 180) % 360 - 180
        metres: NDArray[np.float64] = equal_area(longitude, latitude).T
        return np.asarray(metres - metres[0])

    areas: NDArray[np.float64] = shapely.area(shapely.transform(geometries, project))
    return areas


def polygons_of(geometries: NDArray[Any]) -> NDArray[Any]:
    """Return geometries with only their polygons kept: lines and points, which repairs and cuts leave, are dropped.

    Returns:
        (n,) Polygons and MultiPolygons; an empty polygon where nothing is left.
    """
    _, shapely = vector_libraries()
    kept = np.array(geometries, object)
    for at in np.flatnonzero(~np.isin(shapely.get_type_id(kept), (3, 6))):
        parts = shapely.get_parts(shapely.get_parts(kept[at : at + 1]))
        parts = parts[(shapely.get_type_id(parts) == 3) & ~shapely.is_empty(parts)]
        kept[at] = parts[0] if len(parts) == 1 else shapely.multipolygons(parts) if len(parts) else shapely.Polygon()
    return kept


def valid_pixels(layer: VectorLayer, header: Header) -> tuple[NDArray[Any], list[str]]:
    """Convert the polygons of a layer to the pixel coordinates of a raster, see `to_pixels`, and repair invalid ones.

    Returns:
        (n,) valid Polygons and MultiPolygons, empty where nothing was left; lines about what was repaired or left out.

    Raises:
        UserError: The raster isn't georeferenced, or there is no way from one CRS to the other.
    """
    _, shapely = vector_libraries()
    notices = []
    if layer.nulls or layer.empties:
        notices.append(
            f"{layer.path}: layer {quoted(layer.name)}: {layer.nulls} features have no geometry and {layer.empties} an "
            "empty one; they are left out"
        )
    # Before edges get more points, so that crossings of the drawn edges become corners.
    invalid = ~shapely.is_valid(layer.geometries)
    if not invalid.any():
        return _valid(shapely, to_pixels(layer, header)), notices
    fixed = layer.geometries.copy()
    fixed[invalid] = polygons_of(shapely.make_valid(fixed[invalid]))
    broken = VectorLayer(layer.path, layer.name, layer.geometries[invalid], {}, layer.crs)
    before = ground_areas(to_pixels(broken, header), header)
    kept = ~shapely.is_empty(fixed)
    repaired = np.full(len(fixed), shapely.Polygon(), object)
    whole = VectorLayer(layer.path, layer.name, fixed[kept], {}, layer.crs)
    repaired[kept] = _valid(shapely, to_pixels(whole, header))
    after = ground_areas(repaired[invalid], header)
    reason = str(shapely.is_valid_reason(layer.geometries[invalid][0])).partition("[")[0].lower()
    notices.append(
        f"{layer.path}: layer {quoted(layer.name)}: {int(invalid.sum())} invalid polygons were repaired (the first: "
        f"{reason}): {np.nansum(before):,.2f} m² as drawn, {np.nansum(after):,.2f} m² repaired"
    )
    return repaired, notices


def _valid(shapely: Any, geometries: NDArray[Any]) -> NDArray[Any]:
    """Repair what a projection made invalid: edges that touched may cross by a rounding."""
    invalid = ~shapely.is_valid(geometries)
    if invalid.any():
        geometries = geometries.copy()
        geometries[invalid] = polygons_of(shapely.make_valid(geometries[invalid]))
    return geometries


def _pixels(inverse: tuple[float, ...], at: NDArray[np.float64]) -> NDArray[np.float64]:
    c0, c1, c2, c3, c4, c5 = inverse
    x, y = at[:, 0], at[:, 1]
    return np.column_stack([c0 + x * c1 + y * c2, c3 + x * c4 + y * c5])


def _rebuilt(shapely: Any, geometries: NDArray[Any], project: Any, dense: bool) -> NDArray[Any]:
    """Project polygons, with more points on their edges where that is wanted."""
    moved = np.full(len(geometries), None, object)
    for start in range(0, len(geometries), CHUNK):
        part = slice(start, start + CHUNK)
        moved[part] = (_densified if dense else shapely.transform)(geometries[part], project)
    return moved


def _densified(geometries: NDArray[Any], project: Any) -> NDArray[Any]:
    """Project polygons, with as many points on their edges as keep them within TOLERANCE of their course."""
    _, shapely = vector_libraries()
    parts, of_part = shapely.get_parts(geometries, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    at, ring = shapely.get_coordinates(rings, return_index=True)
    placed = project(at)
    for _ in range(_ROUNDS):
        count = _points_needed(at, placed, ring, project)
        if count.max(initial=1) == 1:
            break
        at, ring = _divided(at, ring, count)
        placed = project(at)
    drawn = shapely.polygons(shapely.linearrings(placed, indices=ring), indices=of_ring)
    single = shapely.get_type_id(geometries) == 3
    joined: NDArray[Any] = shapely.multipolygons(drawn, indices=of_part)
    joined[single] = drawn[np.searchsorted(of_part, np.flatnonzero(single))]
    return joined


def _points_needed(
    at: NDArray[np.float64], placed: NDArray[np.float64], ring: NDArray[np.int64], project: Any
) -> NDArray[np.int64]:
    """Return the number of parts that each edge must be divided into, (n - 1,); 1 also between two rings."""
    count = np.ones(len(at) - 1, np.int64)
    edges = np.flatnonzero(ring[1:] == ring[:-1])
    # An edge much shorter than a pixel can't deviate.
    edges = edges[np.hypot(*(placed[edges + 1] - placed[edges]).T) > 2 * TOLERANCE]
    if not len(edges):
        return count
    worst = np.zeros(len(edges))
    for share in _INSIDE:
        middle = project(at[edges] + share * (at[edges + 1] - at[edges]))
        straight = placed[edges] + share * (placed[edges + 1] - placed[edges])
        # A parabola through the ends is 4 s (1 - s) of its largest deviation away at share s.
        worst = np.maximum(worst, np.hypot(*(middle - straight).T) / (4 * share * (1 - share)))
    needed = np.ceil(np.sqrt(worst / TOLERANCE))  # the deviation falls with the square of the number of parts
    count[edges] = np.clip(np.where(worst > TOLERANCE, needed, 1), 1, _MOST_POINTS).astype(np.int64)
    return count


def _divided(
    at: NDArray[np.float64], ring: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Divide edges into equal parts; return the points and their rings."""
    first = np.repeat(np.arange(len(count)), count)
    share = (np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)) / count[first]
    points = at[first] + share[:, None] * (at[first + 1] - at[first])
    return np.concatenate([points, at[-1:]]), np.concatenate([ring[first], ring[-1:]])

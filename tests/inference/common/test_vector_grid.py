"""Polygons on the grid of a raster: exact where the CRS is the same, within a tenth of a pixel elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from rasterio import Affine
from rasterio.features import rasterize

from inference.common.errors import UserError
from inference.common.raster import Header, read_header
from inference.common.vector import VectorLayer
from inference.common.vector_grid import TOLERANCE, inverse_transform, to_pixels
from tests.conftest import write_raster

NORTH_UP = Affine(0.1, 0, 562_000, 0, -0.1, 5_722_000)
ROTATED = NORTH_UP @ Affine.rotation(33) @ Affine.scale(1, 1.7)


def layer(geometries: list[Any], crs: str) -> VectorLayer:
    return VectorLayer("labels.gpkg", "kelp", np.array(geometries, object), {}, crs)


def header(folder: Path, transform: Affine, crs: str | None = "EPSG:32609") -> Header:
    return read_header(
        write_raster(folder / "image.tif", np.zeros((1, 40, 50), np.uint8), transform=transform, crs=crs)
    )


def shapes(rng: np.random.Generator) -> list[Any]:
    square = shapely.box(10, 5, 400, 300)
    holed = shapely.Polygon(square.exterior.coords, [[(20, 20), (30, 20), (25, 40)]])
    cut = shapely.MultiPoint(rng.uniform(0, 300, (7, 2))).convex_hull
    return [square, holed, shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 90, 80)]), cut]


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_the_same_crs(tmp_path: Path, transform: Affine) -> None:
    drawn = shapes(np.random.default_rng(0))
    placed = shapely.transform(drawn, lambda at: np.column_stack(transform @ tuple(at.T)))
    found = to_pixels(layer(list(placed), "EPSG:32609"), header(tmp_path, transform))
    assert shapely.equals_exact(found, drawn, 1e-6).all()


def test_rounding_is_that_of_gdal(tmp_path: Path) -> None:
    """Corners on the centres of pixels fall on the same side as in a call with the raster's own transform."""
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 40, (200, 4, 2)) + 0.5
    placed = [shapely.Polygon(np.column_stack(NORTH_UP @ tuple(at.T))) for at in corners]
    found = to_pixels(layer(placed, "EPSG:32609"), header(tmp_path, NORTH_UP))
    # On a horizontal edge GDAL decides by the direction of the ring, so rows must count upwards, as northings do.
    upwards, north_up = shapely.transform(found, lambda at: at * (1, -1)), Affine(1, 0, 0, 0, -1, 0)
    for ours, theirs in zip(upwards, placed, strict=True):
        np.testing.assert_array_equal(
            rasterize([ours], (40, 40), transform=north_up), rasterize([theirs], (40, 40), transform=NORTH_UP)
        )


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32610", "EPSG:3005", "EPSG:3857"])
@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_edges_of_another_crs_keep_their_course(tmp_path: Path, crs: str, transform: Affine) -> None:
    """Compare with the same polygons with ten thousand points on each edge."""
    large = [shapely.transform(shape, lambda at: at * 100) for shape in shapes(np.random.default_rng(2))]
    there = Transformer.from_crs("EPSG:32609", crs, always_xy=True)
    back = Transformer.from_crs(crs, "EPSG:32609", always_xy=True)
    placed = shapely.transform(large, lambda at: np.column_stack(there.transform(*(transform @ tuple(at.T)))))
    found = to_pixels(layer(list(placed), crs), header(tmp_path, transform))
    assert shapely.get_type_id(found).tolist() == shapely.get_type_id(placed).tolist()
    for ours, given in zip(found, placed, strict=True):
        dense = shapely.segmentize(given, max(np.ptp(np.array(given.bounds).reshape(2, 2), axis=0)) / 10_000)
        course = shapely.transform(dense, lambda at: np.column_stack(~transform @ back.transform(*at.T)))
        assert shapely.hausdorff_distance(ours.boundary, course.boundary) < 2 * TOLERANCE
        assert shapely.get_num_coordinates(ours) < 3000


def test_small_polygons_get_no_points(tmp_path: Path) -> None:
    there = Transformer.from_crs("EPSG:32609", "EPSG:4326", always_xy=True)
    drawn = shapely.box(0, 0, 60, 60)
    placed = shapely.transform(drawn, lambda at: np.column_stack(there.transform(*(NORTH_UP @ tuple(at.T)))))
    (found,) = to_pixels(layer([placed], "EPSG:4326"), header(tmp_path, NORTH_UP))
    assert shapely.get_num_coordinates(found) == 5
    assert shapely.equals_exact(found, drawn, 1e-3)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_the_inverse_is_the_inverse(transform: Affine) -> None:
    inverse = ~transform
    expected = (inverse.c, inverse.a, inverse.b, inverse.f, inverse.d, inverse.e)
    assert inverse_transform(transform) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_what_cannot_be_placed(tmp_path: Path) -> None:
    plain = header(tmp_path, Affine.identity(), None)
    with pytest.raises(UserError, match=r"image.tif: isn't georeferenced, so the polygons of labels.gpkg can't"):
        to_pixels(layer([shapely.box(0, 0, 1, 1)], "EPSG:4326"), plain)
    with pytest.raises(UserError, match="its CRS can't be used"):
        to_pixels(layer([shapely.box(0, 0, 1, 1)], "EPSG:1"), header(tmp_path, NORTH_UP))
    with pytest.raises(UserError, match=r"labels.gpkg: layer \"kelp\" .*check the CRS of both"):
        to_pixels(layer([shapely.box(0, 89, 1, 95)], "EPSG:4326"), header(tmp_path, NORTH_UP))


def test_no_polygons(tmp_path: Path) -> None:
    assert len(to_pixels(layer([], "EPSG:4326"), header(tmp_path, NORTH_UP))) == 0

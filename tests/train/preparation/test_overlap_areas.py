"""Overlap areas of classes equal those of GeoPandas in an equal-area projection."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from rasterio import Affine

from inference.common.raster import read_header
from inference.common.vector import VectorLayer
from tests.conftest import write_raster
from train.data.prepared import IGNORED
from train.preparation.overlap_areas import overlaps
from train.preparation.polygons import label_polygons

NORTH_UP = Affine(0.1, 0, 562_000, 0, -0.1, 5_722_000)
EQUAL_AREA = "+proj=cea +datum=WGS84"


def drawn(seed: int) -> tuple[list[Any], np.ndarray]:
    """Return valid polygons with holes and parts in pixel coordinates, and their classes."""
    rng = np.random.default_rng(seed)
    shapes: list[Any] = []
    for corner in rng.uniform(20, 300, (40, 2)):
        hull = shapely.MultiPoint(corner + rng.uniform(0, 90, (8, 2))).convex_hull
        hole = shapely.Point(hull.centroid).buffer(rng.uniform(2, 9))
        shapes.append(hull.difference(hole))
    shapes.append(shapely.union_all([shapely.box(0, 0, 50, 50), shapely.box(200, 200, 260, 250)]))
    return shapes, rng.choice(np.array([1, 2, 3, IGNORED], np.uint8), len(shapes))


@pytest.mark.parametrize("seed", range(5))
def test_areas_equal_those_of_geopandas(tmp_path: Path, seed: int) -> None:
    shapes, classes = drawn(seed)
    pixels = np.zeros((1, 400, 400), np.uint8)
    header = read_header(write_raster(tmp_path / "image.tif", pixels, transform=NORTH_UP))
    placed = shapely.transform(np.array(shapes, object), lambda at: np.column_stack(NORTH_UP @ at.T))
    polygons = label_polygons(VectorLayer("kelp.gpkg", "kelp", placed, {}, "EPSG:32609"), classes, header)
    found = {overlap.classes: overlap.area for overlap in overlaps(polygons.geometries, polygons.classes, header)}

    frame = geopandas.GeoDataFrame({"kind": classes}, geometry=list(placed), crs="EPSG:32609").to_crs(EQUAL_AREA)
    dissolved = frame[frame.kind != IGNORED].dissolve("kind").reset_index()
    crossed = geopandas.overlay(dissolved, dissolved, keep_geom_type=True)
    crossed = crossed[crossed.kind_1 < crossed.kind_2]
    pairs = zip(crossed.kind_1.astype(int), crossed.kind_2.astype(int), strict=True)
    expected = dict(zip(pairs, crossed.area, strict=True))
    assert len(expected) == 3
    assert found == pytest.approx(expected, rel=1e-6)


def test_outlines_that_touch_do_not_overlap(tmp_path: Path) -> None:
    header = read_header(write_raster(tmp_path / "image.tif", np.zeros((1, 40, 40), np.uint8), transform=NORTH_UP))
    beside = np.array([shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)], object)
    assert overlaps(beside, np.array([1, 2], np.uint8), header) == []
    across = np.array([shapely.box(0, 0, 11, 10), shapely.box(10, 0, 20, 10)], object)
    assert overlaps(across, np.array([1, 1], np.uint8), header) == []
    assert overlaps(across, np.array([1, IGNORED], np.uint8), header) == []
    (one,) = overlaps(across, np.array([2, 1], np.uint8), header)
    assert (one.classes, one.pixels, one.area) == ((1, 2), 10, pytest.approx(0.1, rel=2e-3))

"""Covered shares of pixels: equal to those of exactextract, and to the areas of intersections."""

from typing import Any

import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference.vector.coverage import Outline

HEIGHT, WIDTH = 9, 11
WINDOWS = [(0, 0, HEIGHT, WIDTH), (0, 0, 1, WIDTH), (3, 2, 4, 5), (5, 0, 4, 3), (8, 10, 1, 1), (-3, -4, 20, 30)]
# On the lines between pixels, beside them by a rounding, in the middle of pixels, and beyond the raster.
places = st.one_of(
    st.integers(-2, 13).map(float),
    st.integers(1, 11).map(lambda at: float(np.nextafter(at, at + 1))),
    st.integers(1, 11).map(lambda at: float(np.nextafter(at, at - 1))),
    # Rounded, because GEOS fails at numbers such as 1e-300.
    st.floats(-50, 50).map(lambda at: round(at, 12)),
    st.floats(0, 11).map(lambda at: round(at, 12)),
)


def intersections(polygon: Any, row: int, col: int, height: int, width: int) -> Any:
    """Return the area of the intersection of a polygon with each pixel of a window."""
    rows, cols = np.mgrid[row : row + height, col : col + width]
    return shapely.area(shapely.intersection(shapely.box(cols, rows, cols + 1, rows + 1), polygon))


@st.composite
def polygons(draw: Any) -> Any:
    """Draw valid polygons with holes and parts, many of them slivers."""
    rings = []
    for _ in range(draw(st.integers(1, 3))):
        points = draw(st.lists(st.tuples(places, places), min_size=3, max_size=8))
        rings.append(shapely.make_valid(shapely.Polygon(points)))
    polygon = rings[0]
    for ring in rings[1:]:
        combine = draw(st.sampled_from([shapely.difference, shapely.union]))
        try:
            polygon = combine(polygon, ring)
        except shapely.errors.GEOSException:
            assume(False)
    parts = shapely.get_parts(shapely.get_parts(polygon))
    parts = parts[(shapely.get_type_id(parts) == 3) & (shapely.area(parts) > 0)]
    return shapely.union_all(parts)


@settings(max_examples=100, deadline=None)
@given(polygons(), st.sampled_from(WINDOWS))
def test_shares_are_areas_of_intersections(polygon: Any, window: tuple[int, int, int, int]) -> None:
    assume(polygon.geom_type in {"Polygon", "MultiPolygon"} and polygon.is_valid)
    found = Outline(polygon).shares(*window).array()
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found, intersections(polygon, *window), rtol=0, atol=1e-11)


SHAPES = {
    "pixel": shapely.box(3, 4, 4, 5),
    "inside a pixel": shapely.box(3.25, 4.5, 3.5, 4.75),
    "horizontal edges": shapely.box(1.25, 2.5, 9.5, 6.25),
    "clockwise": shapely.Polygon([(1, 1), (1, 5), (6, 5), (6, 1)]),
    "hole": shapely.Polygon([(1, 1), (9, 1.5), (8, 8), (1, 7)], [[(3, 3), (3, 4), (4, 4), (4, 3)]]),
    "ring around all": shapely.box(-9, -9, 30, 30).difference(shapely.box(-1, -1, 20, 20)),
    "beyond all sides": shapely.box(-9, -9, 30, 30),
    "far away": shapely.Polygon([(-1e7, 4), (1e7, 4.5), (1e7, 6)]),
    "island in a hole": shapely.box(0, 0, 11, 9).difference(shapely.box(1, 1, 8, 8)).union(shapely.box(3, 3, 5, 5)),
    "parts at a corner": shapely.MultiPolygon([shapely.box(1, 1, 3, 3), shapely.box(3, 3, 5.5, 5.5)]),
    "circle": shapely.Point(5.3, 4.4).buffer(3.9, quad_segs=200),
    "sliver": shapely.Polygon([(0, 0), (11, 9), (11, 9 + 1e-9)]),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("window", WINDOWS)
def test_shapes(name: str, window: tuple[int, int, int, int]) -> None:
    found = Outline(SHAPES[name]).shares(*window).array()
    # GEOS intersects a polygon of ten million pixels less exactly than its shares are computed.
    tolerance = 1e-8 if name == "far away" else 1e-13
    np.testing.assert_allclose(found, intersections(SHAPES[name], *window), rtol=0, atol=tolerance)


def test_the_opposite_share_is_that_of_the_rest() -> None:
    """Compare without GEOS: a polygon that is far larger than the window, and the rest of the plane."""
    one = Outline(SHAPES["far away"]).shares(0, 0, HEIGHT, WIDTH).array()
    rest = shapely.Polygon([(-1e7, -1e7), (1e7, -1e7), (1e7, 4.5), (-1e7, 4), (1e7, 6), (1e7, 1e7), (-1e7, 1e7)])
    other = Outline(rest).shares(0, 0, HEIGHT, WIDTH).array()
    np.testing.assert_allclose(one + other, 1, rtol=0, atol=1e-9)
    assert 0 < one.mean() < 1


def test_no_polygon() -> None:
    outline = Outline(shapely.Polygon())
    assert outline.bounds == (0, 0, 0, 0)
    assert not outline.shares(0, 0, 3, 4).array().any()


def star(rng: np.random.Generator, size: float, points: int) -> Any:
    """Return a star with a hole, whose vertices are at random distances."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    distance = rng.uniform(0.5, 1, points) * size / 2
    at = np.column_stack([np.cos(angles), np.sin(angles)]) * distance[:, None] + size / 2
    return shapely.make_valid(shapely.Polygon(at)).difference(shapely.Point(size / 2, size / 2).buffer(size / 9))


@pytest.mark.parametrize("size", [40, 300])
def test_shares_are_those_of_exactextract(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(5):
        polygon = star(rng, size, 60)
        raster = NumPyRasterSource(np.arange(size * size, dtype=np.float64).reshape(size, size), 0, 0, size, size)
        # Its rows count from the top, where y is the greatest.
        upwards = shapely.transform(polygon, lambda at: [0, size] + at * [1, -1])
        feature = {"type": "Feature", "geometry": shapely.geometry.mapping(upwards), "properties": {}}
        read = exact_extract(raster, [feature], ["values", "coverage"])[0]["properties"]
        expected = np.zeros(size * size)
        expected[np.asarray(read["values"], int)] = read["coverage"]
        found = Outline(polygon).shares(0, 0, size, size).array()
        np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-6)  # exactextract's are float32


@pytest.mark.parametrize("at", [0, 100_000])
def test_the_sum_is_the_area_of_the_polygon(at: int) -> None:
    rng = np.random.default_rng(at)
    for size in (3, 70, 500):
        polygon = shapely.transform(star(rng, size, 200), lambda xy: xy + at)
        outline = Outline(polygon)
        top, left, bottom, right = outline.bounds
        strips = [
            outline.shares(row, left, min(64, bottom - row), right - left).array() for row in range(top, bottom, 64)
        ]
        assert sum(map(np.sum, strips)) == pytest.approx(polygon.area, rel=1e-12)
        together = outline.shares(top, left, bottom - top, right - left)
        np.testing.assert_allclose(np.concatenate(strips), together.array(), rtol=0, atol=1e-13)


def test_whole_pixels_are_exact() -> None:
    """A pixel that no edge touches has a share of 1 without rounding, however many edges its row has."""
    comb = shapely.union_all([shapely.Polygon([(x, 0.1), (x + 0.7, 0.3), (x + 0.3, 9)]) for x in range(0, 9000, 3)])
    shape = shapely.union(comb, shapely.box(9000.5, 0, 9900.25, 9))
    shares = Outline(shape).shares(0, 0, 9, 10_000)
    assert shares.whole.sum() == 899 * 9
    assert len(shares.share) < 9000 * 9 / 3 * 3

"""Burned labels equal GDAL's of the whole image, for strips of any height."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.features import shapes as vectorize

from train.data.prepared import IGNORED
from train.preparation.burn import Burner, BurnRule
from train.preparation.outlines import Outlines

HEIGHT, WIDTH = 37, 29
NORTH_UP = Affine(1, 0, 0, 0, -1, 0)
# Multiples of a half put corners and edges on the centres of pixels, where rounding decides.
NUMBERS = st.one_of(st.integers(-10, 90).map(lambda n: n / 2), st.floats(-5, 45, allow_nan=False, width=32))
RINGS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=7)


def polygon(points: list[tuple[float, float]]) -> Any:
    return shapely.make_valid(shapely.Polygon(points))


def whole(shapes: list[Any], all_touched: bool = False) -> NDArray[np.bool_]:
    """Burn polygons into the whole image, with rows that count upwards as northings do."""
    if not shapes:
        return np.zeros((HEIGHT, WIDTH), np.bool_)
    up = shapely.transform(np.array(shapes, object), lambda at: at * (1, -1))
    return rasterize(list(up), (HEIGHT, WIDTH), transform=NORTH_UP, all_touched=all_touched) > 0


def in_strips(burner: Burner, height: int) -> NDArray[np.uint8]:
    return np.concatenate([burner.rows(row, min(height, HEIGHT - row)) for row in range(0, HEIGHT, height)])


def burner(shapes: list[Any], classes: list[int], areas: list[Any] | None = None, **rule: Any) -> Burner:
    drawn = np.array(shapes, object) if shapes else np.zeros(0, object)
    around = None if areas is None else np.array(areas, object)
    return Burner(HEIGHT, WIDTH, drawn, np.array(classes, np.uint8), around, BurnRule(**rule))


@settings(max_examples=150, deadline=None)
@given(st.lists(RINGS, max_size=4), st.integers(1, HEIGHT), st.booleans())
def test_strips_equal_the_whole_image(rings: list[Any], height: int, all_touched: bool) -> None:
    shapes = [shape for ring in rings if not (shape := polygon(ring)).is_empty and shape.area > 0]
    shapes = [shapely.union_all([part for part in shapely.get_parts(shape) if part.area > 0]) for shape in shapes]
    labels = in_strips(burner(shapes, [1] * len(shapes), all_touched=all_touched), height)
    rows, cols = np.nonzero((labels == 1) != whole(shapes, all_touched))
    if all_touched:  # GDAL rounds differently where a polygon touches the edge of a pixel alone
        assert (
            shapely.area(
                shapely.intersection(shapely.union_all(shapes), shapely.box(cols, rows, cols + 1, rows + 1))
            ).max(initial=0)
            < 1e-6
        )
    else:
        assert len(rows) == 0
    assert set(np.unique(labels)) <= {0, 1}


@pytest.mark.parametrize("height", [1, 5, 16, HEIGHT])
def test_polygons_of_many_points_are_cut_down_without_a_change(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.preparation.outlines._MANY_POINTS", 4)
    rng = np.random.default_rng(height)
    for _ in range(40):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 60))
        reach = rng.uniform(2, 25, 60)
        ring = np.round(2 * (np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None] + (14, 18))) / 2
        outside = shapely.make_valid(shapely.Polygon(ring))
        shape = outside.difference(shapely.box(10, 15, 16, 22)) if outside.area else outside
        shapes = [part for part in shapely.get_parts(shape) if part.area > 0]
        labels = in_strips(burner([shapely.MultiPolygon(shapes)], [1]), height)
        np.testing.assert_array_equal(labels == 1, whole([shapely.MultiPolygon(shapes)]))


@pytest.mark.parametrize("height", [1, 4])
def test_rings_that_wind_keep_their_direction(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Burn outlines of noise with edges on the centres of pixels; cut down, such rings cross themselves."""
    monkeypatch.setattr("train.preparation.outlines._MANY_POINTS", 4)
    for seed in range(10):
        noise = (np.random.default_rng(seed).random((HEIGHT - 1, WIDTH - 1)) < 0.6).astype(np.uint8)
        found = vectorize(noise, noise > 0, transform=Affine.translation(0.5, 0.5))
        shapes = [shapely.Polygon(rings["coordinates"][0], rings["coordinates"][1:]) for rings, _ in found]
        labels = in_strips(burner(shapes, [1] * len(shapes)), height)
        np.testing.assert_array_equal(labels == 1, whole(shapes))


def test_cutting_down_drops_points() -> None:
    angle = np.linspace(0, 2 * np.pi, 2000)[:-1]
    circle = Outlines(np.array([shapely.Polygon(np.stack([np.cos(angle), np.sin(angle)], 1) * 1000)], object))
    assert len(circle.drawn(0, 900, 20)["coordinates"][0]) < 200
    assert len(circle.drawn(0, -2000, 4000)["coordinates"][0]) == 2000


def test_classes_overlaps_and_areas() -> None:
    one, two, unsure = shapely.box(0, 0, 10, 10), shapely.box(5, 5, 15, 15), shapely.box(8, 0, 12, 12)
    ignored = burner([one, two], [1, 2])
    labels = ignored.rows(0, HEIGHT)
    assert (labels[0, 0], labels[12, 12], labels[7, 7], labels[20, 20]) == (1, 2, IGNORED, 0)
    assert ignored.conflicts == 25
    assert burner([one, two], [1, 2], order=(1, 2), priority=True).rows(0, HEIGHT)[7, 7] == 1
    assert burner([one, two], [1, 2], order=(2, 1), priority=True).rows(0, HEIGHT)[7, 7] == 2
    with_unsure = burner([one, unsure], [1, IGNORED], order=(1,), priority=True)
    assert with_unsure.rows(0, HEIGHT)[5, 9] == IGNORED
    assert with_unsure.conflicts == 0
    inside = burner([one], [1], areas=[shapely.box(4, 4, 20, 20)]).rows(0, HEIGHT)
    assert (inside[2, 2], inside[6, 6], inside[15, 15], inside[30, 25]) == (IGNORED, 1, 0, IGNORED)


@pytest.mark.parametrize("border", [(2.0, 2.0), (3.0, 1.5)])
def test_a_ring_along_outlines_is_ignored(border: tuple[float, float]) -> None:
    """Compare with distances to the outline, of the centre of each pixel."""
    shape = shapely.Polygon([(6.3, 5.1), (22.7, 8.4), (14.2, 30.9)])
    labels = in_strips(burner([shape], [1], border=border), 8)
    rows, cols = np.indices((HEIGHT, WIDTH)) + 0.5
    stretch = border[0] / border[1]
    outline = shapely.transform(shape.exterior, lambda at: at * (stretch, 1))
    distance = shapely.distance(shapely.points(cols * stretch, rows), outline)
    clear = np.abs(distance - border[0]) > 0.02  # a buffer is a polygon
    np.testing.assert_array_equal((labels == IGNORED)[clear], (distance < border[0])[clear])
    inside = shapely.contains(shape, shapely.points(cols, rows))
    np.testing.assert_array_equal((labels == 1)[clear], (inside & (distance > border[0]))[clear])


def test_without_polygons_all_is_background() -> None:
    assert (burner([], []).rows(3, 4) == 0).all()
    assert (burner([], [], areas=[shapely.box(0, 0, 5, 5)]).rows(0, 10)[:, 5:] == IGNORED).all()

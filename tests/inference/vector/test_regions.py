"""Regions of a map as polygons: equal to GDAL's polygons of the whole map, for bands of any height."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes

from inference.vector.regions import RegionFinder, Regions
from inference.vector.runs import Runs

MAPS = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 3)).flatmap(
    lambda size: arrays(np.uint8, size[:2], elements=st.integers(0, size[2]))
)


def found(
    values: NDArray[np.uint8], height: int, diagonal: bool = False, areas: Any = None, probability: Any = None
) -> Regions:
    """Find the regions of all classes but 0, in bands of some height."""
    finder = RegionFinder(values.shape[1], diagonal)
    parts = []
    for row in range(0, len(values), height):
        band = np.s_[row : row + height]
        of_runs = None if areas is None else partial(area_of_runs, areas[band])
        parts.append(
            finder.add(values[band], values[band] > 0, of_runs, None if probability is None else probability[band])
        )
    return Regions.joined([*parts, finder.finish()])


def area_of_runs(before: NDArray[np.float64], runs: Runs) -> NDArray[np.float64]:
    """Return the area of runs from the sums of the areas before each column, (rows, width + 1)."""
    areas: NDArray[np.float64] = before[runs.row, runs.stop] - before[runs.row, runs.start]
    return areas


def by_gdal(values: NDArray[np.uint8], diagonal: bool) -> list[tuple[str, int]]:
    """Return GDAL's polygons, made valid, and their classes, in a form that can be compared."""
    drawn = shapes(values, mask=values > 0, connectivity=8 if diagonal else 4)
    return sorted((form(shapely.geometry.shape(shape)), int(value)) for shape, value in drawn)


def form(geometry: Any) -> str:
    """Return a geometry as text that doesn't depend on the order of its rings and corners."""
    parts = shapely.get_parts(shapely.make_valid(geometry))
    # A ring's first point is kept by `simplify`, even where it lies on a straight edge.
    return str(shapely.normalize(shapely.multipolygons(shapely.simplify(shapely.normalize(parts), 0))))


@settings(max_examples=300)
@given(MAPS, st.integers(1, 14), st.booleans())
def test_polygons_are_those_of_gdal(values: NDArray[np.uint8], height: int, diagonal: bool) -> None:
    regions = found(values, height, diagonal)
    ours = sorted((form(shape), int(value)) for shape, value in zip(regions.geometry, regions.value, strict=True))
    assert ours == by_gdal(values, diagonal)
    assert shapely.is_valid(regions.geometry).all()
    assert shapely.area(regions.geometry).astype(int).tolist() == regions.pixels.tolist()


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_large_map_with_deep_nesting(diagonal: bool) -> None:
    rng = np.random.default_rng(3)
    rows, cols = np.indices((150, 170))
    rings = (np.hypot(rows - 70, cols - 80) // 6 % 3).astype(np.uint8)
    values = np.where(rng.random(rings.shape) < 0.1, rng.integers(0, 3, rings.shape), rings).astype(np.uint8)
    expected = by_gdal(values, diagonal)
    for height in (1, 7, 64, 150):
        regions = found(values, height, diagonal)
        ours = sorted((form(shape), int(value)) for shape, value in zip(regions.geometry, regions.value, strict=True))
        assert ours == expected


@given(MAPS, st.integers(1, 14))
@settings(max_examples=60)
def test_order_and_totals_do_not_depend_on_the_height_of_bands(values: NDArray[np.uint8], height: int) -> None:
    rng = np.random.default_rng(0)
    areas = np.zeros((values.shape[0], values.shape[1] + 1))
    areas[:, 1:] = rng.uniform(0.5, 2, values.shape).cumsum(axis=1)
    probability = rng.random(values.shape, np.float32)
    one = found(values, len(values), areas=areas, probability=probability)
    other = found(values, height, areas=areas, probability=probability)
    assert shapely.equals_exact(one.geometry, other.geometry).all()
    for name in ("value", "pixels", "lowest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.area, other.area, rtol=1e-12)
    np.testing.assert_allclose(one.probability, other.probability, rtol=1e-12)
    for region in range(len(one)):
        inside = rasterize([one.geometry[region]], values.shape) > 0
        assert (values[inside] == one.value[region]).all()
        assert one.area[region] == pytest.approx(np.diff(areas, axis=1)[inside].sum())
        assert one.probability[region] == pytest.approx(probability[inside].mean(dtype=np.float64))
        assert one.lowest[region] == probability[inside].min()


def test_without_probabilities_they_are_unknown() -> None:
    regions = found(np.ones((2, 3), np.uint8), 1)
    assert (len(regions), regions.pixels[0], regions.area[0]) == (1, 6, 6)
    assert np.isnan([regions.probability[0], regions.lowest[0]]).all()


def test_a_map_without_regions() -> None:
    assert len(found(np.zeros((5, 4), np.uint8), 2)) == 0


def test_a_hole_that_touches_another_at_a_corner_is_a_ring_of_its_own() -> None:
    values = np.ones((4, 4), np.uint8)
    values[1, 1] = values[2, 2] = 0
    (shape,) = found(values, 2).geometry
    assert len(shape.interiors) == 2


def test_open_regions_alone_are_kept_between_bands() -> None:
    finder = RegionFinder(4)
    first = np.array([[1, 0, 2, 2], [0, 0, 2, 0]], np.uint8)
    assert finder.add(first, first > 0).value.tolist() == [1]
    assert finder.open == 1
    second = np.array([[0, 0, 0, 0]], np.uint8)
    assert finder.add(second, second > 0).value.tolist() == [2]
    assert finder.open == 0
    assert len(finder.finish()) == 0


@settings(max_examples=200)
@given(MAPS, st.integers(1, 14), st.booleans())
def test_all_polygons_form_a_valid_coverage(values: NDArray[np.uint8], height: int, diagonal: bool) -> None:
    geometry = found(values, height, diagonal).geometry
    assert shapely.coverage_is_valid(geometry)
    assert shapely.area(shapely.union_all(geometry)) == (values > 0).sum()

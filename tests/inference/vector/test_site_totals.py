"""Totals of sites: equal to the areas of the map, to exactextract, and to each other in all reference systems."""

from typing import Any

import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio import Affine

from inference.common.areas import pixel_areas
from inference.output.summary import ClassCounter
from inference.vector.site_totals import SiteRow, SiteTotals
from tests.inference.vector.site_files import NORTH_UP, map_header, sites_of

DEGREES = Affine(1.5e-6, 0, -127.5, 0, -1e-6, 52.1)
ROTATED = NORTH_UP @ Affine.rotation(30)


def totals(
    sites: Any,
    header: Any,
    values: Any,
    invalid: Any = None,
    probability: Any = None,
    *,
    classes: int = 3,
    background: int | None = 0,
    rows: int = 512,
) -> list[SiteRow]:
    """Return the totals of sites, of a map that comes in blocks of rows."""
    found = SiteTotals(sites, header, classes, background)
    for row in range(0, header.height, rows):
        block = slice(row, row + rows)
        found.add(
            row,
            values[block],
            None if invalid is None else invalid[block],
            None if probability is None else probability[block],
        )
    return found.rows()


def random_map(height: int, width: int, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, (height, width)).astype(np.uint8)
    invalid, probability = rng.random((height, width)) < 0.2, rng.random((height, width)).astype(np.float32)
    values[invalid], probability[invalid] = 255, np.nan
    return values, invalid, probability


@pytest.mark.parametrize(
    ("transform", "crs"), [(NORTH_UP, "EPSG:32609"), (DEGREES, "EPSG:4326"), (ROTATED, "EPSG:3857")]
)
@pytest.mark.parametrize("valid", [True, False])
def test_a_site_around_the_whole_map_has_the_areas_of_the_map(transform: Affine, crs: str, valid: bool) -> None:
    header = map_header(700, 1100, transform, crs)
    values, invalid, probability = random_map(700, 1100)
    if valid:
        values, invalid = np.where(invalid, 1, values).astype(np.uint8), None
        probability = np.nan_to_num(probability)
    counter = ClassCounter(3, header.crs, header.transform, header.width)
    for row in (0, 512):
        counter.add(row, values[row : row + 512], None if invalid is None else invalid[row : row + 512])
    exact, larger = shapely.box(0, 0, 1100, 700), shapely.box(-50.3, -20, 1200, 800.7)
    for row in totals(sites_of(exact, larger), header, values, invalid, probability):
        assert counter.areas is not None
        assert row.classes == pytest.approx(counter.areas.tolist(), rel=1e-9)
        assert row.pixels == pytest.approx(counter.pixels.sum(), rel=1e-12)
        areas = pixel_weights(header)
        inside = (values > 0) & (True if invalid is None else ~invalid)
        assert row.probability == pytest.approx(np.average(probability[inside], weights=areas[inside]), rel=1e-9)
        assert sum(row.classes) + row.invalid + row.outside == pytest.approx(row.area, rel=1e-7)
        lost = 0 if invalid is None else areas[invalid].sum()
        assert row.invalid == pytest.approx(lost, rel=1e-9)
    assert totals(sites_of(exact), header, values, invalid)[0].outside == pytest.approx(0, abs=1e-9)


def pixel_weights(header: Any) -> Any:
    """Return the ground area of each pixel, from cells of 64 x 512 pixels."""
    rows, cols = (
        np.append(np.arange(0, length, step), length) for length, step in ((header.height, 64), (header.width, 512))
    )
    areas = pixel_areas(header.crs, header.transform, rows.astype(float), cols.astype(float))
    assert areas is not None
    return np.repeat(np.repeat(areas, np.diff(rows), axis=0), np.diff(cols), axis=1)


def blobs(rng: np.random.Generator, count: int, size: float) -> list[Any]:
    """Return polygons with holes, some of them beyond a square."""
    found = []
    for _ in range(count):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
        at = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(0.2, 0.5, (40, 1)) * size
        at += rng.uniform(0, size, 2)
        found.append(shapely.make_valid(shapely.Polygon(at)).difference(shapely.Point(at.mean(axis=0)).buffer(7.3)))
    return found


def test_areas_are_those_of_exactextract() -> None:
    size = 640
    header = map_header(size, size)
    values, invalid, probability = random_map(size, size, 3)
    shapes = blobs(np.random.default_rng(3), 8, size)
    weights = np.where(invalid, 0, pixel_weights(header))
    layers = [weights * (values == value) for value in range(3)]
    layers += [pixel_weights(header) * invalid, np.where(values > 0, weights * np.nan_to_num(probability), 0)]
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.transform(shape, lambda at: [0, size] + at * [1, -1])),
            "properties": {},
        }
        for shape in shapes
    ]
    sums = np.array(
        [
            [
                read["properties"]["sum"]
                for read in exact_extract(NumPyRasterSource(layer, 0, 0, size, size), features, "sum")
            ]
            for layer in layers
        ]
    )
    found = totals(sites_of(*shapes), header, values, invalid, probability)
    np.testing.assert_allclose(np.transpose([row.classes for row in found]), sums[:3], rtol=1e-6)
    assert [row.invalid for row in found] == pytest.approx(sums[3].tolist(), rel=1e-6)
    assert [row.probability for row in found] == pytest.approx((sums[4] / sums[1:3].sum(axis=0)).tolist(), rel=1e-6)
    assert any(row.outside > 1 for row in found)
    for row in found:
        assert row.unmapped == pytest.approx((row.invalid + row.outside) / row.area)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([64, 128, 192, 512]))
def test_totals_do_not_depend_on_the_height_of_blocks(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(number) for number in rng.integers(1, 700, 2))
    header = map_header(height, width)
    values, invalid, probability = random_map(height, width, seed)
    sites = sites_of(*blobs(rng, 3, max(height, width)))
    weights = pixel_weights(header)
    one = totals(sites, header, values, invalid, probability, rows=rows)
    other = totals(sites, header, values, invalid, probability, rows=704)
    for a, b in zip(one, other, strict=True):
        assert a.classes == pytest.approx(b.classes, rel=1e-9, abs=1e-12)
        assert a.pixels == pytest.approx(b.pixels, rel=1e-12, abs=1e-12)
        assert a.probability == pytest.approx(b.probability, rel=1e-9, nan_ok=True)
        assert sum(a.classes) + a.invalid + a.outside == pytest.approx(a.area, rel=1e-7, abs=1e-9)
        assert 0 <= a.unmapped <= 1
        assert sum(a.classes) <= weights.sum() * (1 + 1e-9)


def test_a_part_of_a_site_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    header, shapes = map_header(600, 700), blobs(np.random.default_rng(1), 3, 600)
    content = random_map(600, 700)
    expected = totals(sites_of(*shapes), header, *content)
    monkeypatch.setattr("inference.vector.site_totals._AT_ONCE", 1000)
    for row, other in zip(totals(sites_of(*shapes), header, *content), expected, strict=True):
        assert row.classes == pytest.approx(other.classes, rel=1e-12)
        assert row.pixels == pytest.approx(other.pixels, rel=1e-12)


def test_a_pixel_counts_by_its_share() -> None:
    header = map_header(4, 4)
    values = np.zeros((4, 4), np.uint8)
    values[1, 1], values[1, 2] = 1, 2
    probability = np.full((4, 4), 0.1, np.float32)
    probability[1, 1], probability[1, 2] = 0.5, 1
    (row,) = totals(sites_of(shapely.box(1.75, 1, 2.5, 1.5)), header, values, None, probability)
    pixel = pixel_weights(header)[0, 0]
    assert row.classes == pytest.approx((0, 0.125 * pixel, 0.25 * pixel), rel=1e-9)
    assert row.pixels == pytest.approx(0.375)
    assert row.probability == pytest.approx((0.125 * 0.5 + 0.25) / 0.375)
    assert row.area == pytest.approx(0.375 * pixel, rel=1e-6)
    assert row.unmapped == row.invalid == 0
    assert row.outside == 0


def test_areas_of_pixels_differ_across_a_coarse_map() -> None:
    """Pixels of 100 m, whose ground area grows by some thousandths from one side of a map to the other."""
    header = map_header(300, 2100, Affine(100, 0, 600_000, 0, -100, 5_800_000))
    weights = pixel_weights(header)
    assert np.ptp(weights) > 1e-3 * weights.mean()
    shape = shapely.box(1300, 70, 2050, 290)
    (row,) = totals(sites_of(shape), header, np.ones((300, 2100), np.uint8))
    assert row.classes == pytest.approx((0, weights[70:290, 1300:2050].sum(), 0), rel=1e-12)
    assert row.classes[1] == pytest.approx(row.area, rel=1e-4)


def test_probabilities_that_are_not_known() -> None:
    header, site = map_header(4, 4), sites_of(shapely.box(0, 0, 4, 4))
    nothing, kelp = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    half = np.full((4, 4), 0.5, np.float32)
    assert np.isnan(totals(site, header, kelp)[0].probability)
    assert np.isnan(totals(site, header, nothing, None, half)[0].probability), "background alone"
    assert totals(site, header, nothing, None, half, background=None)[0].probability == 0.5


def test_sites_outside_and_without_area() -> None:
    header, values = map_header(4, 4), np.ones((4, 4), np.uint8)
    outside, empty, inside = totals(
        sites_of(shapely.box(9, 9, 11, 11), shapely.Polygon(), shapely.box(0, 0, 2, 2)), header, values
    )
    assert (outside.classes, outside.pixels, outside.unmapped) == ((0, 0, 0), 0, 1)
    assert outside.outside == outside.area == pytest.approx(0.04, rel=1e-2)
    assert empty.area == 0
    assert np.isnan(empty.unmapped)
    assert inside.pixels == 4


def test_reference_systems_agree() -> None:
    """The same ground at 52 degrees north, mapped in three reference systems."""
    ground = shapely.Point(562_030, 5_721_970).buffer(20)
    found = []
    for crs, step in (("EPSG:32609", 0.1), ("EPSG:3857", 0.16), ("EPSG:4326", 1.2e-6)):
        there = Transformer.from_crs("EPSG:32609", crs, always_xy=True)
        placed = shapely.transform(ground, lambda at, there=there: np.column_stack(there.transform(*at.T)))
        left, bottom, right, top = placed.bounds
        header = map_header(
            int((top - bottom) / step) + 2, int((right - left) / step) + 2, Affine(step, 0, left, 0, -step, top), crs
        )
        site = shapely.transform(placed, lambda at, t=header.transform: np.column_stack(~t @ (at[:, 0], at[:, 1])))
        row = totals(sites_of(site), header, np.ones((header.height, header.width), np.uint8))[0]
        assert row.classes[1] == pytest.approx(row.area, rel=1e-6)
        found.append(row.classes[1])
    # UTM overstates no area here by more than 0.1 %.
    assert found == pytest.approx([ground.area] * 3, rel=1e-3)
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)

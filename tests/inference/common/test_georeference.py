"""Georeferences that the Earth doesn't have."""

import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

from inference.common.areas import georeference_problem, ground_sample_distance

LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "transform", "problem"),
    [
        ("EPSG:4326", from_origin(5e5, 5.8e6, 0.1, 0.1), "the Earth has no place at x 500000 to 500010"),
        ("EPSG:4326", from_origin(-128, 95, 1e-6, 1e-6), "y 94.9999 to 95 degrees, in EPSG:4326"),
        ("EPSG:4269", from_origin(-128, 95, 1e-6, 1e-6), "in EPSG:4269"),
        ("EPSG:4326", from_origin(-128, -95, 1e-6, 1e-6), "the Earth has no place"),
        ("EPSG:32609", from_origin(-128, 52, 1e-6, 1e-6), "look like degrees, but EPSG:32609 has lengths"),
        ("EPSG:32609", from_origin(5e7, 5.8e6, 0.1, 0.1), "EPSG:32609 has no place at x 50000000"),
        ("EPSG:3005", from_origin(1e9, 1e9, 0.1, 0.1), "EPSG:3005 has no place at"),
        ("EPSG:32609", Affine(0.1, 0, 5e5, 0.1, 0, 5.8e6), "its pixels have no extent"),
    ],
)
def test_wrong(crs: str, transform: Affine, problem: str) -> None:
    found = georeference_problem(CRS.from_user_input(crs), transform, 100, 100)
    assert found is not None
    assert problem in found
    assert ground_sample_distance(CRS.from_user_input(crs), transform, 100, 100) is None


@pytest.mark.parametrize(
    ("crs", "transform", "size"),
    [
        ("EPSG:32609", from_origin(5e5, 5.8e6, 0.1, 0.1), (100, 100)),
        ("EPSG:32609", from_origin(1.2e6, 5.8e6, 0.1, 0.1), (100, 100)),  # of the next zone but one
        (
            "EPSG:4326",
            from_origin(-180.125, 90.125, 0.25, 0.25),
            (721, 1440),
        ),  # a global grid with centres on the poles
        ("EPSG:4326", from_origin(179.9999, 52, 1e-6, 1e-6), (100, 1000)),
        ("EPSG:4326", from_origin(359, 52, 1e-6, 1e-6), (100, 1000)),
        ("EPSG:3857", from_origin(2.0037e7, 6.8e6, 0.1, 0.1), (100, 9000)),
        ("EPSG:3413", from_origin(0, 0, 10, 10), (100, 100)),  # at the pole
        (LOCAL, from_origin(0, 0, 0.1, 0.1), (100, 100)),
        ("EPSG:32609", Affine.identity(), (100, 100)),
        (None, from_origin(5e5, 5.8e6, 0.1, 0.1), (100, 100)),
    ],
)
def test_sound(crs: str | None, transform: Affine, size: tuple[int, int]) -> None:
    given = None if crs is None else CRS.from_wkt(crs) if crs == LOCAL else CRS.from_user_input(crs)
    assert georeference_problem(given, transform, *size) is None

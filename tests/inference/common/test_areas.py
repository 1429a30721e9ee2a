"""Ground areas, against geodesic ones."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from inference.common.areas import ground_sample_distance, pixel_areas
from inference.output.summary import ClassCounter
from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx


def geodesic(crs: CRS, transform: Affine, row: float, col: float, side: float) -> float:
    """m² of a square of pixels."""
    corners = [(col, row), (col + side, row), (col + side, row + side), (col, row + side)]
    to = Transformer.from_crs(crs.to_wkt(), 4326, always_xy=True)
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(
        *to.transform(*zip(*(transform @ c for c in corners), strict=True))
    )
    return abs(area)


@pytest.mark.parametrize(
    ("epsg", "origin", "pixel"),
    [
        (32609, (5e5, 5.8e6), 0.05),
        (32609, (2e5, 5.8e6), 0.05),
        (3857, (-1.4e7, 6.8e6), 0.05),
        (3857, (3.6e6, 39135.0), 10.0),
        (4326, (-128.0, 52.0), 1e-6),
        (4326, (179.99999, -80.0), 1e-6),
        (3005, (1.0e6, 6e5), 0.1),
        (2193, (1.7e6, 5.4e6), 0.1),
    ],
)
@pytest.mark.parametrize("rotation", [0, 30])
def test_pixel_areas_are_geodesic(epsg: int, origin: tuple[float, float], pixel: float, rotation: float) -> None:
    crs = CRS.from_epsg(epsg)
    transform = from_origin(*origin, pixel, pixel) @ Affine.rotation(rotation)
    rows, cols = np.array([0.0, 100, 350]), np.array([50.0, 150])
    found = pixel_areas(crs, transform, rows, cols)
    assert found is not None
    assert found.shape == (2, 1)
    assert found[0, 0] * 1e4 == pytest.approx(geodesic(crs, transform, 0, 50, 100), rel=1e-5)


@pytest.mark.parametrize("degrees", [0.5, 1.0, 2.0, 90.0])
def test_the_whole_earth(degrees: float) -> None:
    """A cell that goes all around has one meridian for both sides."""
    height, width = round(180 / degrees), round(360 / degrees)
    transform = from_origin(-180, 90, degrees, degrees)
    found = pixel_areas(CRS.from_epsg(4326), transform, np.array([0.0, height]), np.array([0.0, width]))
    assert found is not None
    assert found[0, 0] * height * width == pytest.approx(4 * np.pi * 6371007.181**2, rel=1e-8)  # authalic radius
    part = pixel_areas(CRS.from_epsg(4326), transform, np.array([0.0, height / 2]), np.array([0.0, width * 0.7]))
    assert part is not None
    assert part[0, 0] == pytest.approx(found[0, 0], rel=1e-8)


def test_a_projected_map_of_the_whole_earth() -> None:
    edge, half = 6378137 * np.pi, np.array([0.0, 256])
    found = pixel_areas(CRS.from_epsg(3857), from_origin(-edge, edge, edge / 128, edge / 128), half, half)
    band = Geod(ellps="WGS84").polygon_area_perimeter(
        [0, 1, 1, 0], [-85.0511287798, -85.0511287798] + [85.0511287798] * 2
    )
    # A degree of it, all of whose meridians and parallels are nearly straight on the ellipsoid.
    assert found is not None
    assert found[0, 0] * 256**2 == pytest.approx(360 * abs(band[0]), rel=1e-4)


def test_no_area_without_a_place_on_the_earth() -> None:
    edges = np.array([0.0, 10])
    assert pixel_areas(None, from_origin(0, 0, 1, 1), edges, edges) is None
    assert pixel_areas(CRS.from_epsg(32609), Affine.identity(), edges, edges) is None
    local = CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]')
    assert pixel_areas(local, from_origin(0, 0, 1, 1), edges, edges) is None
    assert ground_sample_distance(None, from_origin(0, 0, 1, 1), 10, 10) is None


@pytest.mark.parametrize(
    ("epsg", "origin", "pixel"),
    [(3857, (3628312, 39135), 0.0746), (4326, (-128, 52), 1e-6), (32609, (5e5, 5.8e6), 0.1)],
)
def test_the_ground_sample_distance_is_that_of_the_middle(epsg: int, origin: tuple[float, float], pixel: float) -> None:
    crs, transform = CRS.from_epsg(epsg), from_origin(*origin, pixel, pixel)
    expected = np.sqrt(geodesic(crs, transform, 250, 200, 100)) / 100
    assert ground_sample_distance(crs, transform, 500, 400) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("epsg", [32609, 32608, 3857, 4326, 3005, 3979, 2193])
@pytest.mark.parametrize("side", [0.01, 0.1, 2.0, 10.0])
@pytest.mark.parametrize("rotation", [0, 30])
def test_the_ground_sample_distance_is_geodesic(epsg: int, side: float, rotation: float) -> None:
    lon, lat = (172.0, -41.0) if epsg == 2193 else (-128.9, 52.0)
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    unit = side / 111_000 if epsg == 4326 else side
    crs, transform = CRS.from_epsg(epsg), from_origin(x, y, unit, unit) @ Affine.rotation(rotation)
    # Geod's own rounding shows in the area of a square metre, so the square that it measures is never that small.
    square = 100 if side > 0.01 else 10_000
    first_row, first_col = 550 - square / 2, 350 - square / 2
    expected = np.sqrt(geodesic(crs, transform, first_row, first_col, square)) / square
    assert ground_sample_distance(crs, transform, 1000, 600) == pytest.approx(expected, rel=1e-6)


def test_the_same_ground_has_the_same_area_in_any_crs(tmp_path: Path) -> None:
    """A disc of 150 m at 52 degrees north, drawn into mosaics in UTM, web Mercator and degrees."""
    model = write_onnx(tmp_path / "m.onnx", card(bands=1, mean=[0.5], std=[0.1]), seed=1)
    place, radius = (-128.1, 52.0), 150.0
    aeqd = f"+proj=aeqd +lon_0={place[0]} +lat_0={place[1]} +ellps=WGS84"
    for epsg in (4326, 3857, 32609):
        to = Transformer.from_crs(aeqd, epsg, always_xy=True)
        (x0, x1), (y0, y1) = ((min(v), max(v)) for v in to.transform([-170, 170, -170, 170], [-170, -170, 170, 170]))
        transform = from_origin(x0, y1, (x1 - x0) / 800, (y1 - y0) / 700)
        col, row = np.meshgrid(np.arange(800) + 0.5, np.arange(700) + 0.5)
        x, y = to.transform(*(transform @ (col, row)), direction="INVERSE")
        pixels = np.where(np.hypot(x, y) < radius, 255, 0).astype(np.uint8)[None]
        source = write_raster(tmp_path / f"{epsg}.tif", pixels, crs=f"EPSG:{epsg}", transform=transform)
        summary = predict(source, tmp_path / f"{epsg}_map.tif", model=model)
        with rasterio.open(tmp_path / f"{epsg}_map.tif") as file:
            disc = summary.classes[int(file.read(1)[350, 400])]
        assert disc.area == pytest.approx(np.pi * radius**2, rel=1e-3)


def test_a_class_counter_counts_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (700, 1100)).astype(np.uint8)
    invalid = rng.random((700, 1100)) < 0.2
    crs, transform = CRS.from_epsg(3857), from_origin(-1.4e7, 6.8e6, 50, 50)  # coarse: areas differ from row to row
    counter = ClassCounter(3, crs, transform, 1100)
    for row in (0, 512):
        part = np.s_[row : row + 512]
        counter.add(row, values[part], invalid[part])
    rows = pixel_areas(crs, transform, np.arange(701.0), np.array([0.0, 1100]))
    assert rows is not None
    assert counter.areas is not None
    for number in range(3):
        found = (values == number) & ~invalid
        assert counter.pixels[number] == found.sum()
        assert counter.areas[number] == pytest.approx((found * rows).sum(), rel=1e-5)
    assert counter.invalid == invalid.sum()

"""Labels of polygons equal what GDAL burns into the whole mosaic, from files in any CRS, in strips of any height."""

import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio import Affine
from rasterio.features import rasterize

from inference.common.raster import Header, read_header
from inference.common.vector import VectorLayer, read_layer
from tests.conftest import write_raster
from train.preparation.burn import Burner
from train.preparation.label_files import write_labels
from train.preparation.polygons import classes_of, label_polygons

HEIGHT, WIDTH = 61, 47
NORTH_UP = Affine(0.1, 0, 562_000, 0, -0.1, 5_722_000)
SOUTH_UP = Affine(0.25, 0, 562_000, 0, 0.25, 5_722_000)
ROTATED = NORTH_UP @ Affine.rotation(33) @ Affine.scale(1, 1.7)
TRANSFORMS = {"north up": NORTH_UP, "south up": SOUTH_UP, "rotated": ROTATED}


def shapes() -> list[Any]:
    """Return polygons in pixel coordinates: holes, parts, slivers, corners on the centres of pixels, many corners."""
    rng = np.random.default_rng(3)
    angle = np.linspace(0, 2 * np.pi, 1500)[:-1]
    star = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(3, 25, (len(angle), 1)) + (24, 30)
    spiral = np.concatenate([np.linspace(2, 20, 700), np.linspace(18, 1, 700)])
    turn = np.concatenate([np.linspace(0, 20, 700), np.linspace(20, 0, 700)])
    coil = np.column_stack([24 + spiral * np.cos(turn), 30 + spiral * np.sin(turn)])
    return [
        shapely.Polygon(star),
        shapely.make_valid(shapely.Polygon(coil)),
        shapely.Polygon(shapely.box(2.5, 3.5, 20.5, 30.5).exterior.coords, [[(5.5, 5.5), (12.5, 5.5), (9, 20.5)]]),
        shapely.MultiPolygon(
            [shapely.box(30, 2, 31, 50), shapely.box(33.5, 2.5, 45.5, 9.5), shapely.box(40, 40, 99, 99)]
        ),
        shapely.Polygon([(1, 40.2), (46, 40.4), (46, 40.6)]),
        shapely.box(10.1, 50.1, 10.4, 50.4),
        shapely.box(10.4, 52.4, 10.6, 52.6),
        shapely.Polygon([(5.5, 42.5), (10.5, 47.5), (5.5, 52.5), (0.5, 47.5)]),
        shapely.box(-50, 55.5, 200, 57.5),
    ]


def placed(geometries: Any, transform: Affine, crs: str = "EPSG:32609") -> NDArray[Any]:
    """Move polygons from pixel coordinates to a CRS, with points close enough to keep the course of edges."""
    if crs != "EPSG:32609":
        geometries = shapely.segmentize(geometries, 2)
    convert = Transformer.from_crs("EPSG:32609", crs, always_xy=True)
    return np.asarray(
        shapely.transform(
            np.array(geometries, object), lambda at: np.column_stack(convert.transform(*(transform @ at.T)))
        )
    )


def image(folder: Path, transform: Affine) -> Header:
    pixels = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    return read_header(write_raster(folder / "image.tif", pixels, transform=transform, crs="EPSG:32609"))


def layer_file(path: Path, geometries: Any, crs: str = "EPSG:32609") -> VectorLayer:
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(shapely.force_3d(geometries, 12.0)),
        field_data=[np.array(["kelp"] * len(geometries), object)],
        fields=["species"],
        geometry_type="Unknown",
        layer="kelp",
        crs=crs,
    )
    return read_layer(path, columns=["species"])


def labels(layer: VectorLayer, header: Header, height: int) -> NDArray[np.uint8]:
    classes = classes_of(layer, None, {"*": 1})
    polygons = label_polygons(layer, classes, header)
    upwards = header.transform.determinant < 0
    burner = Burner(header.height, header.width, polygons.geometries, polygons.classes, upwards=upwards)
    rows = range(0, header.height, height)
    return np.concatenate([burner.rows(row, min(height, header.height - row)) for row in rows])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the image and the layer of each transform and CRS; each is written once."""
    made: dict[tuple[str, str], tuple[Header, VectorLayer]] = {}

    def make(name: str, crs: str) -> tuple[Header, VectorLayer]:
        if (name, crs) not in made:
            folder = tmp_path_factory.mktemp("labels")
            geometries = placed(shapes(), TRANSFORMS[name], crs)
            made[name, crs] = image(folder, TRANSFORMS[name]), layer_file(folder / "kelp.gpkg", geometries, crs)
        return made[name, crs]

    return make


@pytest.mark.parametrize("height", [*range(1, 12), 16, 37, 60, HEIGHT])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_pixel_differs_in_the_crs_of_the_image(files: Any, name: str, height: int) -> None:
    header, layer = files(name, "EPSG:32609")
    expected = rasterize(list(layer.geometries), (HEIGHT, WIDTH), transform=TRANSFORMS[name])
    assert 0.2 < expected.mean() < 0.8
    np.testing.assert_array_equal(labels(layer, header, height), expected)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32610", "EPSG:3857"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_in_another_crs_only_pixels_at_outlines_may_differ(files: Any, name: str, crs: str) -> None:
    header, layer = files(name, crs)
    expected = rasterize(shapes(), (HEIGHT, WIDTH))
    found = labels(layer, header, HEIGHT)
    np.testing.assert_array_equal(labels(layer, header, 9), found)
    rows, cols = np.nonzero(found != expected)
    outlines = shapely.union_all(shapely.boundary(shapes()))
    assert shapely.distance(shapely.points(cols + 0.5, rows + 0.5), outlines).max(initial=0) < 0.1
    assert 0 < len(rows) < 250  # corners and edges that were drawn on the centres of pixels


NUMBERS = st.one_of(st.integers(-10, 120).map(lambda number: number / 2), st.floats(-5, 65, allow_nan=False))
RINGS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=9)


@pytest.mark.parametrize("many", [3, 500])
@settings(max_examples=60, deadline=None)
@given(
    rings=st.lists(RINGS, min_size=1, max_size=4),
    height=st.integers(1, HEIGHT),
    name=st.sampled_from(["north up", "south up"]),
)
def test_no_pixel_differs_for_any_polygons(files: Any, many: int, rings: Any, height: int, name: str) -> None:
    header, _ = files(name, "EPSG:32609")
    drawn = [part for ring in rings for part in shapely.get_parts(shapely.make_valid(shapely.Polygon(ring)))]
    geometries = placed([part for part in drawn if part.area > 0], TRANSFORMS[name])
    geometries = geometries[shapely.is_valid(geometries)]
    layer = VectorLayer("kelp.gpkg", "kelp", geometries, {}, "EPSG:32609")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    if len(geometries):
        expected = rasterize(list(geometries), (HEIGHT, WIDTH), transform=TRANSFORMS[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.preparation.outlines._MANY_POINTS", many)
        np.testing.assert_array_equal(labels(layer, header, height), expected)


def test_a_polygon_of_an_arc(tmp_path: Path) -> None:
    """Compare with the distance of the centre of each pixel from that of a circle, in a curved GeoPackage geometry."""
    header = image(tmp_path, NORTH_UP)
    layer_file(tmp_path / "kelp.gpkg", placed([shapely.box(4, 10, 44, 50)], NORTH_UP))
    circle = np.array([[4, 30], [24, 10], [44, 30], [24, 50], [4, 30]])
    curve = (
        bytes.fromhex("010A00000001000000010800000005000000")
        + np.column_stack(NORTH_UP @ circle.T).astype("<f8").tobytes()
    )
    with sqlite3.connect(tmp_path / "kelp.gpkg") as file:
        (blob,) = file.execute("select geom from kelp").fetchone()
        header_size = 8 + {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}[blob[3] >> 1 & 7]
        for (trigger,) in file.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            file.execute(f'drop trigger "{trigger}"')
        file.execute("update kelp set geom = ?", (blob[:header_size] + curve,))
    found = labels(read_layer(tmp_path / "kelp.gpkg"), header, 7)
    rows, cols = np.indices(found.shape) + 0.5
    distance = np.hypot(cols - 24, rows - 30)
    clear = np.abs(distance - 20) > 0.1
    np.testing.assert_array_equal(found[clear] == 1, (distance < 20)[clear])


@pytest.mark.skipif(shutil.which("gdal_rasterize") is None, reason="needs gdal_rasterize")
def test_the_file_equals_that_of_gdal_rasterize(files: Any, tmp_path: Path) -> None:
    header, layer = files("north up", "EPSG:32609")
    polygons = label_polygons(layer, classes_of(layer, None, {"*": 1}), header)
    burner = Burner(HEIGHT, WIDTH, polygons.geometries, polygons.classes)
    counts = write_labels(tmp_path / "ours.tif", header, burner.rows, ["background", "kelp"], lambda: None)
    with rasterio.open(header.path) as src:
        west, south, east, north = src.bounds
    extent = ["-te", *map(repr, (west, south, east, north)), "-ts", str(WIDTH), str(HEIGHT)]
    command = ["gdal_rasterize", "-q", "-burn", "1", "-ot", "Byte", *extent, layer.path, str(tmp_path / "gdal.tif")]
    subprocess.run(command, check=True)
    with rasterio.open(tmp_path / "ours.tif") as ours, rasterio.open(tmp_path / "gdal.tif") as theirs:
        np.testing.assert_array_equal(ours.read(1), theirs.read(1))
        assert (ours.crs, ours.transform, ours.nodata) == (rasterio.crs.CRS.from_epsg(32609), NORTH_UP, 255)
        assert counts.classes.tolist() == np.bincount(theirs.read(1).ravel()).tolist()

"""Polygons of maps: the same as GDAL's, with areas that are those of the pixels, valid whatever is asked for."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.features import shapes

from inference.common.targets import VECTOR_SUFFIXES
from inference.vector import class_map
from inference.vector.polygonize import polygonize
from tests.inference.vector.maps import UTM, patches, read_polygons, write_map, write_polygons

NAMES = ["background", "macro", "nereo"]


def pixels(geometry: Any, transform: Affine = UTM) -> Any:
    """Return geometries of a map in pixel coordinates."""
    inverse = ~transform
    return shapely.transform(np.array(geometry), lambda at: np.column_stack(inverse @ at.T))


def test_polygons_of_a_whole_map_are_those_of_gdal(tmp_path: Path) -> None:
    values = patches(300, 200, 3, 0)
    invalid = patches(300, 200, 2, 1, smooth=8) == 1
    values[invalid] = 255
    polygonize(write_map(tmp_path / "m.tif", values, nodata=255), tmp_path / "m.gpkg", class_names=NAMES)
    found = read_polygons(tmp_path / "m.gpkg")
    expected = [(shapely.geometry.shape(s), int(v)) for s, v in shapes(values, np.isin(values, [1, 2]), 4, UTM)]

    def form(geometry: Any) -> Any:
        return shapely.normalize(shapely.simplify(shapely.normalize(geometry), 0)).wkt

    ours = sorted(zip(map(form, found.geometry), found["class"], strict=True))
    assert len(ours) > 100
    assert ours == sorted((form(geometry), value) for geometry, value in expected)
    assert found["pixels"].tolist() == np.rint(found.area / 0.01).astype(int).tolist()
    assert found["id"].tolist() == list(range(1, len(found) + 1))


@settings(max_examples=25, phases=[Phase.generate], deadline=None)
@given(
    seed=st.integers(0, 10**6),
    simplify=st.sampled_from([0.0, 0.7, 1.0, 3.0]),
    connectivity=st.sampled_from([4, 8]),
    min_area=st.sampled_from([0.0, 0.05, 0.5]),
    fill_holes=st.sampled_from([0.0, 0.05, 0.5]),
    cut=st.sampled_from([None, "erase", "clip"]),
    classes=st.sampled_from([None, ["1"], ["0", "2"]]),
)
def test_polygons_are_valid_and_neither_overlap_nor_gape(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: str | None, **options: Any
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(seed)
    height, width = rng.integers(3, 120, 2)
    values = patches(height, width, 3, seed, smooth=float(rng.choice([0.0, 0.6, 1.5])))
    transform = UTM @ Affine.rotation(float(rng.choice([0, 20])))
    if cut is not None:
        angle = np.sort(rng.uniform(0, 2 * np.pi, 7))
        reach = rng.uniform(0.1, 0.6) * max(height, width)
        star = shapely.Polygon(np.column_stack([width / 2 + reach * np.cos(angle), height / 2 + reach * np.sin(angle)]))
        if not star.buffer(0).intersects(shapely.box(0, 0, width, height)):
            return
        options[cut] = write_polygons(folder / "mask.gpkg", [star], transform)
    polygonize(write_map(folder / "m.tif", values, transform=transform), folder / "m.gpkg", **options)
    found = read_polygons(folder / "m.gpkg")
    assert shapely.is_valid(found.geometry).all()
    assert shapely.coverage_is_valid(np.array(found.geometry))
    placed = pixels(found.geometry, transform)
    assert shapely.area(placed).sum() == pytest.approx(shapely.area(shapely.union_all(placed)), abs=1e-5)
    # Without a simplification no pixel moves: what is written is what the map has there.
    if not options["simplify"] and not options["fill_holes"] and not options["min_area"] and cut is None:
        assert found.groupby("class")["pixels"].sum().to_dict() == {
            value: int((values == value).sum())
            for value in map(int, options["classes"] or [1, 2])
            if (values == value).any()
        }


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32609"])
def test_areas_are_those_of_the_table_and_of_the_ground(tmp_path: Path, crs: str) -> None:
    values = patches(400, 700, 3, 3)
    grid = geopandas.GeoSeries([shapely.box(-128.0, 52.0, -127.99, 52.005)], crs="EPSG:4326").to_crs(crs)
    left, bottom, right, top = grid.total_bounds
    transform = Affine((right - left) / 700, 0, left, 0, (bottom - top) / 400, top)
    summary = polygonize(write_map(tmp_path / "m.tif", values, crs, transform), tmp_path / "m.gpkg")
    found = read_polygons(tmp_path / "m.gpkg")
    for total in summary.classes[1:]:
        own = found[found["class"] == total.value]
        assert own["area_m2"].sum() == pytest.approx(total.area, rel=1e-9)
        assert own["pixels"].sum() == total.pixels
    # Independent of our areas: an equal-area projection, and geodesics, by PROJ.
    assert found["area_m2"].sum() == pytest.approx(found.to_crs("EPSG:3005").area.sum(), rel=1e-3)
    geod = found.crs.get_geod()
    degrees = found.to_crs("EPSG:4326")
    area, length = zip(*(geod.geometry_area_perimeter(shape) for shape in degrees.geometry.iloc[:40]), strict=True)
    # Within a cell of 64 rows, here 64 m, all pixels are taken to have one area.
    assert found["area_m2"].iloc[:40].tolist() == pytest.approx(np.abs(area), rel=3e-5)
    holes = [sum(geod.geometry_length(ring) for ring in shape.interiors) for shape in degrees.geometry.iloc[:40]]
    shells = [geod.geometry_length(shape.exterior) for shape in degrees.geometry.iloc[:40]]
    assert found["perimeter_m"].iloc[:40].tolist() == pytest.approx(np.add(shells, holes), rel=1e-4)
    assert len(length) == 40


def test_the_recipe_by_hand(tmp_path: Path) -> None:
    """Polygonize, measure in BC Albers, delete what is below 0.2 m², erase a mask: as it is done in QGIS today."""
    values = (patches(300, 400, 4, 5, smooth=1.2) == 3).astype(np.uint8)
    path = write_map(tmp_path / "m.tif", values)
    angle = np.arange(0, 2 * np.pi, 0.3)
    mask = [
        shapely.Polygon(np.column_stack([150 + 90 * np.cos(angle), 130 + 60 * np.sin(angle)])),
        shapely.box(250.3, 10.2, 380.9, 290.1),
    ]
    eelgrass = write_polygons(tmp_path / "eelgrass.gpkg", mask)

    drawn = [shapely.geometry.shape(shape) for shape, _ in shapes(values, values > 0, 4, UTM)]
    steps = geopandas.GeoDataFrame(geometry=drawn, crs="EPSG:32609")
    steps = steps[steps.to_crs("EPSG:3005").area >= 0.2]
    steps = steps.overlay(geopandas.read_file(eelgrass), how="difference")

    summary = polygonize(path, tmp_path / "m.gpkg", min_area=0.2, erase=eelgrass)
    found = read_polygons(tmp_path / "m.gpkg")
    assert 50 < len(found) == len(steps)
    assert found.union_all().symmetric_difference(steps.union_all()).area < 1e-6
    ours = found.assign(x=found.centroid.x, y=found.centroid.y).sort_values(["y", "x"])
    theirs = steps.assign(x=steps.centroid.x, y=steps.centroid.y).sort_values(["y", "x"])
    assert ours.area.tolist() == pytest.approx(theirs.area.tolist(), abs=1e-6)
    assert ours["area_m2"].tolist() == pytest.approx(theirs.to_crs("EPSG:3005").area.tolist(), rel=1e-3)
    assert any(line.startswith("erased: parts of ") for line in summary.lines)


def test_attributes(tmp_path: Path) -> None:
    values = np.zeros((70, 600), np.uint8)
    values[2:4, 2:5], values[60:68, 500:600] = 1, 2
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], values.shape).astype(np.float32).transpose(2, 0, 1)
    tags = {
        "CLASS_NAMES": '{"0": "background", "1": "macro", "2": "nereo"}',
        "MODEL": "kelp",
        "MODEL_REVISION": "2",
        "MOSAIC": "site.tif",
        "TIFFTAG_DATETIME": "2026:07:31 10:00:00",
    }
    path = write_map(tmp_path / "m.tif", values, tags=tags)
    polygonize(path, tmp_path / "m.gpkg", probabilities=write_map(tmp_path / "p.tif", p))
    found = read_polygons(tmp_path / "m.gpkg")
    assert found["name"].tolist() == ["macro", "nereo"]
    assert found["class"].tolist() == [1, 2]
    assert found["pixels"].tolist() == [6, 800]
    assert found["mean_probability"].tolist() == pytest.approx([p[1][values == 1].mean(), p[2][values == 2].mean()])
    assert found["lowest_probability"].tolist() == pytest.approx([p[1][values == 1].min(), p[2][values == 2].min()])
    constant = found[["image", "date", "model", "revision"]].drop_duplicates().to_numpy().tolist()
    assert constant == [["site.tif", "2026-07-31", "kelp", "2"]]
    assert found["perimeter_m"].iloc[0] == pytest.approx(1.0, rel=1e-3)
    assert found["area_m2"].iloc[0] == pytest.approx(0.06, rel=2e-3)


def test_what_is_not_known_has_no_value(tmp_path: Path) -> None:
    polygonize(write_map(tmp_path / "m.tif", np.ones((3, 4), np.uint8)), tmp_path / "m.gpkg")
    found = read_polygons(tmp_path / "m.gpkg")
    for column in ("mean_probability", "lowest_probability", "image", "date", "model", "revision"):
        assert found[column].isna().all(), column


def test_dissolved_features_have_the_sums(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", patches(200, 200, 3, 7))
    polygonize(path, tmp_path / "all.gpkg")
    polygonize(path, tmp_path / "one.gpkg", dissolve=True)
    parts, whole = read_polygons(tmp_path / "all.gpkg"), read_polygons(tmp_path / "one.gpkg")
    assert whole["class"].tolist() == [1, 2]
    assert shapely.is_valid(whole.geometry).all()
    sums = parts.groupby("class")[["area_m2", "perimeter_m", "pixels"]].sum()
    np.testing.assert_allclose(whole[["area_m2", "perimeter_m", "pixels"]], sums)
    for value, shape in zip(whole["class"], whole.geometry, strict=True):
        assert shape.equals(parts[parts["class"] == value].union_all())


def test_areas_and_lengths_do_not_depend_on_the_simplification(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", patches(200, 150, 3, 9))
    box = write_polygons(tmp_path / "box.gpkg", [shapely.box(20.5, 30.25, 120, 160)])
    polygonize(path, tmp_path / "exact.gpkg", clip=box, fill_holes=0.05)
    polygonize(path, tmp_path / "simple.gpkg", clip=box, fill_holes=0.05, simplify=1.0)
    exact, simple = read_polygons(tmp_path / "exact.gpkg"), read_polygons(tmp_path / "simple.gpkg")
    known = exact.set_index(exact["area_m2"].round(9).astype(str) + exact["perimeter_m"].round(9).astype(str)).index
    assert len(exact) >= len(simple) > 20
    for area, length in zip(simple["area_m2"], simple["perimeter_m"], strict=True):
        assert str(round(area, 9)) + str(round(length, 9)) in known
    assert shapely.get_num_coordinates(simple.geometry).sum() < 0.7 * shapely.get_num_coordinates(exact.geometry).sum()
    inside = shapely.box(*(UTM @ (20.5, 160)), *(UTM @ (120, 30.25)))
    assert simple.union_all().difference(inside.buffer(1e-6)).area == 0


@pytest.mark.parametrize("rows", [64, 128, 512])
def test_the_height_of_bands_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    path = write_map(tmp_path / "m.tif", patches(300, 120, 3, 11))
    polygonize(path, tmp_path / "a.gpkg", simplify=1.0, min_area=0.02, fill_holes=0.1)
    before = read_polygons(tmp_path / "a.gpkg")
    monkeypatch.setattr(class_map, "ROWS", rows)
    monkeypatch.setattr("inference.vector.polygon_writer.BAND", min(rows, 64))
    polygonize(path, tmp_path / "a.gpkg", simplify=1.0, min_area=0.02, fill_holes=0.1, overwrite=True)
    after = read_polygons(tmp_path / "a.gpkg")
    assert len(before) == len(after) > 50
    key = ["class", "pixels", "perimeter_m"]
    one, other = (each.sort_values([*key, "area_m2"]).reset_index(drop=True) for each in (before, after))
    np.testing.assert_allclose(one["area_m2"], other["area_m2"], rtol=1e-12)
    assert before.union_all().symmetric_difference(after.union_all()).area == 0


@pytest.mark.parametrize("suffix", VECTOR_SUFFIXES)
def test_the_same_map_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    path = write_map(tmp_path / "m.tif", patches(100, 120, 3, 13))
    contents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        polygonize(path, tmp_path / folder / f"m{suffix}")
        contents.append({file.name: file.read_bytes() for file in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1]
    if suffix == ".shp":
        assert tuple(contents[0]["m.dbf"][1:4]) == (100, 1, 1), "the day of the table is not the day of the run"

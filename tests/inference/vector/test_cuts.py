"""Erased and clipped areas: the same as GeoPandas's, however large the mask is."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from inference.common.errors import UserError
from inference.common.raster import read_header
from inference.common.vector import read_layer
from inference.vector import cuts
from inference.vector.cuts import Mask
from inference.vector.polygonize import polygonize
from tests.inference.vector.maps import UTM, patches, read_polygons, write_map, write_polygons


def coast(width: float, height: float, points: int, seed: int = 0) -> shapely.Polygon:
    """Return a rough outline with many points."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    reach = 0.35 + 0.1 * np.sin(5 * angle) + rng.uniform(-0.02, 0.02, points)
    return shapely.Polygon(
        np.column_stack([width * (0.5 + reach * np.cos(angle)), height * (0.5 + reach * np.sin(angle))])
    )


@pytest.mark.parametrize("how", ["erase", "clip"])
@pytest.mark.parametrize("cell", [16, 64, 1024])
def test_cuts_are_those_of_geopandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, cell: int) -> None:
    monkeypatch.setattr(cuts, "CELL", cell)
    path = write_map(tmp_path / "m.tif", patches(140, 200, 3, 3))
    shape = coast(200, 140, 700)
    mask = write_polygons(tmp_path / "mask.gpkg", [shape, shapely.box(10.3, 20.7, 60.1, 90.9), shapely.box(0, 0, 2, 2)])
    polygonize(path, tmp_path / "all.gpkg")
    polygonize(path, tmp_path / "cut.gpkg", **{how: mask})
    whole, found = read_polygons(tmp_path / "all.gpkg"), read_polygons(tmp_path / "cut.gpkg")
    area = geopandas.read_file(mask)[["geometry"]].dissolve()
    expected = whole.overlay(area, how="difference" if how == "erase" else "intersection", keep_geom_type=True)
    assert len(found) == len(expected) > 20
    assert found.union_all().symmetric_difference(expected.union_all()).area < 1e-5
    assert found["area_m2"].sum() == pytest.approx(
        expected.area.sum() * (whole["area_m2"].sum() / whole.area.sum()), rel=1e-6
    )
    assert found["pixels"].sum() == pytest.approx(expected.area.sum() / 0.01, rel=0.01)


def test_erased_and_kept_make_the_whole(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", patches(140, 200, 3, 3))
    mask = write_polygons(tmp_path / "mask.gpkg", [coast(200, 140, 90)])
    outside = polygonize(path, tmp_path / "o.gpkg", erase=mask)
    inside = polygonize(path, tmp_path / "i.gpkg", clip=mask)
    areas = [read_polygons(tmp_path / name)["area_m2"].sum() for name in ("o.gpkg", "i.gpkg")]
    assert sum(areas) == pytest.approx(sum(total.area for total in outside.classes[1:]), rel=1e-7)
    assert "erased: parts of" in str(outside)
    assert "clipped: parts of" in str(inside)


def test_polygons_that_a_mask_does_not_meet_are_the_same(tmp_path: Path) -> None:
    header = read_header(write_map(tmp_path / "m.tif", patches(140, 200, 3, 3)))
    mask = Mask(read_layer(write_polygons(tmp_path / "mask.gpkg", [shapely.box(50, 50, 60, 60)])), header)
    shapes = np.array([shapely.box(0, 0, 10, 10), shapely.box(52, 52, 55, 55), shapely.box(40, 40, 52, 52)])
    erased, clipped = mask.erase(shapes), mask.clip(shapes)
    assert erased[0] is shapes[0]
    assert [shapely.area(each) for each in erased] == [100, 0, 140]
    assert clipped[1] is shapes[1]
    assert [shapely.area(each) for each in clipped] == [0, 9, 4]


def test_a_mask_in_degrees_with_an_invalid_outline(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", np.ones((100, 100), np.uint8))
    bow = shapely.Polygon([(20, 20), (60, 60), (60, 20), (20, 60)])
    placed = shapely.transform(bow, lambda at: np.column_stack(UTM @ at.T))
    mask = tmp_path / "mask.gpkg"
    geopandas.GeoDataFrame(geometry=[placed], crs="EPSG:32609").to_crs("EPSG:4326").to_file(mask)
    summary = polygonize(path, tmp_path / "cut.gpkg", erase=mask)
    assert read_polygons(tmp_path / "cut.gpkg").area.sum() == pytest.approx(100 - 8, rel=1e-4)
    assert any("1 invalid polygons were repaired" in notice for notice in summary.notices)


def test_a_mask_elsewhere_is_refused(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", np.ones((100, 100), np.uint8))
    mask = write_polygons(tmp_path / "mask.gpkg", [shapely.box(500, 500, 600, 600)])
    with pytest.raises(UserError, match="none of its polygons lies on"):
        polygonize(path, tmp_path / "cut.gpkg", erase=mask)
    assert not (tmp_path / "cut.gpkg").exists()

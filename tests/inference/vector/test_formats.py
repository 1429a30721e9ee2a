"""Files of polygons: every format has the same features, and empty maps make empty layers."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely

from inference.common.targets import VECTOR_SUFFIXES
from inference.vector.formats import FORMATS, SHORT_NAMES, zoom_levels
from inference.vector.polygonize import polygonize
from tests.inference.vector.maps import patches, read_polygons, write_map


def test_every_suffix_has_a_format() -> None:
    assert tuple(FORMATS) == VECTOR_SUFFIXES


@pytest.mark.parametrize("suffix", VECTOR_SUFFIXES)
def test_every_format_has_the_same_features(tmp_path: Path, suffix: str) -> None:
    path = write_map(tmp_path / "m.tif", patches(60, 80, 3, 1))
    polygonize(path, tmp_path / "a.gpkg", class_names=["background", "macro", "Nereocystis luetkeana é"])
    polygonize(path, tmp_path / f"b{suffix}", class_names=["background", "macro", "Nereocystis luetkeana é"])
    expected, found = read_polygons(tmp_path / "a.gpkg"), read_polygons(tmp_path / f"b{suffix}")
    found = found.rename(columns={short: name for name, short in SHORT_NAMES.items()})
    # PMTiles cuts polygons at the edges of its tiles.
    found = found.drop_duplicates("id").sort_values("id").reset_index(drop=True)
    for column in ("id", "class", "name", "pixels"):
        assert found[column].tolist() == expected[column].tolist()
    for column in ("area_m2", "perimeter_m"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-9)
    assert found["mean_probability"].isna().all() if "mean_probability" in found else suffix == ".pmtiles"
    if suffix != ".pmtiles":
        # GeoJSON is in degrees, rounded to 0.1 mm.
        off = found.to_crs(expected.crs).geometry.hausdorff_distance(expected.geometry)
        assert off.max() < 2e-3
        assert shapely.coverage_is_valid(np.array(found.geometry))
    assert sorted(each.suffix for each in tmp_path.glob("b.*")) == sorted(
        {suffix} | ({".shx", ".dbf", ".prj", ".cpg"} if suffix == ".shp" else set())
    )


def test_geojson_is_as_its_rfc_wants(tmp_path: Path) -> None:
    polygonize(write_map(tmp_path / "m.tif", np.ones((3, 4), np.uint8)), tmp_path / "m.geojson")
    content = json.loads((tmp_path / "m.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert "crs" not in content
    (feature,) = content["features"]
    ring = feature["geometry"]["coordinates"][0]
    assert shapely.LinearRing(ring).is_ccw  # right-hand rule of RFC 7946, section 3.1.6
    assert -129.1 < ring[0][0] < -128.9
    assert 51.4 < ring[0][1] < 51.5


@pytest.mark.parametrize("suffix", VECTOR_SUFFIXES)
def test_a_map_without_polygons_makes_an_empty_layer(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"m{suffix}"
    target.write_text("an older result")
    summary = polygonize(write_map(tmp_path / "m.tif", np.zeros((3, 4), np.uint8)), target, overwrite=True)
    assert summary.lines[0] == "polygons: 0 (0.0 m²)"
    if suffix == ".pmtiles":
        assert summary.lines[1] == f"{target}: not written, as vector tiles can't be empty"
        assert summary.paths == []
        assert not target.exists()
    else:
        assert summary.paths == [str(target)]
        assert len(pyogrio.raw.read(target, layer="m")[2]) == 0


def test_shapefiles_replace_all_their_parts(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", patches(60, 80, 2, 1))
    polygonize(path, tmp_path / "m.shp")
    (tmp_path / "m.qix").write_text("a stale index")
    polygonize(path, tmp_path / "m.shp", min_area=1, overwrite=True)
    assert not (tmp_path / "m.qix").exists()
    assert (read_polygons(tmp_path / "m.shp")["area_m2"] >= 1).all()


def test_tiles_resolve_a_pixel_at_their_deepest_level() -> None:
    # A tile of 4,096 steps is 40,075 km / 2^z wide at level z: 0.15 m a step at 16, 0.037 m at 18.
    assert zoom_levels(0.05) == {"MINZOOM": "10", "MAXZOOM": "18"}
    assert zoom_levels(0.0001) == {"MINZOOM": "14", "MAXZOOM": "22"}
    assert zoom_levels(20_000) == {"MINZOOM": "0", "MAXZOOM": "0"}
    assert zoom_levels(float("nan"))["MAXZOOM"] == "22"


def test_styles_of_qgis(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", patches(30, 40, 3, 1))
    polygonize(path, tmp_path / "p.gpkg", class_names=["background", "macro", "a & b"], qgis_style=True)
    (qml,) = pyogrio.raw.read(tmp_path / "p.gpkg", layer="layer_styles", columns=["styleQML"])[3][0]
    for text in (qml, (tmp_path / "m.qml").read_text()):
        assert "#009e73" in text.lower() or "0,158,115" in text
        assert 'label="a &amp; b"' in text
        assert "background" not in text

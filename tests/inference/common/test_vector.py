"""Reading of vector layers: all formats alike, and one clear line for every fault."""

import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from inference.common.errors import UserError
from inference.common.vector import column_types, read_layer, value_text

SQUARE = shapely.box(500_000, 5_700_000, 500_010, 5_700_010)


def write(
    path: Path, geometries: list[Any], crs: str | None = "EPSG:32609", layer: str = "kelp", **columns: Any
) -> Path:
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(geometries, object), include_srid=False),
        field_data=[np.array(values) for values in columns.values()],
        fields=list(columns),
        layer=layer,
        geometry_type="Unknown",
        crs=crs,
        append=path.exists(),
    )
    return path


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.shp"])
def test_formats_are_read_alike(tmp_path: Path, name: str) -> None:
    kind = "Polygon" if name.endswith("shp") else "Unknown"
    pyogrio.raw.write(
        tmp_path / name,
        geometry=shapely.to_wkb([SQUARE, shapely.transform(SQUARE, lambda at: at + 20)]),
        field_data=[np.array([1, 2]), np.array(["x", "é"], object)],
        fields=["number", "species"],
        geometry_type=kind,
        crs="EPSG:32609",
    )
    layer = read_layer(tmp_path / name, columns=["species", "number"])
    # FlatGeobuf keeps features in the order of its index.
    read = zip(layer.columns["number"].tolist(), layer.columns["species"].tolist(), strict=True)
    assert sorted(read) == [(1, "x"), (2, "é")]
    assert shapely.area(layer.geometries) == pytest.approx([100, 100])
    assert layer.crs == "EPSG:32609"


def test_a_zipped_shapefile(tmp_path: Path) -> None:
    pyogrio.raw.write(
        tmp_path / "a.shp",
        geometry=shapely.to_wkb([SQUARE]),
        field_data=[np.array([1])],
        fields=["number"],
        geometry_type="Polygon",
        crs="EPSG:32609",
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for part in tmp_path.glob("a.[!z]*"):
            archive.write(part, part.name)
    assert len(read_layer(tmp_path / "a.zip").geometries) == 1


def test_nulls_and_empties_are_counted_and_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [None, shapely.Polygon(), SQUARE], number=[1, 2, 3])
    layer = read_layer(path, columns=["number"])
    assert (layer.nulls, layer.empties, layer.columns["number"].tolist()) == (1, 1, [3])


def test_heights_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [shapely.force_3d(SQUARE, 7.0)], number=[1])
    assert not shapely.has_z(read_layer(path).geometries).any()


def test_a_layer_is_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE], layer="one", number=[1])
    write(path, [SQUARE, SQUARE], layer="two", number=[1, 2])
    assert len(read_layer(path, "two").geometries) == 2
    with pytest.raises(UserError, match=r'has several layers: "one", "two" \(choose one with areas_layer\)'):
        read_layer(path, option="areas_layer")
    with pytest.raises(UserError, match=r'has no layer "three" with polygons \(it has "one", "two"\)'):
        read_layer(path, "three")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE], species=["x"], number=[1])
    with pytest.raises(UserError, match=r'layer "kelp" has no column "Species" \(it has "species", "number"\)'):
        read_layer(path, columns=["Species"])


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_layer_without_crs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fgb", [SQUARE], crs=None, number=[1])
    with pytest.raises(UserError, match=r"has no coordinate reference system .*-a_srs EPSG"):
        read_layer(path)


def test_points_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE, shapely.Point(1, 2), shapely.Point(3, 4)], number=[1, 2, 3])
    with pytest.raises(UserError, match="geometries that aren't polygons: 2 Point"):
        read_layer(path)


def test_curves_become_polygons(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE], number=[1])
    curve = (
        bytes.fromhex("010A00000001000000010800000005000000")
        + np.array([[0, 0], [1, 1], [2, 0], [1, -1], [0, 0]], "<f8").tobytes()
    )
    with sqlite3.connect(path) as file:
        blob = file.execute("select geom from kelp").fetchone()[0]
        flags = blob[3]
        header = blob[: 8 + {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}[flags >> 1 & 7]]
        file.execute("drop trigger if exists rtree_kelp_geom_update1")
        for (trigger,) in file.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            file.execute(f'drop trigger "{trigger}"')
        file.execute("update kelp set geom = ?", (header + curve,))
    (circle,) = read_layer(path).geometries
    assert circle.area == pytest.approx(np.pi, rel=2e-3)


@pytest.mark.parametrize("size", [0, 100, 40_000])
def test_a_truncated_file(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE], number=[1])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"a.gpkg: can't be read as a vector file: .*") as caught:
        read_layer(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_vector_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(UserError, match="can't be read as a vector file"):
        read_layer(tmp_path / "a.tif")
    with pytest.raises(UserError, match="no such file"):
        read_layer(tmp_path / "b.gpkg")
    with pytest.raises(UserError, match="is a folder"):
        read_layer(tmp_path)


def test_without_the_libraries_one_line_says_how_to_install_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(UserError, match="polygons need pyogrio and shapely \\(install them: pip install"):
        read_layer(tmp_path / "a.gpkg")


def test_columns_and_numbers_of_features(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE, None, SQUARE], name=np.array(["a", "b", "c"], object), n=[1, 2, 3])
    assert column_types(path) == {"name": "object", "n": "int64"}
    layer = read_layer(path, columns=["n"])
    assert layer.fids is not None
    assert layer.fids.tolist() == [1, 3]
    assert layer.columns["n"].tolist() == [1, 3]
    (tmp_path / "b.gpkg").write_text("no vector file")
    for read in (column_types, read_layer):
        with pytest.raises(UserError, match=r"b\.gpkg: can't be read as a vector file"):
            read(tmp_path / "b.gpkg")


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (float("nan"), ""), (np.float64(2), "2"), (2.5, "2.5"), (7, "7"), ("x ", "x ")]
)
def test_values_as_text(value: Any, text: str) -> None:
    assert value_text(value) == text

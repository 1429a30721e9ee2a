"""GeoPackages: styles that QGIS finds, and the same bytes for the same content."""

import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyogrio
import shapely

from inference.common.geopackage import finish, write_layer
from inference.common.palette import BLUE
from inference.common.qgis_style import Category, polygon_style

QML = polygon_style(
    '"split"',
    [Category("a & b", "<a>", BLUE), Category("c", "c", BLUE, hatched=True)],
    {"split": ["a", "c"], "used": ()},
)


def write(path: Path) -> Path:
    write_layer(
        path,
        "blocks",
        np.array([shapely.box(0, 0, 1, 1), None]),
        {"n": [1, None], "s": ["é", None], "used": [True, False]},
        "EPSG:32609",
    )
    write_layer(
        path, "blocks", np.array([shapely.box(1, 1, 2, 2)]), {"n": [3], "s": ["x"], "used": [True]}, "EPSG:32609"
    )
    write_layer(path, "settings", None, {"key": ["k"], "value": ["[1]"]})
    finish(path, {"blocks": QML})
    return path


def test_batches_and_missing_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg")
    meta, _, shapes, (number, text, used) = pyogrio.raw.read(path, layer="blocks")
    assert meta["crs"] == "EPSG:32609"
    assert shapely.area(shapely.from_wkb(shapes)).tolist()[::2] == [1, 1]
    assert np.isnan(number[1])
    assert number[[0, 2]].tolist() == [1, 3]
    assert text.tolist() == ["é", None, "x"]
    assert used.tolist() == [True, False, True]
    assert pyogrio.raw.read(path, layer="settings")[3][1].tolist() == ["[1]"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.gpkg").read_bytes() == write(tmp_path / "b.gpkg").read_bytes()


def test_the_style_is_the_layers_default(tmp_path: Path) -> None:
    with sqlite3.connect(write(tmp_path / "a.gpkg")) as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
        kinds = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall())
    assert rows == [("blocks", "geom", 1, QML)]
    assert kinds == {"blocks": "features", "settings": "attributes", "layer_styles": "attributes"}


def test_the_style_is_xml_with_its_categories() -> None:
    tree = ET.fromstring(QML.partition("\n")[2])
    assert [each.get("value") for each in tree.iter("category")] == ["a & b", "c"]
    assert [each.get("label") for each in tree.iter("category")] == ["<a>", "c"]
    assert [each.get("type") for each in tree.iter("editWidget")] == ["ValueMap", "CheckBox"]
    assert len(list(tree.iter("symbol"))) == 2

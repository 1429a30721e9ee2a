"""GeoPackages: layers written in batches, with the styles of QGIS, and the same bytes for the same content.

Layers of other formats are written by the same function, at once.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.files import check_room_left
from inference.common.vector import check_vector_path, vector_libraries

VERSION = "1.2"
"""Version of the format; GDAL before 3.7 warns of newer ones."""
_TIME = "2000-01-01T00:00:00.000Z"  # of the last change, which would differ from run to run
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT,
    f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
    owner TEXT, ui TEXT, update_time DATETIME)
"""


def write_layer(
    path: Path,
    layer: str,
    geometries: NDArray[Any] | None,
    columns: Mapping[str, Sequence[Any] | NDArray[Any]],
    crs: str | None = None,
    kind: str = "Polygon",
    driver: str = "GPKG",
    options: Mapping[str, str] | None = None,
) -> None:
    """Write features to a layer of a vector file; a GeoPackage or a layer that exists gets them in addition.

    Args:
        path: The file.
        layer: Name of the layer.
        geometries: (n,) geometries, or None for features without one; None for a table without geometries.
        columns: Values of each column, (n,) each; None, or masked, where there is no value.
        crs: CRS, an authority's code or WKT.
        kind: Type of the geometries.
        driver: Driver of OGR.
        options: Options of the layer and the data set, for the driver.

    Raises:
        OSError: The file can't be written.
        UserError: Its path has a sign that pyogrio doesn't take as it is.
    """
    pyogrio, shapely = vector_libraries()
    check_vector_path(path)
    arrays, masks = zip(*(_column(values) for values in columns.values()), strict=True)
    more: dict[str, Any] = dict(options or {})
    if driver == "GPKG":
        more["append"] = path.exists()
        if not path.exists():
            more["dataset_options"] = {"VERSION": VERSION}
    expected = 0
    # Only a feature with a geometry is in the spatial index, too.
    if driver == "GPKG" and geometries is not None and len(geometries) and _has_extent(shapely, geometries[-1]):
        expected = _last_rows(path, layer)[0] + len(geometries)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _TIME})
    try:
        pyogrio.raw.write(
            path,
            geometry=None if geometries is None else shapely.to_wkb(geometries),
            field_data=list(arrays),
            field_mask=list(masks),
            fields=list(columns),
            layer=layer,
            driver=driver,
            geometry_type=None if geometries is None else kind,
            crs=crs,
            **more,
        )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError) as error:
        raise OSError(str(error)) from None
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    # pyogrio raises no errors of the closing of a file, at which GDAL writes what it holds, and the spatial index.
    check_room_left(path.parent)
    if expected:
        last, indexed = _last_rows(path, layer)
        if last < expected or indexed != last:
            raise OSError("features, or their spatial index, got lost (the disk may have been full)")


def _has_extent(shapely: Any, geometry: Any) -> bool:
    return not (shapely.is_missing(geometry) or shapely.is_empty(geometry))


def _last_rows(path: Path, layer: str) -> tuple[int, int]:
    """Return the number of the last feature of a layer, and of the last one in its spatial index; 0 for none."""
    if not path.exists():
        return 0, 0
    found: list[int] = []
    try:
        with closing(sqlite3.connect(path)) as database:
            (column,) = database.execute(
                "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
            ).fetchone() or ("",)
            for table in (layer, f"rtree_{layer}_{column}_rowid"):
                name = table.replace('"', '""')
                exists = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
                query = f'SELECT coalesce(max(rowid), 0) FROM "{name}"'
                found.append(database.execute(query).fetchone()[0] if exists else 0)
    except sqlite3.Error as error:
        raise OSError(str(error)) from None
    return found[0], found[1]


def _column(values: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the values of a column as an array of one type, and True where there is none."""
    if isinstance(values, np.ma.MaskedArray):
        missing = np.ma.getmaskarray(values)
        return values.filled(0), missing if missing.any() else None
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values, None
    missing = np.array([value is None for value in values], np.bool_)
    known = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in known):
        return np.array(values, object), None
    kind = np.bool_ if all(isinstance(v, bool) for v in known) else np.int64
    if any(isinstance(value, float) for value in known):
        kind = np.float64
    return np.array([0 if value is None else value for value in values], kind), missing if missing.any() else None


def finish(path: Path, styles: Mapping[str, str]) -> None:
    """Add styles of QGIS to the layers of a GeoPackage, and set its times of change to a fixed one.

    Args:
        path: The file, complete but for this.
        styles: QML of each layer that has a style; QGIS uses it when it opens the layer.

    Raises:
        OSError: The file can't be written.
    """
    try:
        _finish(path, styles)
    except sqlite3.Error as error:
        raise OSError(str(error)) from None


def _finish(path: Path, styles: Mapping[str, str]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        if styles:
            database.execute(_STYLES)
            columns = dict(database.execute("SELECT table_name, column_name FROM gpkg_geometry_columns").fetchall())
            for layer, qml in styles.items():
                database.execute(
                    "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                    "styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time) "
                    "VALUES ('', '', ?, ?, ?, ?, '', 1, '', '', ?)",
                    (layer, columns.get(layer, ""), layer, qml, _TIME),
                )
            database.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
                "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
                (_TIME,),
            )
        database.execute("UPDATE gpkg_contents SET last_change = ?", (_TIME,))

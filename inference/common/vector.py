"""Vector files: polygons and columns of a layer of anything that OGR reads (GeoPackage, Shapefile, GeoJSON, ...).

pyogrio and shapely are imported when a file is read: commands that don't read polygons run without them.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.common.documents import check_regular_file
from inference.common.errors import UserError, first_line
from inference.common.paths import is_address, shown_path
from inference.common.remote import read_vector_again
from inference.common.text import quoted

INSTALL = "polygons need pyogrio and shapely (install them: pip install 'pyogrio>=0.10' 'shapely>=2.1')"
"""Message where the libraries are missing."""
LAYER_NAME = "|layername="
"""Text between a file and the name of one of its layers, as in QGIS."""
CHUNK = 5000
"""Geometries that are worked on at once, which bounds the memory of copies."""
_Found = TypeVar("_Found")
_POLYGONS = (3, 6)  # shapely's numbers of Polygon and MultiPolygon


@dataclass(frozen=True)
class VectorLayer:
    """Polygons of a layer.

    Attributes:
        path: File, as the user gave it.
        name: Name of the layer.
        geometries: (n,) Polygons and MultiPolygons in two dimensions; neither null nor empty.
        columns: Values of the columns that were asked for, (n,) each; None where there is no value.
        crs: Coordinate reference system: an authority's code, or WKT.
        nulls: Features without a geometry, which are left out.
        empties: Features with an empty geometry, which are left out.
        fids: Number of each feature in the file, (n,), as QGIS shows it; None if the layer wasn't read from a file.
    """

    path: str
    name: str
    geometries: NDArray[Any]
    columns: dict[str, NDArray[Any]]
    crs: str
    nulls: int = 0
    empties: int = 0
    fids: NDArray[np.int64] | None = None


def vector_libraries() -> tuple[Any, Any]:
    """Return the modules pyogrio and shapely.

    Raises:
        UserError: They aren't installed.
    """
    try:
        import pyogrio
        import shapely
    except ImportError as error:
        raise UserError(f"{INSTALL}; {first_line(error)}") from None
    return pyogrio, shapely


def check_vector_path(path: str | Path) -> None:
    """Check that pyogrio takes the path of a file as it is, and not for an address with signs of its own.

    Raises:
        UserError: It would read or write another file.
    """
    from pyogrio.util import vsi_path

    if not is_address(str(path)) and not vsi_path(str(path)).endswith(str(path)):
        raise UserError(
            f"{shown_path(path)}: has a sign in its path that files of polygons can't have, such as ! or ; or a line "
            "break (rename the file or the folder)"
        )


def read_layer(
    path: str | Path, layer: str | None = None, columns: Sequence[str] = (), option: str = ""
) -> VectorLayer:
    """Read the polygons of a layer.

    Args:
        path: File, zipped file or address; `FILE|layername=NAME`, as QGIS writes it, also names the layer.
        layer: Name of the layer; None if the file has a single one.
        columns: Columns to read.
        option: Option or key that chooses the layer, for error messages.

    Raises:
        UserError: The file, the layer or a column can't be read; the layer has no CRS, or has other geometries.
    """
    pyogrio, shapely = vector_libraries()
    path, layer = _split(path, layer)
    shown = shown_path(path)

    def read_file() -> tuple[Any, ...]:
        name = _layer_name(pyogrio.list_layers(path), layer, shown, option)
        info = pyogrio.read_info(path, layer=name)
        missing = [column for column in columns if column not in info["fields"]]
        if missing:
            has = ", ".join(quoted(field) for field in info["fields"]) or "none"
            raise UserError(f"{shown}: layer {quoted(name)} has no column {quoted(missing[0])} (it has {has})")
        found = pyogrio.raw.read(path, layer=name, columns=list(columns), force_2d=True, return_fids=True)
        return name, info, *found

    name, info, meta, fids, encoded, values = _read(pyogrio, path, shown, read_file)
    if not info["crs"]:
        raise UserError(
            f"{shown}: layer {quoted(name)} has no coordinate reference system (give it the one of its coordinates: "
            f"ogr2ogr -a_srs EPSG:... NEW.gpkg {Path(str(path)).name}, or in QGIS with Set Layer CRS and Export)"
        )
    geometries = _polygons(shapely, encoded, shown, name)
    null, empty = shapely.is_missing(geometries), shapely.is_empty(geometries)
    kept = ~(null | empty)
    # GDAL returns the columns in the order of the file.
    read = dict(zip(meta["fields"], values, strict=True))
    return VectorLayer(
        str(path),
        name,
        geometries[kept],
        {column: read[column][kept] for column in columns},
        info["crs"],
        int(null.sum()),
        int(empty.sum()),
        fids[kept],
    )


def column_types(path: str | Path, layer: str | None = None, option: str = "") -> dict[str, str]:
    """Return the columns of a layer, each with the name of its NumPy type; `object` for text.

    Args:
        path: File, zipped file or address.
        layer: Name of the layer; None if the file has a single one.
        option: Option or key that chooses the layer, for error messages.

    Raises:
        UserError: The file or the layer can't be read.
    """
    pyogrio, _ = vector_libraries()
    path, layer = _split(path, layer)
    shown = shown_path(path)

    def read_file() -> Any:
        return pyogrio.read_info(path, layer=_layer_name(pyogrio.list_layers(path), layer, shown, option))

    info = _read(pyogrio, path, shown, read_file)
    return dict(zip(map(str, info["fields"]), map(str, info["dtypes"]), strict=True))


@dataclass(frozen=True)
class Table:
    """Features of a layer of any geometry, or rows of a table.

    Attributes:
        columns: Values of all columns, (n,) each, in the order of the file.
        geometries: (n,) geometries in two dimensions, None where there is none; None for a table without geometries.
        crs: CRS, an authority's code or WKT; None if there is none.
    """

    columns: dict[str, NDArray[Any]]
    geometries: NDArray[Any] | None
    crs: str | None


def read_tables(path: str | Path, names: Collection[str] | None = None) -> dict[str, Table]:
    """Read the layers and tables of a vector file, such as a GeoPackage, by name.

    Args:
        path: File, zipped file or address.
        names: Layers and tables to read, if they are there; None for all.

    Raises:
        UserError: The file or one of its geometries can't be read.
    """
    pyogrio, shapely = vector_libraries()
    shown = shown_path(path)

    def read_file() -> dict[str, Table]:
        tables = {}
        for name, kind in pyogrio.list_layers(path):
            if names is not None and name not in names:
                continue
            meta, _, encoded, values = pyogrio.raw.read(path, layer=name, force_2d=True)
            try:
                geometries = None if kind is None else shapely.from_wkb(encoded)
            except shapely.errors.ShapelyError as error:
                raise UserError(
                    f"{shown}: layer {quoted(name)} has a geometry that can't be read: {first_line(error)}"
                ) from None
            tables[str(name)] = Table(dict(zip(map(str, meta["fields"]), values, strict=True)), geometries, meta["crs"])
        return tables

    return _read(pyogrio, path, shown, read_file)


def value_text(value: Any) -> str:
    """Return a value of a column as text: whole numbers without a decimal point, no value as empty."""
    if value is None or value != value:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _read(pyogrio: Any, path: str | Path, shown: str, read: Callable[[], _Found]) -> _Found:
    """Read from a vector file, several times where that fails at an address.

    Raises:
        UserError: It can't be read.
    """
    if not is_address(str(path)):
        check_regular_file(Path(path))
    check_vector_path(path)
    names = ("DataSourceError", "DataLayerError", "GeometryError", "FeatureError", "FieldError", "CRSError")
    errors = tuple(getattr(pyogrio.errors, error) for error in names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyogrio repeats GDAL's remarks on the file as warnings
            return read_vector_again(str(path), read, errors)
    except errors as error:
        # SQLite's own words name tables of the format, and no cause.
        reason = "it is damaged or cut short" if "malformed" in str(error) else first_line(error).partition(".; It")[0]
        raise UserError(
            f"{shown}: can't be read as a vector file: {reason} (the file is damaged, in use or of another "
            "kind; allowed: GeoPackage, Shapefile, GeoJSON, FlatGeobuf and other formats of OGR, zipped or not)"
        ) from None


def _split(path: str | Path, layer: str | None) -> tuple[str | Path, str | None]:
    """Return a file and the name of its layer, which may follow the file's name, as in QGIS."""
    if layer is None and LAYER_NAME in str(path):
        file, _, layer = str(path).partition(LAYER_NAME)
        return file, layer
    return path, layer


def _layer_name(layers: NDArray[Any], wanted: str | None, shown: str, option: str) -> str:
    """Return the name of the wanted layer, or of the only one that has geometries."""
    names = [str(name) for name, kind in layers if kind is not None]
    listed = ", ".join(quoted(name) for name in names) or "none"
    if wanted is not None:
        if wanted in names:
            return wanted
        raise UserError(f"{shown}: has no layer {quoted(wanted)} with polygons (it has {listed})")
    if len(names) == 1:
        return names[0]
    if not names:
        raise UserError(f"{shown}: has no layer with geometries (give a file with polygons)")
    raise UserError(
        f"{shown}: has several layers: {listed} (choose one: {option} '{shown}{LAYER_NAME}NAME')"
        if option.startswith("--")
        else f"{shown}: has several layers: {listed} (choose one with {option or 'layer'})"
    )


def _polygons(shapely: Any, encoded: NDArray[Any], shown: str, name: str) -> NDArray[Any]:
    """Decode geometries, and check that they are polygons; `encoded` is emptied."""
    geometries = np.full(len(encoded), None, object)
    try:
        for start in range(0, len(encoded), CHUNK):
            part = slice(start, start + CHUNK)
            with np.errstate(invalid="ignore"):  # corners that are NaN have their own message
                geometries[part] = shapely.from_wkb(encoded[part])
            encoded[part] = None  # so that a layer is not in memory twice
    except shapely.errors.ShapelyError as error:
        raise UserError(
            f"{shown}: layer {quoted(name)} has a geometry that can't be read: {first_line(error)} (allowed: polygons)"
        ) from None
    kinds = shapely.get_type_id(geometries)
    others = ~np.isin(kinds, _POLYGONS) & ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
    if others.any():
        found = Counter(str(geometry.geom_type) for geometry in geometries[others])
        counts = ", ".join(f"{count} {kind}" for kind, count in found.most_common())
        raise UserError(
            f"{shown}: layer {quoted(name)} has geometries that aren't polygons: {counts} (take them out, or choose "
            "another layer)"
        )
    # The bounds of a polygon leave its points without numbers out.
    at, of = shapely.get_coordinates(geometries, return_index=True)
    infinite = of[~np.isfinite(at).all(axis=1)]
    if len(infinite):
        raise UserError(
            f"{shown}: layer {quoted(name)}: polygon {infinite[0] + 1:,} has a corner with a coordinate that is nan "
            "or inf (correct or delete it)"
        )
    return geometries

"""Files of polygons: one row a format, and an output that is written in batches."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.geopackage import finish, write_layer
from inference.common.vector import vector_libraries
from inference.output.staged import StagedFile


@dataclass(frozen=True)
class Format:
    """Format of a file of polygons.

    Attributes:
        driver: Driver of OGR.
        options: Options of the layer.
        batches: True if features can be added to a file that exists.
        short_names: True if the names of columns have ten characters at most.
        empty: True if a file without features can be written.
        placed: True if the coordinates are longitude and latitude, or follow from them.
        companions: Endings of further files of the format, or of those that other programs leave beside it: suffixes in
            place of the file's own, and what is added to its name.
    """

    driver: str
    options: Mapping[str, str]
    batches: bool = False
    short_names: bool = False
    empty: bool = True
    placed: bool = False
    companions: Sequence[str] = ()

    def companion_names(self, path: Path) -> list[str]:
        """Return the names of the further files of a file."""
        return [path.stem + ending if ending.startswith(".") else path.name + ending for ending in self.companions]


FORMATS = {
    ".gpkg": Format("GPKG", {}, batches=True, companions=("-wal", "-shm", "-journal")),
    ".fgb": Format("FlatGeobuf", {}),
    # RFC 7946: longitude and latitude of WGS84; nine digits are 0.1 mm.
    ".geojson": Format("GeoJSON", {"RFC7946": "YES", "COORDINATE_PRECISION": "9", "WRITE_BBOX": "NO"}, placed=True),
    ".shp": Format(
        "ESRI Shapefile",
        # The table states a day, which would differ from run to run.
        {"ENCODING": "UTF-8", "DBF_DATE_LAST_UPDATE": "2000-01-01"},
        short_names=True,
        companions=(".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".qpj", ".qmd"),
    ),
    ".pmtiles": Format("PMTiles", {}, empty=False, placed=True),
}
"""Formats by suffix."""
SHORT_NAMES = {"perimeter_m": "perim_m", "mean_probability": "mean_prob", "lowest_probability": "low_prob"}
"""Names of columns where ten characters are allowed."""
_TILE_UNITS = 4096  # steps of the coordinates within a vector tile
_EQUATOR = 2 * math.pi * 6378137.0
_DEEPEST = 22  # zoom level, of the driver
_LEVELS = 8
_FREE_NAME = r"(?!gpkg|sqlite_|rtree_|layer_styles$)\w"  # of GeoPackages and SQLite


class PolygonFile:
    """File of polygons that is being written; other formats than GeoPackage hold all features until they are complete.

    Args:
        path: Target; its suffix chooses the format.
        overwrite: True if it may replace an existing file.
        layer: Name of the layer.
        crs: CRS of the polygons, an authority's code or WKT.
        multi: True if features may have several parts.
        style: QML of the layer, for GeoPackages.
        pixel: Side of a pixel on the ground, m, which vector tiles resolve; NaN if it isn't known.

    Raises:
        UserError: The file can't be written.
    """

    def __init__(
        self, path: Path, overwrite: bool, *, layer: str, crs: str, multi: bool, style: str, pixel: float
    ) -> None:
        self._format = FORMATS[path.suffix.lower()]
        self._layer, self._crs, self._style = layer, crs, style
        self._kind = "MultiPolygon" if multi else "Polygon"
        self._options = dict(self._format.options)
        if self._format.driver == "PMTiles":
            self._options |= {"NAME": layer, **zoom_levels(pixel)}
        self._count = 0
        self._held: list[tuple[NDArray[Any], Mapping[str, NDArray[Any]]]] = []
        self.staged = StagedFile(path, overwrite, self._format.companion_names(path))

    @property
    def written(self) -> bool:
        """True if there is a file: one of vector tiles needs a feature."""
        return self._count > 0 or self._format.empty

    def write(self, geometries: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> None:
        """Add features.

        Args:
            geometries: (n,) Polygons and MultiPolygons.
            columns: Values of each column, (n,) each; the same columns every time.
        """
        _, shapely = vector_libraries()
        self._count += len(geometries)
        if self._kind == "MultiPolygon":
            geometries = geometries.copy()
            single = shapely.get_type_id(geometries) == 3
            geometries[single] = shapely.multipolygons(geometries[single], indices=np.arange(single.sum()))
        if self._format.short_names:
            columns = {SHORT_NAMES.get(name, name): values for name, values in columns.items()}
        if self._format.batches:
            self._write(geometries, columns)
        else:
            self._held.append((geometries, columns))

    def _write(self, geometries: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> None:
        with self.staged.failing():
            write_layer(
                self.staged.file,
                self._layer,
                geometries,
                columns,
                self._crs,
                self._kind,
                driver=self._format.driver,
                options=self._options,
            )

    def complete(self) -> None:
        """Write what is held, and the style; the file keeps its temporary name."""
        if not self.written:
            return
        if self._held:
            geometries = np.concatenate([part for part, _ in self._held])
            columns = {name: joined([part[name] for _, part in self._held]) for name in self._held[0][1]}
            self._held = []
            self._write(geometries, columns)
        if self._format.driver == "GPKG":
            with self.staged.failing():
                finish(self.staged.file, {self._layer: self._style})

    def publish(self) -> None:
        """Give the file its name."""
        self.staged.publish()

    def discard(self) -> None:
        """Remove what was written."""
        self.staged.discard()


def layer_name(path: Path) -> str:
    """Return the name of the layer of a file: the file's own, as in QGIS, or one that no format reserves for itself."""
    name = path.stem
    return name if re.match(_FREE_NAME, name, re.IGNORECASE) else f"polygons_{name}"


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the values of a column, masked or not, as one array."""
    masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
    values: NDArray[Any] = (np.ma if masked else np).concatenate(parts)
    return values


def zoom_levels(pixel: float) -> dict[str, str]:
    """Return the options of vector tiles that resolve a pixel, at their deepest level.

    Args:
        pixel: Side of a pixel, m; NaN if it isn't known.
    """
    deepest = _DEEPEST
    if math.isfinite(pixel):
        deepest = min(_DEEPEST, max(0, math.ceil(math.log2(_EQUATOR / _TILE_UNITS / pixel))))
    return {"MINZOOM": str(max(0, deepest - _LEVELS)), "MAXZOOM": str(deepest)}

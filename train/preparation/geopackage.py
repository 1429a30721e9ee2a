"""The tables of a prepared data set as a GeoPackage, `dataset.gpkg`."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as to_crs

from inference.common.areas import usable_crs
from inference.common.files import write_atomically
from inference.common.geopackage import finish, write_layer
from inference.common.palette import BLUE, GREEN, ORANGE, PURPLE
from inference.common.qgis_style import Category, polygon_style
from inference.common.raster import Header
from train.configs.data import SPLITS
from train.data.overlap import rectangle_outline
from train.data.prepared import BLOCKS_TABLE, SETTINGS_TABLE, SHARE, SOURCES_TABLE, Block, PreparedSet, Settings

SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
"""Colour of each split in the map of the splits and in the overview."""
UNUSED_COLOUR = "#808080"
"""Colour of blocks that aren't selected."""
_WORLD = "EPSG:4326"
_POINTS = 4
"""Points on each side of an outline: it may be a curve in another CRS."""


def write_dataset(path: Path, prepared: PreparedSet, headers: Sequence[Header]) -> None:
    """Write `dataset.gpkg`; the file is whole or absent, and the same content gives the same bytes.

    Args:
        path: The file.
        prepared: Content.
        headers: Header of each source, in the order of the sources.

    Raises:
        OSError: The file can't be written.
    """
    of_source = dict(zip(prepared.sources, headers, strict=True))
    crs = common_crs(headers)
    names = prepared.settings.class_names

    def write(temporary: Path) -> None:
        final = temporary.with_name(f"{temporary.name}.gpkg")  # GDAL warns of other endings
        try:
            whole = [(0, 0, header.height, header.width) for header in headers]
            outlines = [outline(header, area, crs) for header, area in zip(headers, whole, strict=True)]
            write_layer(final, SOURCES_TABLE, _array(outlines), _columns(list(prepared.sources.values())), crs)
            columns = _columns(prepared.blocks, "shares")
            for index, name in enumerate(names):
                columns[share_column(index, name)] = np.array([block.shares[index] for block in prepared.blocks])
            outlines = [outline(of_source[b.source], (b.row, b.col, b.height, b.width), crs) for b in prepared.blocks]
            write_layer(final, BLOCKS_TABLE, _array(outlines), columns, crs)
            write_layer(final, SETTINGS_TABLE, None, _setting_columns(prepared.settings))
            finish(final, {SOURCES_TABLE: _source_style(), BLOCKS_TABLE: _block_style(prepared.blocks)})
            final.replace(temporary)
        finally:
            final.unlink(missing_ok=True)
            final.with_name(f"{final.name}-journal").unlink(missing_ok=True)

    write_atomically(path, write)


def share_column(index: int, name: str) -> str:
    """Return the name of the column with the share of a class."""
    return SHARE.format(index=index, name=re.sub(r"[^0-9A-Za-z]+", "_", name))


def common_crs(headers: Sequence[Header]) -> str:
    """Return the CRS of all images if they share one, else EPSG:4326."""
    known = {crs.to_wkt(): crs for header in headers if (crs := usable_crs(header)) is not None}
    if len(known) != 1:
        return _WORLD
    (crs,) = known.values()
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())


def outline(header: Header, area: tuple[int, int, int, int], crs: str) -> Any:
    """Return the outline of a rectangle of an image in a CRS; None if the image isn't georeferenced.

    Args:
        header: Header of the image.
        area: First row, first column, height and width, pixels.
        crs: Wanted CRS.
    """
    row, col, height, width = area
    if usable_crs(header) is None or header.transform.is_identity:
        return None
    at = np.array([col, row]) + rectangle_outline(_POINTS) * (width, height)
    x, y = header.transform @ (at[:, 0], at[:, 1])
    if header.crs == CRS.from_user_input(crs):
        return shapely.Polygon(np.column_stack([x, y])[::_POINTS])
    x, y = np.array(to_crs(header.crs, crs, x, y))
    if crs == _WORLD:  # a block across 180 degrees isn't a band around the Earth
        x = x[0] + (x - x[0] + 180) % 360 - 180
    return shapely.Polygon(np.column_stack([x, y]))


def _array(outlines: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(outlines), object)
    array[:] = outlines
    return array


def _columns(records: Sequence[Any], *left_out: str) -> dict[str, Any]:
    if not records:
        return {}
    kinds = get_type_hints(type(records[0]))
    names = [field.name for field in dataclasses.fields(records[0]) if field.name not in left_out]
    return {name: _typed([getattr(record, name) for record in records], kinds[name]) for name in names}


def _typed(values: Sequence[Any], kind: Any) -> Sequence[Any] | NDArray[Any]:
    """Return numbers of which some may be None as an array: a column has its type also where no value is known."""
    number = next((each for each in (int, float) if each in get_args(kind)), None)
    if number is None:
        return values
    missing = [value is None for value in values]
    return np.ma.masked_array([0 if value is None else value for value in values], missing, number)


def _setting_columns(settings: Settings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    return {"key": list(values), "value": [json.dumps(value, ensure_ascii=False) for value in values.values()]}


def _block_style(blocks: Sequence[Block]) -> str:
    """Return the style of the blocks: splits in colours, a form that offers the splits, folds in the legend's order."""
    categories = [Category(split, split, SPLIT_COLOURS[split]) for split in SPLITS]
    categories.append(Category("not selected", "not selected", UNUSED_COLOUR, 0.8, hatched=True))
    expression = 'CASE WHEN "selected" THEN "split" ELSE \'not selected\' END'
    return polygon_style(expression, categories, {"split": SPLITS, "selected": ()})


def _source_style() -> str:
    return polygon_style("'image'", [Category("image", "image", PURPLE, 0.0)])

"""One map of all maps of a batch: a virtual raster (VRT) that QGIS and GDAL open as a single layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from rasterio import Affine
from rasterio.crs import CRS

from inference.batch.entries import Entry
from inference.common.raster import GDAL_ERRORS
from inference.output.geotiff import BLOCK
from inference.output.map import NODATA, map_colours

_SAME_SIDE = 1e-6  # relative difference between sides of pixels that is rounding
_ALIGNED = 0.01  # pixels
_LARGEST = 2**31 - 1
_SHOWN = 3


class Unfit(Exception):
    """The maps can't be shown as one; the message says why."""


@dataclass(frozen=True)
class Mosaic:
    """Virtual raster of several maps.

    Attributes:
        text: Its XML.
        exact: True if the pixels of all maps are its pixels; else each map is drawn to the nearest pixel.
        left_out: Number of maps that aren't georeferenced, which it can't show.
    """

    text: str
    exact: bool
    left_out: int = 0


@dataclass(frozen=True)
class _Place:
    """Map within the mosaic: offset and size there, pixels."""

    map: Entry
    x: float
    y: float
    width: float
    height: float


def make_mosaic(maps: Sequence[Entry]) -> Mosaic:
    """Return a virtual raster of maps; where they overlap, the last in the order of their names is shown.

    Its pixels have the size of the smallest pixels.

    Args:
        maps: Maps that are done.

    Raises:
        Unfit: Their grids or their classes don't fit together.
    """
    every, maps = maps, [each for each in maps if each.transform is not None and each.crs]
    grids = _grids(maps)
    classes = {(tuple(each.class_pixels or ()), each.background) for each in maps}
    if len(classes) > 1:
        raise Unfit("the maps have different classes")
    names, background = classes.pop()
    wide, high = min(abs(grid.a) for grid in grids), min(abs(grid.e) for grid in grids)
    wide, high = math.copysign(wide, grids[0].a), math.copysign(high, grids[0].e)
    # In units of these pixels, the corners that the offsets are counted from.
    left = min(grid.c / wide for grid in grids)
    top = min(grid.f / high for grid in grids)
    places = [
        _Place(
            each,
            _near(grid.c / wide - left),
            _near(grid.f / high - top),
            _near(each.width * grid.a / wide),
            _near(each.height * grid.e / high),
        )
        for each, grid in zip(maps, grids, strict=True)
    ]
    width = math.ceil(max(place.x + place.width for place in places))
    height = math.ceil(max(place.y + place.height for place in places))
    if max(width, height) > _LARGEST:
        raise Unfit(f"together the maps are {width:,} x {height:,} pixels (allowed: {_LARGEST:,} a side)")
    exact = all(float(value).is_integer() for p in places for value in (p.x, p.y, p.width, p.height))
    corner = (left * wide, wide, 0.0, top * high, 0.0, high)
    head = [
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">',
        f"<SRS>{escape(CRS.from_user_input(maps[0].crs).to_wkt())}</SRS>",
        f"<GeoTransform>{', '.join(f'{value:.17g}' for value in corner)}</GeoTransform>",
    ]
    lines = [*head, *_band(places, names, background)]
    if background is not None:  # of invalid pixels, and of those between the maps
        lines += ["<MaskBand>", '<VRTRasterBand dataType="Byte">']
        lines += [_source(place, "mask,1", "SimpleSource", "") for place in places]
        lines += ["</VRTRasterBand>", "</MaskBand>"]
    return Mosaic("\n".join([*lines, "</VRTDataset>", ""]), exact, len(every) - len(maps))


def _grids(maps: Sequence[Entry]) -> list[Affine]:
    """Return the transforms of maps, after a check that one raster can hold them."""
    placed = [each.transform for each in maps if each.transform is not None]
    if not placed:
        raise Unfit("no map is done that is georeferenced")
    systems = list(dict.fromkeys(each.crs for each in maps))
    if len(systems) > 1:
        shown = ", ".join(name if len(name) < 20 else "one without a code" for name in systems[:_SHOWN])
        more = ", ..." if len(systems) > _SHOWN else ""
        raise Unfit(f"the maps have {len(systems):,} coordinate reference systems ({shown}{more})")
    try:
        CRS.from_user_input(systems[0])
    except GDAL_ERRORS:
        raise Unfit("the journal states no valid coordinate reference system") from None
    if any(grid.b or grid.d or not grid.a or not grid.e for grid in placed):
        raise Unfit("the grids of some maps are turned")
    if len({(grid.a > 0, grid.e > 0) for grid in placed}) > 1:
        raise Unfit("the grids of some maps are mirrored")
    if any(not (each.width and each.height) for each in maps):
        raise Unfit("the journal doesn't state the size of all maps")
    return placed


def _near(value: float) -> float:
    """Return the nearest whole number if it is close."""
    whole = round(value)
    return float(whole) if abs(value - whole) < max(_ALIGNED, _SAME_SIDE * abs(value)) else value


def _band(places: Sequence[_Place], names: Sequence[str], background: int | None) -> list[str]:
    """Return the XML of the band of classes."""
    colours = map_colours(len(names), background)
    entries = [colours.get(value, (0, 0, 0)) for value in range(max(colours) + 1)]
    own = f"<NODATA>{NODATA}</NODATA>" if background is None else "<UseMaskBand>true</UseMaskBand>"
    return [
        '<VRTRasterBand dataType="Byte" band="1">',
        *([f"<NoDataValue>{NODATA}</NoDataValue>"] if background is None else []),
        "<ColorInterp>Palette</ColorInterp>",
        "<ColorTable>",
        *(f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255"/>' for red, green, blue in entries),
        "</ColorTable>",
        "<CategoryNames>",
        *(f"<Category>{escape(name)}</Category>" for name in names),
        "</CategoryNames>",
        *(_source(place, "1", "ComplexSource", own) for place in places),
        "</VRTRasterBand>",
    ]


def _source(place: _Place, band: str, kind: str, more: str) -> str:
    """Return the XML of a map as a source of a band."""
    size = f'xSize="{place.map.width}" ySize="{place.map.height}"'
    return (
        f'<{kind}><SourceFilename relativeToVRT="1">{escape(place.map.output)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SourceProperties RasterXSize="{place.map.width}" RasterYSize="{place.map.height}" DataType="Byte" '
        f'BlockXSize="{BLOCK}" BlockYSize="{BLOCK}"/><SrcRect xOff="0" yOff="0" {size}/>'
        f'<DstRect xOff="{place.x:.17g}" yOff="{place.y:.17g}" xSize="{place.width:.17g}" '
        f'ySize="{place.height:.17g}"/>{more}</{kind}>'
    )

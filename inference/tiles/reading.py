"""Reading of a mosaic for a network: bands, divisor, nodata, resampling and tiles, from its header and the card."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.card import CardError, ModelCard
from inference.common.areas import ground_sample_distance, is_square, pixel_sides
from inference.common.bands import bands_in_order, colours_text, contradictions
from inference.common.errors import UserError
from inference.common.raster import Header
from inference.common.validity import check_nodata
from inference.options import Options
from inference.tiles.memory import check_mapping_memory
from inference.tiles.resample import resampled_size
from inference.tiles.tiling import Axis, tile_axis

GSD_TOLERANCE = 0.25
"""Relative difference between the ground sample distances of mosaic and card above which there is a notice."""


@dataclass(frozen=True)
class Reading:
    """Plan of reading a mosaic for a network.

    Attributes:
        bands: Bands, counted from 1, in the network's order.
        divisor: Value that pixels are divided by.
        nodata: Nodata value; None for no value.
        factor: Height and width of the mosaic's pixels over the side of the network's; None if the grids are the same.
        rows: Tiles from top to bottom, on the network's grid.
        cols: Tiles from left to right.
    """

    bands: tuple[int, ...]
    divisor: float
    nodata: float | None
    factor: tuple[float, float] | None
    rows: Axis
    cols: Axis


def plan_reading(header: Header, card: ModelCard, options: Options, notices: list[str]) -> Reading:
    """Return how a mosaic is read for a network, and add notices about it.

    Raises:
        UserError: The mosaic doesn't fit the network or the options, or the memory isn't enough.
    """
    bands = _bands(header, card, options, notices)
    divisor = _divisor(header, card, options)
    nodata = _nodata(header, bands, card, options, notices)
    factor = _factor(header, card, options, notices)
    tile = options.tile_size or card.tile_size
    height, width = resampled_size((header.height, header.width), factor)
    check_mapping_memory(
        header,
        bands=len(bands),
        channels=card.channels,
        tile=tile,
        batch=options.batch_size or 1,
        height=height,
        width=width,
    )
    rows, cols = tile_axis(height, tile, options.overlap), tile_axis(width, tile, options.overlap)
    return Reading(bands, divisor, nodata, factor, rows, cols)


def _bands(header: Header, card: ModelCard, options: Options, notices: list[str]) -> tuple[int, ...]:
    bands = tuple(options.bands or card.bands)
    if len(bands) != len(card.bands):
        raise UserError(f"--bands: names {len(bands)} bands, the model takes {len(card.bands)}")
    if header.palette and options.bands is None:
        raise UserError(
            f"{header.path}: its values are indices into a colour table, not colours (expand it with gdal_translate "
            "-expand rgb; to map the indices themselves: --bands 1)"
        )
    if header.pages > 1:
        notices.append(
            f"{header.path}: holds {header.pages} images, the first of which is mapped (another one: "
            f"GTIFF_DIR:2:{header.path})"
        )
    if max(bands) > header.count:
        who = "--bands asks for" if options.bands else "the model needs"
        raise UserError(
            f"{header.path}: has {header.count} bands, {who} band {max(bands)} (choose {len(bands)} of 1 to "
            f"{header.count} with --bands)"
        )
    if options.bands is None and (colours := card.band_colours) and contradictions(header, bands, colours):
        ordered = bands_in_order(header, bands, colours)
        fix = (
            "choose bands with --bands" if ordered is None else f"read them in that order with --bands {_list(ordered)}"
        )
        found = colours_text([header.colours[band - 1] for band in bands])
        raise UserError(
            f"{header.path}: bands {_list(bands)} are {found}, the model was trained on {colours_text(colours)} "
            f"({fix}; as they lie: --bands {_list(bands)})"
        )
    if alpha := [band for band in bands if band in header.alpha]:
        notices.append(
            f"{header.path}: band {alpha[0]} is marked as alpha (transparency) and is read as data (choose others with "
            "--bands)"
        )
    return bands


def _list(bands: Sequence[int]) -> str:
    return ",".join(map(str, bands))


def _divisor(header: Header, card: ModelCard, options: Options) -> float:
    if card.normalization != "standard":  # the range of the mosaic's own values
        if options.max_pixel_value is not None:
            raise UserError(f"--max-pixel-value: has no effect with normalization: {card.normalization} (leave it out)")
        return 1.0
    if options.max_pixel_value is not None:
        return options.max_pixel_value
    if card.max_pixel_value != "auto" and header.dtype != card.dtype:
        raise UserError(
            f"{header.path}: is {header.dtype}, the model was trained on {card.dtype} (say what to divide pixels by "
            f"with --max-pixel-value; for {card.dtype} it was {card.max_pixel_value:g})"
        )
    try:
        return card.divisor(header.dtype)
    except CardError as error:
        raise UserError(f"{header.path}: {error} (give it with --max-pixel-value)") from None


def _nodata(
    header: Header, bands: Sequence[int], card: ModelCard, options: Options, notices: list[str]
) -> float | None:
    if options.nodata is not None:
        if isinstance(options.nodata, str):
            return None
        check_nodata("--nodata", options.nodata, header.dtype)
        return float(options.nodata)
    values = [header.nodata[band - 1] for band in bands]
    own = values[0]
    if len({str(value) for value in values}) > 1:  # as text NaN is itself
        shown = ", ".join("none" if value is None else f"{value:g}" for value in values)
        notices.append(
            f"{header.path}: the bands' nodata values differ ({shown}); a pixel is invalid where all bands have "
            f"{'none' if own is None else f'{own:g}'} (choose another with --nodata)"
        )
    return own if own is not None else card.nodata


def _factor(header: Header, card: ModelCard, options: Options, notices: list[str]) -> tuple[float, float] | None:
    """Return height and width of the mosaic's pixels over the side of the network's; None to read the mosaic's grid."""
    trained = card.ground_sample_distance
    found = ground_sample_distance(header.crs, header.transform, header.height, header.width)
    sides = pixel_sides(header.crs, header.transform, header.height, header.width)
    if found is not None and (sides is None or is_square(sides)):
        sides = found, found
    if options.resample:
        if trained is None or sides is None:
            who = (
                "the card names no ground sample distance" if trained is None else f"{header.path} isn't georeferenced"
            )
            raise UserError(f"--resample: {who}, so there is nothing to go by (leave it out)")
        factor = sides[0] / trained, sides[1] / trained
        lengths = header.height, header.width
        same = all(round(length * by) == length for length, by in zip(lengths, factor, strict=True))
        return None if same else factor
    if trained is not None and sides is not None and any(abs(side / trained - 1) > GSD_TOLERANCE for side in sides):
        shown = f"{sides[0]:.4g} m"
        if not is_square(sides):
            shown = f"{sides[0]:.4g} m high and {sides[1]:.4g} m wide"
        notices.append(
            f"{header.path}: a pixel is {shown} on the ground, the model was trained on {trained:.4g} m (read it at "
            "the model's with --resample)"
        )
    return None

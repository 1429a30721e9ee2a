"""Where habitat-mapper's map differs from ours, and why.

The two feed a network differently in two places: beyond an image's lower and right edge habitat-mapper has black where
we have a reflection, and under nodata or a mask it has whatever the file holds where we have the card's fill value. So
our code maps a second copy of the image, black beyond its edges and with all pixels valid: what then agrees differed
for that reason. What remains is held against its one known defect: it leaves out tiles of a single value, so that
what was blended before them stays behind and shows up further on.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.card import ModelCard
from inference.common.raster import WINDOW_CACHE, environment, open_raster
from inference.predict import predict

ROUNDING = 1e-3
"""Of a probability: two ways of adding up float32 numbers may fall on both sides of a tie."""
_ROWS = 512

REASONS = {
    "edge": "near the lower or right edge: habitat-mapper has black beyond it, we have a reflection",
    "nodata": "near nodata: habitat-mapper feeds the network what the file holds there, we feed the card's fill value",
    "skipped": "near tiles of a single value, which habitat-mapper leaves out: what was blended before stays behind",
    "rounding": f"ties: the two classes are within {ROUNDING:g} of equally probable",
    "unexplained": "for no known reason",
}


@dataclass
class Difference:
    """Pixels that are valid, by how the two maps differ there.

    Attributes:
        valid: All of them.
        edge: Differ because of what lies beyond the edges.
        nodata: Differ because of what lies under nodata.
        skipped: Differ because habitat-mapper left tiles out.
        rounding: Differ by rounding.
        unexplained: Differ for no known reason.
        invalid_mapped: Invalid pixels (not of the valid ones) that habitat-mapper gives a class other than 0.
    """

    valid: int = 0
    edge: int = 0
    nodata: int = 0
    skipped: int = 0
    rounding: int = 0
    unexplained: int = 0
    invalid_mapped: int = 0

    @property
    def different(self) -> int:
        """Valid pixels that differ, whatever the reason."""
        return sum(getattr(self, reason) for reason in REASONS)

    def __iadd__(self, other: "Difference") -> "Difference":
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self


def map_as_fed(image: Path, target: Path, floats: Path, model: Path, card: ModelCard) -> None:
    """Maps what habitat-mapper feeds a network, with our code: on the grid of its tiles, which may reach beyond.

    Args:
        image: A GeoTIFF.
        target: Its map.
        floats: Its probabilities.
        model: The ONNX file.
        card: Its card.
    """
    copy = target.with_suffix(".fed.tif")
    with environment(WINDOW_CACHE), open_raster(image) as src:
        height, width = (extended(length, card.tile_size) for length in (src.height, src.width))
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "dtype": src.dtypes[0],
            "count": len(card.bands),
            "height": height,
            "width": width,
            "photometric": "minisblack",
            "alpha": "no",
            "tiled": True,
            "compress": "deflate",
            "bigtiff": "if_safer",
        }
        with open_raster(copy, mode="w", **profile) as out:
            for row in range(0, height, _ROWS):
                rows = min(_ROWS, height - row)
                pixels = np.zeros((len(card.bands), rows, width), src.dtypes[0])
                inside = min(rows, max(0, src.height - row))
                if inside:
                    window = Window(0, row, src.width, inside)
                    pixels[:, :inside, : src.width] = src.read(list(card.bands), window=window)
                out.write(pixels, window=Window(0, row, width, rows))
    predict(
        copy,
        target,
        model=model,
        probabilities=floats,
        bands=list(range(1, len(card.bands) + 1)),
        nodata="none",
        threshold=0.5 if len(card.class_names) == 2 else None,
        cog=False,
        overwrite=True,
    )
    copy.unlink()


def extended(length: int, tile: int) -> int:
    """How far tiles with half a tile between them reach over a length."""
    stride = tile // 2
    return tile if length <= tile else math.ceil((length - tile) / stride) * stride + tile


def single_valued_tiles(image: Path, card: ModelCard) -> list[tuple[int, int]]:
    """First row and column of each of habitat-mapper's tiles that holds one value only, black beyond the edges."""
    tile, found = card.tile_size, []
    with environment(WINDOW_CACHE), open_raster(image) as src:
        height, width = (extended(length, tile) for length in (src.height, src.width))
        for row in range(0, height - tile + 1, tile // 2):
            rows = min(tile, src.height - row)
            strip = src.read(list(card.bands), window=Window(0, row, src.width, rows))
            for col in range(0, width - tile + 1, tile // 2):
                part = strip[:, :, col : col + tile]
                beyond = rows < tile or part.shape[2] < tile
                if (part == part.flat[0]).all() and not (beyond and part.flat[0] != 0):
                    found.append((row, col))
    return found


def compare(
    image: Path, card: ModelCard, ours: Path, theirs: Path, fed: Path, floats: Path, picture: Path | None = None
) -> Difference:
    """Compares two maps of an image.

    Args:
        image: The GeoTIFF.
        card: The model's card.
        ours: Our map.
        theirs: habitat-mapper's.
        fed: What `map_as_fed` made.
        floats: Its probabilities.
        picture: Where to write a GeoTIFF of the reasons: 0 agree, 1 edge, 2 nodata, .. in the order of REASONS, 255
            invalid; None: nowhere.
    """
    skipped = single_valued_tiles(image, card)
    total = Difference()
    with (
        environment(WINDOW_CACHE),
        open_raster(ours) as a,
        open_raster(theirs) as b,
        open_raster(fed) as c,
        open_raster(floats) as p,
    ):
        out = None if picture is None else open_raster(picture, mode="w", **_like(a))
        for row in range(0, a.height, _ROWS):
            window = Window(0, row, a.width, min(_ROWS, a.height - row))
            valid = _valid(a, window)
            mine, his, again = (file.read(1, window=window) for file in (a, b, c))
            different = (mine != his) & valid
            reasons = np.zeros(mine.shape, np.uint8)
            # From the last reason to the first: what a better one explains is written over.
            reasons[different] = 5
            reasons[different & (_margin(p, window) < ROUNDING)] = 4
            reasons[different & _near(skipped, row, mine.shape, card.tile_size)] = 3
            as_fed = different & (again == his)
            reasons[as_fed] = 1
            reasons[as_fed & _near_invalid(a, window, card.tile_size)] = 2
            part = Difference(valid=int(valid.sum()), invalid_mapped=int((~valid & (his != 0)).sum()))
            for value, reason in enumerate(REASONS, 1):
                setattr(part, reason, int((reasons == value).sum()))
            total += part
            if out is not None:
                reasons[~valid] = 255
                out.write(reasons, 1, window=window)
        if out is not None:
            out.close()
    return total


def _like(file: Any) -> dict[str, Any]:
    keys = ("driver", "height", "width", "crs", "transform")
    return {key: file.profile[key] for key in keys} | {
        "count": 1,
        "dtype": "uint8",
        "nodata": 255,
        "compress": "deflate",
    }


def _valid(file: Any, window: Window) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = file.dataset_mask(window=window) > 0
    return valid


def _margin(floats: Any, window: Window) -> NDArray[np.float32]:
    """By how much the most probable class leads."""
    ranked = np.sort(floats.read(window=window), axis=0)
    margin: NDArray[np.float32] = ranked[-1] - ranked[-2]
    return margin


def _near(tiles: list[tuple[int, int]], row: int, shape: tuple[int, ...], tile: int) -> NDArray[np.bool_]:
    """Where something left behind at these tiles can show: in them, beside them and in the row of tiles below."""
    near = np.zeros(shape, np.bool_)
    for top, left in tiles:
        near[max(0, top - row) : max(0, top + 2 * tile - row), max(0, left - tile) : left + 2 * tile] = True
    return near


def _near_invalid(file: Any, window: Window, tile: int) -> NDArray[np.bool_]:
    """Where a tile can show something invalid."""
    top = max(0, window.row_off - tile)
    around = Window(0, top, file.width, min(file.height, window.row_off + window.height + tile) - top)
    invalid = (~_valid(file, around)).astype(np.uint8)
    # A square of 2 tile - 1: all that any tile with this pixel in it shows.
    spread = cv2.dilate(invalid, np.ones((2 * tile - 1, 1), np.uint8))
    spread = cv2.dilate(spread, np.ones((1, 2 * tile - 1), np.uint8))
    first = window.row_off - top
    near: NDArray[np.bool_] = spread[first : first + window.height] > 0
    return near

"""Differences between habitat-mapper's map and ours, each with its reason.

The two programs feed the network different pixels in two places. Beyond the lower and right edge of an image
habitat-mapper pads with zeros (black), while inference.py reflects the image. At nodata and masked pixels
habitat-mapper uses the values stored in the file, while inference.py uses the card's fill value. To test these reasons,
our code also maps a copy of the image that emulates habitat-mapper's input: padded with zeros, with all pixels valid.
Pixels where this map agrees with habitat-mapper's differed because of the input.

The remaining differences are tested against one known defect: habitat-mapper skips tiles that contain a single value,
so that values of earlier tiles remain in its blending buffer and appear further on.
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
"""Difference in probability below which float32 rounding may decide between two classes."""
_ROWS = 512

REASONS = {
    "edge": "near the lower or right edge: habitat-mapper pads with black, inference.py with a reflection",
    "nodata": "near nodata: habitat-mapper feeds the stored values to the network, inference.py the card's fill value",
    "skipped": "near tiles of a single value: habitat-mapper skips them, and values of earlier tiles remain there",
    "rounding": f"at ties: the probabilities of the two most probable classes differ by less than {ROUNDING:g}",
    "unexplained": "for no known reason",
}
"""Reasons for a difference, as text that follows "differ"."""


@dataclass
class Difference:
    """Numbers of pixels by agreement of two maps and by reason of the difference.

    Attributes:
        valid: Valid pixels.
        edge: Valid pixels that differ because of the padding beyond the edges.
        nodata: Valid pixels that differ because of the values at nodata pixels.
        skipped: Valid pixels that differ because habitat-mapper skips tiles.
        rounding: Valid pixels that differ by rounding.
        unexplained: Valid pixels that differ for no known reason.
        invalid_mapped: Invalid pixels that habitat-mapper maps as a class other than 0.
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
        """Number of valid pixels that differ, for any reason."""
        return sum(getattr(self, reason) for reason in REASONS)

    def __iadd__(self, other: "Difference") -> "Difference":
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self


def map_emulated_input(image: Path, target: Path, probabilities: Path, model: Path, card: ModelCard) -> None:
    """Map, with our code, the pixels that habitat-mapper feeds to the network.

    The copy of the image covers all of habitat-mapper's tiles and so may extend beyond the image.

    Args:
        image: GeoTIFF.
        target: Path for the map.
        probabilities: Path for the probabilities.
        model: ONNX file.
        card: Card of the model.
    """
    copy = target.with_suffix(".input.tif")
    with environment(WINDOW_CACHE), open_raster(image) as src:
        height, width = (tiled_length(length, card.tile_size) for length in (src.height, src.width))
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
        probabilities=probabilities,
        bands=list(range(1, len(card.bands) + 1)),
        nodata="none",
        threshold=0.5 if len(card.class_names) == 2 else None,
        cog=False,
        overwrite=True,
    )
    copy.unlink()


def tiled_length(length: int, tile: int) -> int:
    """Return the length that tiles with a stride of half a tile cover; at least `length`, pixels."""
    stride = tile // 2
    return tile if length <= tile else math.ceil((length - tile) / stride) * stride + tile


def single_valued_tiles(image: Path, card: ModelCard) -> list[tuple[int, int]]:
    """Return the first row and column of each of habitat-mapper's tiles, padded with zeros, that has a single value."""
    tile, found = card.tile_size, []
    with environment(WINDOW_CACHE), open_raster(image) as src:
        height, width = (tiled_length(length, tile) for length in (src.height, src.width))
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
    image: Path,
    card: ModelCard,
    ours: Path,
    theirs: Path,
    emulated: Path,
    probabilities: Path,
    reason_raster: Path | None = None,
) -> Difference:
    """Compare two maps of an image.

    Args:
        image: GeoTIFF.
        card: Card of the model.
        ours: Our map.
        theirs: Map by habitat-mapper.
        emulated: Map by `map_emulated_input`.
        probabilities: Probabilities by `map_emulated_input`.
        reason_raster: Path for a GeoTIFF of the reasons: 0 equal, 1 edge, 2 nodata and so on in the order of REASONS,
            255 invalid; None: not written.
    """
    skipped = single_valued_tiles(image, card)
    total = Difference()
    with (
        environment(WINDOW_CACHE),
        open_raster(ours) as our_file,
        open_raster(theirs) as their_file,
        open_raster(emulated) as emulated_file,
        open_raster(probabilities) as probability_file,
    ):
        out = None if reason_raster is None else open_raster(reason_raster, mode="w", **_reason_profile(our_file))
        for row in range(0, our_file.height, _ROWS):
            window = Window(0, row, our_file.width, min(_ROWS, our_file.height - row))
            valid = _valid(our_file, window)
            our_map, their_map, emulated_map = (
                file.read(1, window=window) for file in (our_file, their_file, emulated_file)
            )
            different = (our_map != their_map) & valid
            reasons = np.zeros(our_map.shape, np.uint8)
            # In ascending order of precedence: a later assignment overwrites an earlier one.
            reasons[different] = 5
            reasons[different & (_margin(probability_file, window) < ROUNDING)] = 4
            reasons[different & _near_tiles(skipped, row, our_map.shape, card.tile_size)] = 3
            from_input = different & (emulated_map == their_map)
            reasons[from_input] = 1
            reasons[from_input & _near_invalid(our_file, window, card.tile_size)] = 2
            part = Difference(valid=int(valid.sum()), invalid_mapped=int((~valid & (their_map != 0)).sum()))
            for value, reason in enumerate(REASONS, 1):
                setattr(part, reason, int((reasons == value).sum()))
            total += part
            if out is not None:
                reasons[~valid] = 255
                out.write(reasons, 1, window=window)
        if out is not None:
            out.close()
    return total


def _reason_profile(file: Any) -> dict[str, Any]:
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


def _margin(probabilities: Any, window: Window) -> NDArray[np.float32]:
    """Return the difference between the two highest class probabilities of each pixel."""
    ranked = np.sort(probabilities.read(window=window), axis=0)
    margin: NDArray[np.float32] = ranked[-1] - ranked[-2]
    return margin


def _near_tiles(tiles: list[tuple[int, int]], row: int, shape: tuple[int, ...], tile: int) -> NDArray[np.bool_]:
    """Return the pixels that skipped tiles can affect: in them, beside them and in the row of tiles below."""
    near = np.zeros(shape, np.bool_)
    for top, left in tiles:
        near[max(0, top - row) : max(0, top + 2 * tile - row), max(0, left - tile) : left + 2 * tile] = True
    return near


def _near_invalid(file: Any, window: Window, tile: int) -> NDArray[np.bool_]:
    """Return the pixels that share a tile with an invalid pixel."""
    top = max(0, window.row_off - tile)
    around = Window(0, top, file.width, min(file.height, window.row_off + window.height + tile) - top)
    invalid = (~_valid(file, around)).astype(np.uint8)
    # A square of side 2 tile - 1 is the union of all tiles that contain its centre.
    spread = cv2.dilate(invalid, np.ones((2 * tile - 1, 1), np.uint8))
    spread = cv2.dilate(spread, np.ones((1, 2 * tile - 1), np.uint8))
    first = window.row_off - top
    near: NDArray[np.bool_] = spread[first : first + window.height] > 0
    return near

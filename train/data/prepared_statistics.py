"""`statistics.json` of a prepared data set: what training would measure on the train split, measured once."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.documents import parse_json, read_json
from inference.common.errors import UserError
from inference.common.files import write_text
from inference.common.paths import Address
from inference.common.remote import web_address
from train.data.pairs import Scene
from train.data.prepared import STATISTICS, Block, PreparedSet
from train.data.remote_folder import download
from train.data.statistics import Statistics

_VERSION = 1
_PIXELS = ("pixels", "invalid", "unlabelled", "valid")
_BANDS = ("total", "squared_deviations", "low", "high")


def train_digest(prepared: PreparedSet, blocks: Iterable[Block]) -> str:
    """Return a SHA-256 of the pixels that blocks consist of: their images and rectangles, in any order."""
    lines = sorted(repr((prepared.sources[b.source].sha256, b.source, b.row, b.col, b.height, b.width)) for b in blocks)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_statistics(
    prepared: PreparedSet,
    blocks: Sequence[Block],
    numbers: Sequence[int],
    found: Statistics,
    percentiles: Mapping[float, NDArray[np.float64]] | None = None,
) -> Path:
    """Write the statistics of the train blocks, of all bands of the images but alpha, in units of the files.

    Args:
        prepared: The data set.
        blocks: Selected blocks of the train split.
        numbers: Bands that were read, counted from 1.
        found: Statistics of the blocks.
        percentiles: Values of each band, (bands,), by percentile, 0 to 100.

    Returns:
        Path of the file.
    """
    bands = [
        {"band": number, "mean": float(found.mean[band]), "std": float(found.std[band])}
        | {name: float(getattr(found, name)[band]) for name in _BANDS}
        | {"percentiles": {f"{share:g}": float(values[band]) for share, values in (percentiles or {}).items()}}
        for band, number in enumerate(numbers)
    ]
    content = {
        "version": _VERSION,
        "blocks": train_digest(prepared, blocks),
        **{name: getattr(found, name) for name in _PIXELS},
        "class_counts": [int(count) for count in found.class_counts],
        "bands": bands,
    }
    path = Path(prepared.folder) / STATISTICS
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def read_statistics(prepared: PreparedSet, scenes: Sequence[Scene], bands: Sequence[int]) -> Statistics | None:
    """Read the statistics of train blocks.

    Args:
        prepared: The data set.
        scenes: Selected blocks of the train split, or of the folds that take its place.
        bands: Bands to return, counted from 1.

    Returns:
        The statistics; None if the file is missing, damaged, of other blocks, or of other valid pixels.
    """
    blocks = [scene.block for scene in scenes if scene.block is not None]
    try:
        content = _content(prepared.folder / STATISTICS)
        if content["version"] != _VERSION or content["blocks"] != train_digest(prepared, blocks):
            return None
        if len(bands) < len(content["bands"]) and not all(_valid_in_any_band(scene) for scene in scenes):
            return None
        known = {each["band"]: each for each in content["bands"]}
        chosen = [known[band] for band in bands]
        values = [np.array([each[name] for each in chosen], np.float64) for name in _BANDS]
        pixels, invalid, unlabelled, valid = (int(content[name]) for name in _PIXELS)
        counts = np.array(content["class_counts"], np.int64)
    except (UserError, OSError, KeyError, IndexError, TypeError, ValueError):
        return None
    return Statistics(pixels, invalid, unlabelled, counts, valid, *values)


def _content(path: Path | Address) -> Any:
    """Return the content of the file; raise UserError or OSError if it can't be read."""
    if isinstance(path, Path):
        return read_json(path)
    web = web_address(str(path))
    if web is None:
        raise OSError("GDAL reads no JSON from object stores and archives")
    return parse_json(download(web), str(path))


def _valid_in_any_band(scene: Scene) -> bool:
    """Return True if the validity of a pixel doesn't depend on the bands that are read."""
    return np.dtype(scene.image.dtype).kind in "iu" and all(value is None for value in scene.image.nodata)


def class_counts(blocks: Iterable[Block]) -> NDArray[np.int64]:
    """Return the labelled, valid pixels of each class in blocks, (classes,), by the shares in their table."""
    counts = np.array([np.multiply(block.shares, block.height * block.width) for block in blocks])
    total: NDArray[np.int64] = np.rint(counts).sum(axis=0).astype(np.int64)
    return total

"""Statistics of the train blocks of a data set, `statistics.json`: measured once, and again when the blocks change."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.common.progress import progress
from inference.common.raster import Header
from train.data.pairs import Pair, Scene
from train.data.prepared import STATISTICS, PreparedSet
from train.data.prepared_statistics import read_statistics, write_statistics
from train.data.read_prepared import prepared_splits
from train.data.reader import Reader
from train.data.statistics import Statistics, blocks, measure, merge
from train.preparation.count import READERS, label_rule
from train.preparation.record import SourceRecord

PERCENTILES = (2.0, 25.0, 50.0, 75.0, 98.0)
_BINS = 4096
"""Bins between the smallest and the largest value of a band that isn't uint8; percentiles are exact to one of them."""


def write_band_statistics(
    prepared: PreparedSet, headers: Mapping[str, Header], records: Mapping[str, SourceRecord], before: Path
) -> list[str]:
    """Write `statistics.json` of the selected train blocks to the folder of a data set.

    Args:
        prepared: The data set.
        headers: Header of each image, by name.
        records: Records of the images, which know the pixels of each class in each block.
        before: Folder of an earlier version of the data set, whose file is kept if it is of the same blocks.

    Returns:
        A notice if there can be none: the images have different bands.
    """
    chosen = prepared_splits(prepared, None).get("train", [])
    every = {_bands(header) for header in headers.values()}
    kinds = {header.dtype for header in headers.values()}
    if len(every) > 1 or len(kinds) > 1:
        found = ", ".join(sorted({f"{len(_bands(h))} bands of {h.dtype}" for h in headers.values()}))
        return [f"images with {found}: there is no {STATISTICS} (training on all of them needs the same bands)"]
    (bands,) = every
    scenes = [
        Scene(Pair(Path(headers[b.source].path), prepared.label(b.source)), headers[b.source], headers[b.source], b)
        for b in chosen
    ]
    known = read_statistics(PreparedSet(before, prepared.settings, prepared.sources), scenes, bands)
    if known is not None:
        shutil.copyfile(before / STATISTICS, Path(prepared.folder) / STATISTICS)
        return []
    reader = Reader(label_rule(len(prepared.settings.class_names)), processes=READERS)
    try:
        parts, _ = measure(scenes, bands, reader, "statistics of the train blocks", labels=False)
        found_all = merge(parts, len(bands), len(prepared.settings.class_names))
        shares = percentiles(scenes, bands, reader, found_all)
    finally:
        reader.close()
    counts = np.zeros(len(prepared.settings.class_names) + 2, np.int64)
    for block in chosen:
        area = (block.row, block.row + block.height, block.col, block.col + block.width)
        counts += np.array(records[block.source].known(area), np.int64)
    found_all = replace(found_all, class_counts=counts[:-2], unlabelled=int(counts[-2]))
    write_statistics(prepared, chosen, bands, found_all, shares)
    return []


def _bands(header: Header) -> tuple[int, ...]:
    """Return the bands of an image but alpha, counted from 1."""
    return tuple(band for band in range(1, header.count + 1) if band not in header.alpha)


def percentiles(
    scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, found: Statistics
) -> dict[float, NDArray[np.float64]]:
    """Return the percentiles of each band over the valid pixels of scenes, by percentile."""
    if not found.valid:
        return {}
    whole = scenes[0].image.dtype == "uint8"
    low = np.zeros(len(bands)) if whole else found.low
    high = np.full(len(bands), 256.0) if whole else np.where(found.high > found.low, found.high, found.low + 1)
    bins = 256 if whole else _BINS
    counts = np.zeros((len(bands), bins), np.int64)
    parts = blocks(scenes)
    for number, part in progress(parts, len(parts), "percentiles of the train blocks"):
        image, invalid = reader.image(scenes[number], bands, part)
        for band in range(len(bands)):
            values = image[..., band].ravel() if invalid is None else image[..., band][~invalid]
            counts[band] += (
                np.bincount(values, minlength=256) if whole else np.histogram(values, bins, (low[band], high[band]))[0]
            )
    edges = np.linspace(low, high, bins + 1)  # (bins + 1, bands)
    result = {}
    for share in PERCENTILES:
        rank = share / 100 * counts.sum(axis=1)
        first = (np.cumsum(counts, axis=1) >= rank[:, None]).argmax(axis=1)
        middle = 0.0 if whole else (edges[1] - edges[0]) / 2
        result[share] = np.clip(edges[first, np.arange(len(bands))] + middle, found.low, found.high)
    return result

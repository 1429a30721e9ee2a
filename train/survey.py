"""What a data set holds, pixel by pixel: classes, nodata and the statistics of its bands; where the foreground lies.

Everything is streamed in blocks: the memory needed doesn't grow with the images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from train.geotiff import Reader
from train.progress import progress
from train.scenes import Scene
from train.windows import CELL, Foreground

BLOCK = 16 * CELL
"""Side of the blocks in which images are streamed, pixels."""


@dataclass
class Survey:
    """Counts and sums over the pixels of some scenes.

    Attributes:
        pixels: All pixels.
        invalid: Pixels without image: nodata, mask, alpha, NaN.
        unlabelled: Pixels with image and without label.
        classes: (classes,) pixels of each class that have an image.
        valid: Pixels with image, labelled or not: what the sums are over.
        total: (bands,) sum of pixel values, units of the file.
        squares: (bands,) sum of squared differences from the mean.
        low: (bands,) smallest value.
        high: (bands,) largest value.
    """

    pixels: int
    invalid: int
    unlabelled: int
    classes: NDArray[np.int64]
    valid: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each band over valid pixels, units of the file."""
        return self.total / max(1, self.valid)

    @property
    def std(self) -> NDArray[np.float64]:
        """Of each band over valid pixels, units of the file."""
        return np.sqrt(self.squares / max(1, self.valid))


def _blocks(scenes: Sequence[Scene]) -> list[tuple[int, Window]]:
    return [
        (i, Window(col, row, min(BLOCK, scene.width - col), min(BLOCK, scene.height - row)))
        for i, scene in enumerate(scenes)
        for row in range(0, scene.height, BLOCK)
        for col in range(0, scene.width, BLOCK)
    ]


def survey(scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, what: str) -> Survey:
    """Reads every pixel of image and label.

    Raises:
        UserError: A block that can't be decoded, or a label value that is no class.
    """
    rule = reader.rule
    none = np.zeros(len(bands))
    sums = Survey(0, 0, 0, np.zeros(rule.classes, np.int64), 0, none, none, none + np.inf, none - np.inf)
    blocks = _blocks(scenes)
    for i, part in progress(blocks, len(blocks), what):
        image, invalid = reader.image(scenes[i], bands, part)
        label = reader.label(scenes[i], part)
        valid = image.reshape(-1, len(bands)) if invalid is None else image[~invalid]
        counts = np.bincount(label.ravel() if invalid is None else label[~invalid], minlength=256)
        sums.pixels += label.size
        sums.invalid += label.size - len(valid)
        sums.unlabelled += int(counts[rule.ignore_index])
        sums.classes += counts[: rule.classes]
        if len(valid):
            _add(sums, valid.astype(np.float64))
    return sums


def _add(sums: Survey, values: NDArray[np.float64]) -> None:
    """Adds (n, bands) values; Chan, Golub and LeVeque (1979), because a sum of squares alone cancels."""
    n, total = len(values), values.sum(axis=0)
    squares = ((values - total / n) ** 2).sum(axis=0)
    if sums.valid:
        between = total / n - sums.total / sums.valid
        squares = squares + between**2 * (n * sums.valid / (n + sums.valid))
    sums.squares = sums.squares + squares
    sums.total = sums.total + total
    sums.valid += n
    sums.low = np.minimum(sums.low, values.min(axis=0))
    sums.high = np.maximum(sums.high, values.max(axis=0))


def foreground(scenes: Sequence[Scene], reader: Reader, background: int | None, what: str) -> Foreground:
    """Where labels are neither background nor ignored; reads the labels alone."""
    counts = [np.zeros((-(-s.height // CELL), -(-s.width // CELL)), np.int64) for s in scenes]
    blocks = _blocks(scenes)
    for i, part in progress(blocks, len(blocks), what):
        label = reader.label(scenes[i], part)
        wanted = label != reader.rule.ignore_index
        if background is not None:
            wanted &= label != background
        for row, col, number in _per_cell(wanted):
            counts[i][part.row_off // CELL + row, part.col_off // CELL + col] += number
    return Foreground.of_counts(counts)


def _per_cell(wanted: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
    for row in range(0, wanted.shape[0], CELL):
        for col in range(0, wanted.shape[1], CELL):
            yield row // CELL, col // CELL, int(np.count_nonzero(wanted[row : row + CELL, col : col + CELL]))

"""What a data set holds, pixel by pixel: classes, nodata and the statistics of its bands; where the foreground lies.

Everything is streamed in blocks: the memory needed doesn't grow with the images.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.errors import UserError
from inference.common.progress import progress
from train.data.pairs import Scene
from train.data.reader import Reader
from train.data.windows import Foreground

CELL = 64
"""Side of the cells in which the foreground is counted, pixels."""
POINTS = 8
"""Foreground pixels that are remembered of each cell."""
BLOCK = 16 * CELL
"""Side of the blocks in which images are streamed, pixels."""


@dataclass(frozen=True)
class Survey:
    """Counts and sums over some pixels; surveys of different pixels can be added.

    Attributes:
        pixels: All pixels.
        invalid: Pixels without image: nodata, mask, alpha, NaN.
        unlabelled: Pixels with image and without label.
        classes: (classes,) pixels of each class that have an image.
        valid: Pixels with image, labelled or not: what the following are over.
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

    @classmethod
    def empty(cls, bands: int, classes: int) -> "Survey":
        """Of no pixel at all."""
        none = np.zeros(bands)
        return cls(0, 0, 0, np.zeros(classes, np.int64), 0, none, none, none + np.inf, none - np.inf)

    def __add__(self, other: "Survey") -> "Survey":
        """Chan, Golub and LeVeque (1979), because a sum of squares alone cancels."""
        between = np.zeros_like(self.total)
        if self.valid and other.valid:
            shift = other.total / other.valid - self.total / self.valid
            between = shift**2 * (self.valid * other.valid / (self.valid + other.valid))
        return Survey(
            self.pixels + other.pixels,
            self.invalid + other.invalid,
            self.unlabelled + other.unlabelled,
            self.classes + other.classes,
            self.valid + other.valid,
            self.total + other.total,
            self.squares + other.squares + between,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each band over valid pixels, units of the file."""
        return self.total / max(1, self.valid)

    @property
    def std(self) -> NDArray[np.float64]:
        """Of each band over valid pixels, units of the file."""
        return np.sqrt(self.squares / max(1, self.valid))


def together(surveys: Iterable[Survey], bands: int, classes: int) -> Survey:
    """The survey of all pixels of these."""
    return sum(surveys, Survey.empty(bands, classes))


def survey(
    scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, what: str, labels: bool = True
) -> tuple[list[Survey], list[str]]:
    """Reads every pixel of images and, unless told otherwise, labels.

    Returns:
        A survey of each scene. And what must be mended, a line a file: what can't be decoded, labels that are no class.
    """
    found = [Survey.empty(len(bands), reader.rule.classes) for _ in scenes]
    broken: dict[tuple[int, str], str] = {}
    blocks = _blocks(scenes)
    for i, part in progress(blocks, len(blocks), what):
        image, invalid, label = None, None, None
        if (i, "image") not in broken:
            try:
                image, invalid = reader.image(scenes[i], bands, part)
            except UserError as error:
                broken[i, "image"] = str(error)
        if labels and (i, "label") not in broken:
            try:
                label = reader.label(scenes[i], part)
            except UserError as error:
                broken[i, "label"] = str(error)
        if image is not None and (label is not None or not labels):
            found[i] += _of_block(image, invalid, label, reader.rule.classes, reader.rule.ignore_index)
    return found, [broken[key] for key in sorted(broken)]


def _blocks(scenes: Sequence[Scene]) -> list[tuple[int, Window]]:
    return [
        (i, Window(col, row, min(BLOCK, scene.width - col), min(BLOCK, scene.height - row)))
        for i, scene in enumerate(scenes)
        for row in range(0, scene.height, BLOCK)
        for col in range(0, scene.width, BLOCK)
    ]


def _of_block(
    image: NDArray[Any],
    invalid: NDArray[np.bool_] | None,
    label: NDArray[np.uint8] | None,
    classes: int,
    ignore_index: int,
) -> Survey:
    valid = None if invalid is None else ~invalid
    pixels = image.shape[0] * image.shape[1]
    number = pixels if valid is None else int(np.count_nonzero(valid))
    labels = np.zeros(256, np.int64) if label is None else _histogram(label[..., None], 0, valid)
    none = Survey.empty(image.shape[2], classes)
    moments: Any = (none.total, none.squares, none.low, none.high)
    if number:
        moments = np.array([_moments(image, band, valid) for band in range(image.shape[2])]).T
    return Survey(pixels, pixels - number, int(labels[ignore_index]), labels[:classes], number, *moments)


def _moments(image: NDArray[Any], band: int, valid: NDArray[np.bool_] | None) -> tuple[float, float, float, float]:
    """Sum, sum of squared differences from the mean, smallest and largest of a band's valid pixels."""
    if image.dtype == np.uint8:
        values, weights = np.arange(256), _histogram(image, band, valid)
        values, weights = values[weights > 0], weights[weights > 0]
        total = int(values @ weights)
        return total, float((values - total / weights.sum()) ** 2 @ weights), int(values[0]), int(values[-1])
    numbers = (image[..., band] if valid is None else image[..., band][valid]).astype(np.float64).ravel()
    total = numbers.sum()
    low, high = numbers.min(), numbers.max()
    numbers -= total / numbers.size
    return total, float(numbers @ numbers), low, high


def _histogram(image: NDArray[np.uint8], band: int, valid: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Pixels of each value, shape (256,), of a band of (H, W, bands); OpenCV's, because np.bincount copies to int64."""
    mask = None if valid is None else valid.view(np.uint8)
    counts: NDArray[np.int64] = cv2.calcHist([image], [band], mask, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def foreground(scenes: Sequence[Scene], reader: Reader, background: int | None, what: str) -> Foreground:
    """Where labels are neither background nor ignored; reads the labels alone.

    Raises:
        UserError: A block that can't be decoded, or a label value that is no class.
    """
    numbers: list[int] = []
    pixels: list[int] = []
    points: list[NDArray[np.int32]] = []
    blocks = _blocks(scenes)
    for i, part in progress(blocks, len(blocks), what):
        label = reader.label(scenes[i], part)
        wanted = label != reader.rule.ignore_index
        if background is not None:
            wanted &= label != background
        rng = np.random.default_rng([i, part.row_off, part.col_off])
        for rows, cols in _cells(wanted):
            chosen = rng.integers(len(rows), size=POINTS)
            numbers.append(i)
            pixels.append(len(rows))
            points.append(np.stack([part.row_off + rows[chosen], part.col_off + cols[chosen]], axis=1).astype(np.int32))
    return Foreground(
        np.array(numbers, np.int64),
        np.cumsum(np.array(pixels, np.int64)),
        np.array(points, np.int32).reshape(-1, POINTS, 2),
    )


def _cells(wanted: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of the pixels that are wanted, cell by cell; cells without any are left out."""
    for row in range(0, wanted.shape[0], CELL):
        for col in range(0, wanted.shape[1], CELL):
            rows, cols = np.nonzero(wanted[row : row + CELL, col : col + CELL])
            if len(rows):
                yield row + rows, col + cols

"""Statistics of images and labels: pixels of each class, invalid pixels, mean and standard deviation of the bands.

Images are streamed in blocks, so that memory does not grow with their size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.errors import UserError
from inference.common.progress import progress
from inference.common.undeclared import NodataDetector
from train.data.pairs import Scene
from train.data.reader import Reader

BLOCK = 1024
"""Side of the blocks in which images are streamed, pixels."""
MOST_LABEL_PIXELS = 2**28
"""Pixels of labels that are read before training; the values of the others are checked when they are used.

Of mosaics these take about a second. Of chips a millisecond each, a quarter of what their headers take.
"""


@dataclass(frozen=True)
class Statistics:
    """Counts and moments over a set of pixels; those of disjoint sets can be added.

    Attributes:
        pixels: Number of pixels.
        invalid: Number of invalid pixels: under nodata, mask or alpha, or NaN.
        unlabelled: Number of valid pixels whose label is ignored.
        class_counts: Valid pixels of each class, (classes,).
        valid: Number of valid pixels, labelled or not; the following attributes are over these.
        total: Sum of pixel values in units of the file, (bands,).
        squared_deviations: Sum of squared differences from the mean, (bands,).
        low: Smallest value, (bands,).
        high: Largest value, (bands,).
    """

    pixels: int
    invalid: int
    unlabelled: int
    class_counts: NDArray[np.int64]
    valid: int
    total: NDArray[np.float64]
    squared_deviations: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def empty(cls, bands: int, classes: int) -> "Statistics":
        """Return the statistics of an empty set of pixels."""
        none = np.zeros(bands)
        return cls(0, 0, 0, np.zeros(classes, np.int64), 0, none, none, none + np.inf, none - np.inf)

    def __add__(self, other: "Statistics") -> "Statistics":
        """Merge two disjoint sets of pixels.

        The squared deviations are merged pairwise as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
        Algorithm for Computing Sample Variances", Stanford STAN-CS-79-773 (1979), because the difference of a sum of
        squares and a squared sum loses precision by cancellation.
        """
        between = np.zeros_like(self.total)
        if self.valid and other.valid:
            shift = other.total / other.valid - self.total / self.valid
            between = shift**2 * (self.valid * other.valid / (self.valid + other.valid))
        return Statistics(
            self.pixels + other.pixels,
            self.invalid + other.invalid,
            self.unlabelled + other.unlabelled,
            self.class_counts + other.class_counts,
            self.valid + other.valid,
            self.total + other.total,
            self.squared_deviations + other.squared_deviations + between,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each band over valid pixels in units of the file, (bands,)."""
        return self.total / max(1, self.valid)

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation of each band over valid pixels in units of the file, (bands,)."""
        return np.sqrt(self.squared_deviations / max(1, self.valid))


def merge(parts: Iterable[Statistics], bands: int, classes: int) -> Statistics:
    """Merge the statistics of disjoint sets of pixels; of none, with this number of bands and classes, too."""
    return sum(parts, Statistics.empty(bands, classes))


def measure(
    scenes: Sequence[Scene],
    bands: Sequence[int],
    reader: Reader,
    task: str,
    labels: bool = True,
    detectors: Sequence[NodataDetector] = (),
) -> tuple[list[Statistics], list[str]]:
    """Measure the statistics of every scene by reading all its pixels.

    Args:
        scenes: Scenes to read.
        bands: Bands to read, from 1.
        reader: Reader with the label rule.
        task: Description for the progress bar.
        labels: False to read the images only; then nothing is counted by class.
        detectors: Detectors of undeclared nodata, one for each scene, or none; they get all pixels.

    Returns:
        The statistics of each scene, and the problems, one line per file that can't be decoded or has a label that is
        not a class.
    """
    found = [Statistics.empty(len(bands), reader.rule.classes) for _ in scenes]
    broken: dict[tuple[int, str], str] = {}
    parts = blocks(scenes)
    for i, part in progress(parts, len(parts), task):
        image, invalid, label = None, None, None
        if (i, "image") not in broken:
            try:
                image, invalid = reader.image(scenes[i], bands, part)
                if detectors:
                    detectors[i].add(part.row_off, image.transpose(2, 0, 1), invalid, part.col_off)
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


def has_labels(scenes: Sequence[Scene], bands: Sequence[int], reader: Reader) -> bool:
    """Return True if any pixel of the scenes is labelled and valid; reads no further than the first one.

    Raises:
        UserError: A part can't be decoded, or a label value is no class.
    """
    for i, part in blocks(scenes):
        labelled = reader.label(scenes[i], part) != reader.rule.ignore_index
        if labelled.any():
            _, invalid = reader.image(scenes[i], bands, part)
            if invalid is None or (labelled & ~invalid).any():
                return True
    return False


def label_problems(scenes: Sequence[Scene], reader: Reader) -> list[str]:
    """Return the labels that hold a value of no class or can't be decoded, one line each, from a sample of all blocks.

    All blocks are read where there are up to `MOST_LABEL_PIXELS` pixels, else every second one, every third one ...
    """
    every = -(-sum(scene.height * scene.width for scene in scenes) // MOST_LABEL_PIXELS) or 1
    parts = blocks(scenes)[::every]
    problems: dict[int, str] = {}
    for i, part in progress(parts, len(parts), "checking label values"):
        if i not in problems:
            try:
                reader.label(scenes[i], part)
            except UserError as error:
                problems[i] = str(error)
    return list(problems.values())


def blocks(scenes: Sequence[Scene]) -> list[tuple[int, Window]]:
    """Return the blocks that cover each scene, at most BLOCK pixels wide and high, as (scene number, window)."""
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
) -> Statistics:
    valid = None if invalid is None else ~invalid
    pixels = image.shape[0] * image.shape[1]
    number = pixels if valid is None else int(np.count_nonzero(valid))
    labels = np.zeros(256, np.int64) if label is None else _histogram(label[..., None], 0, valid)
    none = Statistics.empty(image.shape[2], classes)
    moments: Any = (none.total, none.squared_deviations, none.low, none.high)
    if number:
        moments = np.array([_moments(image, band, valid) for band in range(image.shape[2])]).T
    return Statistics(pixels, pixels - number, int(labels[ignore_index]), labels[:classes], number, *moments)


def _moments(image: NDArray[Any], band: int, valid: NDArray[np.bool_] | None) -> tuple[float, float, float, float]:
    """Return sum, sum of squared differences from the mean, smallest and largest of a band's valid pixels."""
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
    """Count the pixels of each value, (256,), in a band of an image (H, W, bands).

    OpenCV counts in place, while np.bincount makes a copy in int64.
    """
    mask = None if valid is None else valid.view(np.uint8)
    counts: NDArray[np.int64] = cv2.calcHist([image], [band], mask, [256], [0, 256]).ravel().astype(np.int64)
    return counts

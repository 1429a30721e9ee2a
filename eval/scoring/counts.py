"""Pixel counts of a map and its labels, accumulated strip by strip.

`Counts` is a dictionary of float64 arrays that are additive over strips, images and groups of images:

    confusion (K, K) · boundary (D, B, 6) · probability (H, 4626, 2) · sums (H, 15) · area (2, K)

with K classes, D boundary distances, B classes with boundary scores and H histograms. Unknown values (ground areas of
an image without a CRS) are NaN.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.scoring import boundary, calibration
from eval.scoring.bootstrap import Counts
from eval.scoring.confusion import Floats, confusion_matrix
from inference.card import ModelCard
from inference.common.areas import ground_sample_distance
from inference.output.summary import ClassCounter

_ONE_PIXEL = 0.99  # smallest distance in pixels; scales of map projections differ from 1 by less
_MOST_PIXELS = 1000  # longest distance: rows as many are read above and below each strip
_STRIP = 256
_STRIP_PER_HALO = 4  # the rows of a halo are read twice: a strip is at least this many times as high


@dataclass(frozen=True)
class Distance:
    """Distance d of a boundary score.

    Attributes:
        value: The distance.
        unit: Pixels, or metres on the ground.
    """

    value: float
    unit: Literal["px", "m"]

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"

    def pixels(self, pixel_size: float | None) -> float | None:
        """Return the distance in pixels; None for metres if that is unknown, below a pixel, or too many."""
        if self.unit == "px":
            return self.value
        if pixel_size is None or not _ONE_PIXEL * pixel_size <= self.value <= _MOST_PIXELS * pixel_size:
            return None
        return self.value / pixel_size


@dataclass(frozen=True)
class ScoreSettings:
    """Classes of a model and the scores to compute for them.

    Attributes:
        class_names: Names of the classes, in the order of their indices.
        target: With two classes of which one is background, the index of the other: scores without a class name are
            those of this class. None: they are means over the classes present.
        distances: Distances of the boundary scores.
    """

    class_names: tuple[str, ...]
    target: int | None
    distances: tuple[Distance, ...]

    @classmethod
    def from_card(cls, card: ModelCard, distances: Iterable[Distance]) -> "ScoreSettings":
        """Return the settings for the classes of a model card."""
        return cls(tuple(card.class_names), target_class(card), tuple(distances))

    @property
    def foreground(self) -> tuple[int, ...]:
        """Classes with boundary and probability scores; of two classes only one, as the other is its complement."""
        return (self.target,) if self.target is not None else tuple(range(len(self.class_names)))


def target_class(card: ModelCard) -> int | None:
    """Return the index of the target class of a binary model; None with several classes or without a background."""
    return 1 - card.background_index if len(card.class_names) == 2 and card.background_index is not None else None


@dataclass(frozen=True)
class Block:
    """Label, prediction and probabilities of some full rows of an image.

    Attributes:
        label: (h, W) uint8, labelled class.
        prediction: (h, W) uint8, predicted class.
        probability: (C, h, W) float32: of class 1 for two classes, else of each class.
        counted: (h, W) bool, False at ignored and invalid pixels, where label and prediction may have any value.
    """

    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    probability: NDArray[np.float32]
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Size and georeference of an image.

    Attributes:
        height: Rows.
        width: Columns.
        crs: Coordinate reference system; None if unknown.
        transform: Affine transform from (column, row) to the CRS.
    """

    height: int
    width: int
    crs: Any = None
    transform: Any = None

    @property
    def pixel_size(self) -> float | None:
        """Ground sample distance in metres; None without a CRS."""
        if self.crs is None:
            return None
        return ground_sample_distance(self.crs, self.transform, self.height, self.width)


def count_image(read: Callable[[int, int], Block], grid: Grid, settings: ScoreSettings, strip: int = _STRIP) -> Counts:
    """Count an image in strips; each pixel once, with at most some hundred rows in memory.

    Args:
        read: Function from (first row, row after the last) to the block of these rows.
        grid: Size and georeference of the image.
        settings: Classes and distances.
        strip: Minimum height of a strip, rows.
    """
    distances = [distance.pixels(grid.pixel_size) for distance in settings.distances]
    halo = max((boundary.halo(d) for d in distances if d is not None), default=0)
    strip = max(strip, _STRIP_PER_HALO * halo)
    number, foreground = len(settings.class_names), settings.foreground
    boundaries = np.full((len(distances), len(foreground), boundary.COUNTS), np.nan)
    boundaries[[d is not None for d in distances]] = 0
    total: dict[str, Floats] = {
        "confusion": np.zeros((number, number)),
        "boundary": boundaries,
        "probability": np.zeros((_histograms(settings), calibration.BINS, 2)),
        "sums": np.zeros((_histograms(settings), calibration.CALIBRATION_BINS)),
    }
    counters = [ClassCounter(number, grid.crs, grid.transform, grid.width) for _ in range(2)]
    for row in range(0, grid.height, strip):
        stop = min(row + strip, grid.height)
        first = max(0, row - halo)
        block = read(first, min(grid.height, stop + halo))
        core = slice(row - first, stop - first)
        label, prediction, counted = block.label[core], block.prediction[core], block.counted[core]
        total["confusion"] += confusion_matrix(label, prediction, counted, number)
        for counter, values in zip(counters, (label, prediction), strict=True):
            counter.add(row, np.where(counted, values, 0).astype(np.uint8), ~counted)
        _count_probabilities(total, block.probability[:, core], label, counted, settings)
        for index, d in enumerate(distances):
            for position, value in enumerate(foreground):
                if d is not None:
                    true, predicted = block.label == value, block.prediction == value
                    total["boundary"][index, position] += boundary.count_boundary(
                        true, predicted, block.counted, d, core
                    )
    areas = [np.full(number, np.nan) if counter.areas is None else counter.areas for counter in counters]
    return total | {"area": np.array(areas)}


def add_counts(parts: Iterable[Counts]) -> Counts:
    """Return the sum of the counts of several images."""
    total: dict[str, Floats] = {}
    for part in parts:
        for name, values in part.items():
            total[name] = total[name] + values if name in total else values
    return total


def _histograms(settings: ScoreSettings) -> int:
    """Return the number of histograms: one for the target; else one for each class and one for the predicted class."""
    return 1 if settings.target is not None else len(settings.class_names) + 1


def _count_probabilities(
    total: dict[str, Floats],
    probability: NDArray[np.float32],
    label: NDArray[np.uint8],
    counted: NDArray[np.bool_],
    settings: ScoreSettings,
) -> None:
    if counted.all():
        chosen, label = probability.reshape(len(probability), -1), label.ravel()
    else:
        chosen, label = probability[:, counted], label[counted]
    classes = list(chosen) if len(chosen) > 1 else [1 - chosen[0], chosen[0]]
    events = [(classes[value], label == value) for value in settings.foreground]
    if settings.target is None:
        every = np.stack(classes)
        events.append((every.max(axis=0), every.argmax(axis=0) == label) if label.size else events[0])
    for index, (values, true) in enumerate(events):
        counts, sums = calibration.probability_histogram(values, true)
        total["probability"][index] += counts
        total["sums"][index] += sums

"""All scores of a map against its labels: counted strip by strip, added up over images, divided once at the end.

Counts are a dict of float64 arrays that add up over strips, images and groups of images:

    confusion (K, K) · boundary (D, B, 6) · probability (H, 4626, 2) · sums (H, 15) · area (2, K)

with K classes, D distances, B classes whose outlines are compared and H histograms. What can't be known (ground areas
without a CRS) is NaN, and so is every score of it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.scoring import boundary, calibration, confusion
from eval.scoring.bootstrap import Counts
from eval.scoring.confusion import Floats
from inference.card import ModelCard
from inference.common.areas import ground_sample_distance
from inference.output.summary import ClassCounter

_STRIP = 256
_MOST_HALO = 4  # a halo is read twice: strips are this many times as high


@dataclass(frozen=True)
class Distance:
    """How far off an outline may be.

    Attributes:
        value: How far.
        unit: Pixels, or metres on the ground.
    """

    value: float
    unit: Literal["px", "m"]

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"

    def pixels(self, side: float | None) -> float | None:
        """In pixels of this side, metres; None where the side is needed and isn't known."""
        if self.unit == "px":
            return self.value
        return None if side is None else self.value / side


@dataclass(frozen=True)
class Classes:
    """Which classes there are, and how they are scored.

    Attributes:
        names: Of each class.
        target: With two classes of which one is background, the other one: headline scores are its. None: headline
            scores are means over the classes that are present.
        distances: For outlines.
    """

    names: tuple[str, ...]
    target: int | None
    distances: tuple[Distance, ...]

    @classmethod
    def of_card(cls, card: ModelCard, distances: Iterable[Distance]) -> "Classes":
        """As a model's card has them."""
        two = len(card.class_names) == 2 and card.background_index is not None
        target = 1 - card.background_index if two and card.background_index is not None else None
        return cls(tuple(card.class_names), target, tuple(distances))

    @property
    def outlined(self) -> tuple[int, ...]:
        """Classes whose outlines and probabilities are scored: with two classes they are each other's."""
        return (self.target,) if self.target is not None else tuple(range(len(self.names)))


@dataclass(frozen=True)
class Block:
    """Some whole rows of an image.

    Attributes:
        label: (h, W) uint8, true class.
        prediction: (h, W) uint8, predicted class.
        probability: (C, h, W) float32: of class 1 where there are two, else of each class.
        counted: (h, W) bool, False where there is no label or no image; label and prediction may be anything there.
    """

    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    probability: NDArray[np.float32]
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Size and place of an image."""

    height: int
    width: int
    crs: Any = None
    transform: Any = None

    @property
    def side(self) -> float | None:
        """Side of a pixel on the ground, metres; None where the image has no place on the Earth."""
        if self.crs is None:
            return None
        return ground_sample_distance(self.crs, self.transform, self.height, self.width)


def count_image(read: Callable[[int, int], Block], grid: Grid, classes: Classes, strip: int = _STRIP) -> Counts:
    """Counts a whole image; each pixel once, in memory for some hundred rows.

    Args:
        read: From (first row, row after the last one) to these rows.
        grid: Size and place of the image.
        classes: What to count.
        strip: Rows at a time, at least.
    """
    pixels = [distance.pixels(grid.side) for distance in classes.distances]
    halo = max((boundary.halo(d) for d in pixels if d is not None), default=0)
    strip = max(strip, _MOST_HALO * halo)
    number, outlined = len(classes.names), classes.outlined
    outlines = np.full((len(pixels), len(outlined), boundary.COUNTS), np.nan)
    outlines[[d is not None for d in pixels]] = 0
    pooled: dict[str, Floats] = {
        "confusion": np.zeros((number, number)),
        "boundary": outlines,
        "probability": np.zeros((_histograms(classes), calibration.BINS, 2)),
        "sums": np.zeros((_histograms(classes), calibration.CALIBRATION_BINS)),
    }
    tallies = [ClassCounter(number, grid.crs, grid.transform, grid.width) for _ in range(2)]
    for row in range(0, grid.height, strip):
        stop = min(row + strip, grid.height)
        first = max(0, row - halo)
        block = read(first, min(grid.height, stop + halo))
        core = slice(row - first, stop - first)
        label, prediction, counted = block.label[core], block.prediction[core], block.counted[core]
        pooled["confusion"] += confusion.count(label, prediction, counted, number)
        for tally, values in zip(tallies, (label, prediction), strict=True):
            tally.add(row, np.where(counted, values, 0).astype(np.uint8), ~counted)
        _count_probabilities(pooled, block.probability[:, core], label, counted, classes)
        for index, d in enumerate(pixels):
            for place, value in enumerate(outlined):
                if d is not None:
                    true, predicted = block.label == value, block.prediction == value
                    pooled["boundary"][index, place] += boundary.count_boundary(true, predicted, block.counted, d, core)
    areas = [np.full(number, np.nan) if tally.areas is None else tally.areas for tally in tallies]
    return pooled | {"area": np.array(areas)}


def _histograms(classes: Classes) -> int:
    """One of the target's probability; or one of each class's, and one of the most probable class's."""
    return 1 if classes.target is not None else len(classes.names) + 1


def _count_probabilities(
    pooled: dict[str, Floats],
    probability: NDArray[np.float32],
    label: NDArray[np.uint8],
    counted: NDArray[np.bool_],
    classes: Classes,
) -> None:
    chosen, label = probability[:, counted], label[counted]
    if len(classes.names) == 2:
        chosen = np.concatenate([1 - chosen, chosen])
    expected = [(chosen[value], label == value) for value in classes.outlined]
    if classes.target is None:
        expected.append((chosen.max(axis=0), chosen.argmax(axis=0) == label) if label.size else expected[0])
    for index, (values, true) in enumerate(expected):
        counts, sums = calibration.count_probabilities(values, true)
        pooled["probability"][index] += counts
        pooled["sums"][index] += sums


def add(parts: Iterable[Counts]) -> Counts:
    """Counts of several images together."""
    total: dict[str, Floats] = {}
    for part in parts:
        for name, values in part.items():
            total[name] = total[name] + values if name in total else values
    return total


def score(counts: Counts, classes: Classes) -> dict[str, Floats]:
    """Every score by name, (...) from counts (..., as above).

    Headline names (iou, dice, precision, recall, boundary_iou@3 px, ...) are the target's, or means over the classes
    that are present; `NAME/CLASS` is a class's own. `area_error` is (predicted - true) / true, of pixels where
    ground areas aren't known; NaN where nothing is true.
    """
    found: dict[str, Floats] = {}
    matrix = counts["confusion"]
    for name, values in confusion.class_scores(matrix).items():
        _spread(found, name, values, range(len(classes.names)), classes)
    found["accuracy"], found["kappa"] = confusion.accuracy(matrix), confusion.kappa(matrix)
    for index, distance in enumerate(classes.distances):
        outlines = counts["boundary"][..., index, :, :]
        _spread(found, f"boundary_iou@{distance}", boundary.boundary_iou(outlines), classes.outlined, classes)
        _spread(found, f"boundary_f1@{distance}", boundary.boundary_f1(outlines), classes.outlined, classes)
    own = counts["probability"][..., : len(classes.outlined), :, :]
    _spread(found, "average_precision", calibration.average_precision(own), classes.outlined, classes)
    # Of the target's probability; of several classes, of the most probable one's (Guo et al., 2017).
    found["calibration_error"] = calibration.calibration_error(
        counts["probability"][..., -1, :, :], counts["sums"][..., -1, :]
    )
    true, predicted = _extents(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.where(true > 0, (predicted - true) / true, np.nan)
    for place, name in enumerate(classes.names):
        found[f"area_error/{name}"] = errors[..., place]
        found[f"true_area/{name}"] = counts["area"][..., 0, place]
        found[f"predicted_area/{name}"] = counts["area"][..., 1, place]
    if classes.target is not None:
        found["area_error"] = errors[..., classes.target]
    return found


def _spread(found: dict[str, Floats], name: str, values: Floats, of: Iterable[int], classes: Classes) -> None:
    """Names the scores (..., n) of some classes, and their headline."""
    of = list(of)
    for place, index in enumerate(of):
        found[f"{name}/{classes.names[index]}"] = values[..., place]
    if classes.target is not None:
        found[name] = values[..., of.index(classes.target)]
    else:
        found[name] = confusion.mean_of_present(values)


def _extents(counts: Counts) -> tuple[Floats, Floats]:
    """True and predicted extent of each class, m², or pixels where these aren't known."""
    matrix, area = counts["confusion"], counts["area"]
    known = np.expand_dims(~np.isnan(area).any(axis=(-2, -1)), -1)
    true = np.where(known, area[..., 0, :], matrix.sum(axis=-1))
    return true, np.where(known, area[..., 1, :], matrix.sum(axis=-2))


def plain(scores: Mapping[str, Floats]) -> dict[str, float]:
    """Scores of one set of counts as numbers."""
    return {name: float(value) for name, value in scores.items()}

"""Strata of a population: the classes of the map, or parts of it by the model's probability."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from eval.sampling.allocation import MINIMUM, sigma_cuts
from eval.sampling.design import Floats, Ints, Strata, Totals
from eval.sampling.population import EDGES, Histogram, Units

STRATA = 6
"""Strata by probability of a map of two classes, as in the simulation of `benchmarks/area.py`."""
_OF_CLASS = 3  # of each class where there are more
_SHARE_OF_FLOOR = 2  # strata get at most 1 / this of the points as their guaranteed ones


@dataclass(frozen=True)
class Stratification:
    """Assignment of units to strata.

    Attributes:
        strata: Strata and their totals; no domains.
        index: (K, B) index of the stratum by mapped class and bin of the score; -1 where no unit is.
    """

    strata: Strata
    index: Ints

    def stratum(self, units: Units) -> Ints:
        """Return the index of the stratum of each unit, (n,)."""
        found: Ints = self.index[units.mapped, units.score]
        return found


def stratify(
    histogram: Histogram, names: tuple[str, ...], kind: Literal["class", "probability"], points: int
) -> Stratification:
    """Divide a population into strata.

    Of two classes, strata are intervals of the probability of the second. Of more, each class of the map is divided by
    the probability that it is wrong.

    Args:
        histogram: Totals of the population.
        names: Names of the K classes.
        kind: "class": one stratum per class of the map; "probability": strata by predicted probability.
        points: Number of units to be drawn; few units allow few strata.

    Raises:
        ValueError: There are no probabilities to divide by.
    """
    classes, bins = histogram.units.shape
    if kind == "class":
        labels = [f"mapped as {name}" for name in names]
        index = np.repeat(np.arange(classes)[:, None], bins, axis=1)
    elif histogram.probability is None:
        raise ValueError("strata by probability need probabilities")
    elif classes == 2:
        most = min(STRATA, max(1, points // (_SHARE_OF_FLOOR * MINIMUM)))
        cuts = sigma_cuts(histogram.area.sum(axis=0), EDGES, most)
        index = np.tile(_intervals(cuts), (2, 1))
        labels = [f"p({names[1]}) {text}" for text in _interval_names(cuts)]
    else:
        most = min(_OF_CLASS, max(1, points // (_SHARE_OF_FLOOR * MINIMUM * classes)))
        index, labels = np.zeros((classes, bins), np.int64), []
        for k, name in enumerate(names):
            cuts = sigma_cuts(histogram.area[k], EDGES, most)
            index[k] = len(labels) + _intervals(cuts)
            labels += [f"mapped as {name}, p(other class) {text}" for text in _interval_names(cuts)]
    return _without_empty(histogram, names, kind, index, labels)


def _without_empty(
    histogram: Histogram,
    names: tuple[str, ...],
    kind: Literal["class", "probability"],
    index: Ints,
    labels: list[str],
) -> Stratification:
    """Number the strata that have units, and sum their totals."""
    classes, bins = index.shape
    units = np.bincount(index.ravel(), histogram.units.ravel(), len(labels))
    filled = np.flatnonzero(units > 0)
    number = np.full(len(labels), -1, np.int64)
    number[filled] = np.arange(len(filled))
    index = number[index]
    at = np.where(histogram.units.ravel() > 0, index.ravel(), len(filled))  # empty bins go to a row that is dropped
    mapped_as = np.zeros((classes, bins, classes))
    for k in range(classes):
        mapped_as[k, :, k] = histogram.area[k]

    def sums(values: Floats) -> Floats:
        flat = values.reshape(classes * bins, -1)
        return np.stack([np.bincount(at, column, len(filled) + 1)[:-1] for column in flat.T], axis=1)

    totals = Totals(
        sums(histogram.units)[:, 0],
        sums(histogram.area)[:, 0],
        sums(mapped_as),
        None if histogram.probability is None else sums(histogram.probability),
        None if histogram.variance is None else sums(histogram.variance),
    )
    return Stratification(Strata(kind, names, tuple(labels[i] for i in filled), totals), index)


def _intervals(cuts: Floats) -> Ints:
    """Return the number of the interval between cuts, which are edges, that each bin lies in, (B,)."""
    found: Ints = np.searchsorted(cuts, EDGES[:-1], side="right").astype(np.int64)
    return found


def _interval_names(cuts: Floats) -> list[str]:
    if not len(cuts):
        return ["0 to 1"]
    texts = [_digits(cut) for cut in cuts]
    middle = [f"{low} to {high}" for low, high in pairwise(texts)]
    return [f"below {texts[0]}", *middle, f"above {texts[-1]}"]


def _digits(cut: float) -> str:
    """Return a probability with two digits, counted from 1 where it is nearly 1."""
    if cut <= 0.9:
        return f"{cut:.2g}"
    decimals = max(2, int(np.ceil(-np.log10(1 - cut))) + 1)
    return f"{cut:.{decimals}f}"

"""Designs and samples that the tests of eval.sampling share."""

import numpy as np
from numpy.typing import ArrayLike

from eval.sampling.design import Floats, Sample, Strata, Totals


def names(number: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(number))


def class_strata(units: ArrayLike, unit_area: float = 1.0, finite: bool = True) -> Strata:
    """Return strata that are the classes of a map; not finite: without the finite population correction."""
    numbers = np.asarray(units, np.float64)
    area = numbers * unit_area
    totals = Totals(numbers if finite else np.full(len(numbers), np.inf), area, np.diag(area))
    return Strata("class", names(len(numbers)), names(len(numbers)), totals)


def sample_of(counts: ArrayLike) -> Sample:
    """Return units of class strata with these counts, mapped class (rows) by label (columns)."""
    table = np.asarray(counts)
    mapped, label = np.nonzero(table)
    times = table[mapped, label]
    mapped, label = np.repeat(mapped, times), np.repeat(label, times)
    return Sample(mapped, label, mapped, np.ones(len(mapped)))


def population(units: int, strata: int, seed: int = 0, classes: int = 2) -> tuple[Strata, Sample]:
    """Return a population with probabilities and two domains, and all of its units as a labelled census."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(units, classes)) * 2
    probability: Floats = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = (rng.random(units)[:, None] > probability.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    mapped = probability.argmax(axis=1)
    order = np.argsort(np.argsort(probability[:, 1]))
    stratum = order * strata // units
    area = np.linspace(0.9, 1.1, units)
    membership = np.stack([np.arange(units) % 3 == 0, rng.random(units)], axis=1).astype(np.float64)
    everything = Sample(stratum, label, mapped, area, probability, membership)

    def totals(share: Floats) -> Totals:
        weight = share * area
        onehot = (mapped[:, None] == np.arange(classes)).astype(np.float64)

        def summed(values: Floats) -> Floats:
            return np.stack([np.bincount(stratum, weight * column, strata) for column in values.T], axis=1)

        return Totals(
            np.bincount(stratum, share, strata).astype(np.float64),
            np.bincount(stratum, weight, strata).astype(np.float64),
            summed(onehot),
            summed(probability),
            summed(probability * (1 - probability)),
        )

    domains = tuple((f"site {index}", totals(membership[:, index])) for index in range(2))
    labels = tuple(f"stratum {index}" for index in range(strata))
    return Strata("probability", names(classes), labels, totals(np.ones(units)), domains), everything


def drawn(everything: Sample, sizes: ArrayLike, seed: int = 0) -> Sample:
    """Draw units without replacement from the strata of a population."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(everything), bool)
    for stratum, size in enumerate(np.asarray(sizes)):
        chosen[rng.choice(np.flatnonzero(everything.stratum == stratum), size, replace=False)] = True
    return everything.keep(chosen)

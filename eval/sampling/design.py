"""Sampling design: totals of the population in each stratum, and the units that were drawn from it.

The units of the population are the valid pixels of a map, or the plots of `plot_size` x `plot_size` pixels that it is
divided into. Each unit lies in exactly one stratum; n_h of the N_h units of stratum h are drawn at random, without
replacement, and an interpreter gives each of them one label. The mapped class of a plot follows the same rule as its
label (the class of its centre, or of most of its pixels); its probabilities are the means over its pixels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNLABELLED = -1
"""Label of a unit that has not been checked yet."""
UNSURE = -2
"""Label of a unit whose class the interpreter could not tell."""


@dataclass(frozen=True)
class Totals:
    """Known totals of the units of each stratum, over a whole map or over one domain (site) of it.

    Everything is summed over the units of a stratum: H strata, K classes. Where a domain covers a fraction of a unit,
    that fraction of the unit is counted.

    Attributes:
        units: (H,), number of units (an integer unless a domain covers units in part).
        area: (H,), ground area in m².
        mapped: (H, K), ground area in m² of the units of each class of the map.
        probability: (H, K), ground area times predicted probability of each class, in m²; None without probabilities.
        variance: (H, K), ground area times p (1 - p), in m²: the variance of the labels around the probabilities if
            these are calibrated; None without probabilities.
    """

    units: Floats
    area: Floats
    mapped: Floats
    probability: Floats | None = None
    variance: Floats | None = None

    def __post_init__(self) -> None:
        strata = len(self.units)
        for name, dimensions in (("area", 1), ("mapped", 2), ("probability", 2), ("variance", 2)):
            values = getattr(self, name)
            if values is not None and (values.ndim != dimensions or len(values) != strata):
                raise ValueError(f"{name} has shape {values.shape}, for {strata} strata")
        if (self.probability is None) != (self.variance is None):
            raise ValueError("probability and variance go together: one of them is missing")


@dataclass(frozen=True)
class Strata:
    """Strata of a population, none of them empty, and their known totals.

    Attributes:
        kind: "class": one stratum per class of the map; "probability": strata by predicted probability.
        class_names: Name of each of the K classes, in the order of class indices.
        names: Name of each of the H strata.
        totals: Totals over the whole population.
        domains: Totals over each domain (site), by the domain's name; domains may overlap or leave units out.
    """

    kind: Literal["class", "probability"]
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    totals: Totals
    domains: tuple[tuple[str, Totals], ...] = ()

    def __post_init__(self) -> None:
        if not (self.totals.area > 0).all() or not (self.totals.units > 0).all():
            raise ValueError("a stratum is empty")
        for totals in (self.totals, *(totals for _, totals in self.domains)):
            if totals.mapped.shape != (len(self.names), len(self.class_names)):
                shape = (len(self.names), len(self.class_names))
                raise ValueError(f"totals have shape {totals.mapped.shape}, not (strata, classes) = {shape}")

    @property
    def weights(self) -> Floats:
        """Share of each stratum in the population's area, (H,): W_h."""
        weights: Floats = self.totals.area / self.totals.area.sum()
        return weights


@dataclass(frozen=True)
class Sample:
    """Units that were drawn, simple random sampling without replacement within each stratum, of all phases together.

    Attributes:
        stratum: (n,) integer, index of the stratum of each unit.
        label: (n,) integer, class that the interpreter saw, UNLABELLED or UNSURE.
        mapped: (n,) integer, class of the map.
        area: (n,), ground area of each unit in m².
        probability: (n, K), predicted probability of each class; None without probabilities.
        membership: (n, D), fraction of each unit that each domain covers, 0 or 1 for domains made of whole units; None
            without domains.
    """

    stratum: Ints
    label: Ints
    mapped: Ints
    area: Floats
    probability: Floats | None = None
    membership: Floats | None = None

    def __post_init__(self) -> None:
        number = len(self.stratum)
        for name in ("label", "mapped", "area", "probability", "membership"):
            values = getattr(self, name)
            if values is not None and len(values) != number:
                raise ValueError(f"{name} has {len(values)} rows, for {number} units")

    def __len__(self) -> int:
        return len(self.stratum)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """True for each unit whose label is a class, (n,)."""
        labelled: NDArray[np.bool_] = self.label >= 0
        return labelled

    def keep(self, chosen: NDArray[np.bool_]) -> "Sample":
        """Return the units where `chosen` (n,) is True."""
        return Sample(
            self.stratum[chosen],
            self.label[chosen],
            self.mapped[chosen],
            self.area[chosen],
            None if self.probability is None else self.probability[chosen],
            None if self.membership is None else self.membership[chosen],
        )

    def relabel(self, label: Ints) -> "Sample":
        """Return the same units with other labels (n,)."""
        return Sample(self.stratum, label, self.mapped, self.area, self.probability, self.membership)

    def sizes(self, strata: int) -> Ints:
        """Return the number of labelled units in each stratum, (strata,): n_h."""
        return np.bincount(self.stratum[self.labelled], minlength=strata).astype(np.int64)

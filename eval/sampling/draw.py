"""Drawing of a stratified random sample without replacement, in one pass over the population.

Every unit has a random key, computed from the seed and the unit's place alone; the n_h units with the smallest keys of
a stratum are drawn (permanent random numbers: Ohlsson, in Cox et al., Business Survey Methods, 1995, chapter 9,
doi:10.1002/9781118150504.ch9). They are a simple random sample of the stratum, whatever the order in which the map is
read. Drawing more later continues the same order, so that both phases together are a simple random sample, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.sampling.design import Floats, Ints, Totals
from eval.sampling.population import Population, Units
from eval.sampling.stratify import Stratification

Keys = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MARGIN = 8.0  # standard deviations of the number of keys below a limit
LARGEST_SEED = 2**63 - 1


class Domain(Protocol):
    """Site whose share of pixels is known."""

    @property
    def name(self) -> str:
        """Name of the site."""

    def shares(self, row: int, col: int, height: int, width: int) -> Floats | None:
        """Return the covered share of each pixel of a window, (height, width); None if it covers none."""


@dataclass(frozen=True)
class Drawn:
    """Units that were drawn: n of them, in the order of their numbers.

    Attributes:
        row: Row in the grid of units, (n,).
        col: Column in the grid of units, (n,).
        stratum: Index of the stratum, (n,).
        mapped: Class of the map, (n,).
        area: Ground area, (n,) in m².
        probability: (n, K), probability of each class; None without probabilities.
        membership: (n, D), share of each unit that each domain covers; None without domains.
    """

    row: Ints
    col: Ints
    stratum: Ints
    mapped: Ints
    area: Floats
    probability: Floats | None
    membership: Floats | None

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "Drawn":
        """Return the chosen units, by index or by a mask."""
        return Drawn(
            self.row[chosen],
            self.col[chosen],
            self.stratum[chosen],
            self.mapped[chosen],
            self.area[chosen],
            None if self.probability is None else self.probability[chosen],
            None if self.membership is None else self.membership[chosen],
        )


def random_keys(number: Ints, seed: int, stream: int = 0) -> Keys:
    """Return a random key for each number, (n,): output `number` of the generator SplitMix64 that a seed starts.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014,
    doi:10.1145/2714064.2660195.

    Args:
        number: Numbers from 0, (n,).
        seed: Seed, from 0 to LARGEST_SEED.
        stream: Number of an independent sequence.
    """
    start = _mixed(np.array([seed, stream], np.uint64) + _GOLDEN)
    with np.errstate(over="ignore"):
        state = (start[0] ^ _mixed(start[1:])[0]) + (number.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    return _mixed(state)


def draw(
    population: Population, strata: Stratification, sizes: Ints, seed: int, domains: Sequence[Domain] = ()
) -> tuple[Drawn, list[Totals]]:
    """Draw units from each stratum, and compute the totals of domains, in one pass.

    Args:
        population: The units.
        strata: Strata.
        sizes: (H,), number of units to draw from each; at most as many as it has.
        seed: Seed.
        domains: D sites.

    Returns:
        The units, shuffled so that their order doesn't reveal the stratum, and the totals of each domain.

    Raises:
        UserError: See `Population.windows`.
    """
    units = strata.strata.totals.units
    # The limit leaves a few more candidates than are needed, and the smallest keys of all are among them.
    share = (sizes + _MARGIN * np.sqrt(sizes) + 2 * _MARGIN) / np.maximum(units, 1)
    limit = np.array([int(each * 2**64) if each < 1 else 2**64 - 1 for each in share.tolist()], np.uint64)
    totals = [_Sums(strata) for _ in domains]
    found: list[tuple[Keys, Drawn]] = []
    for each in population.windows("drawing"):
        stratum = strata.stratum(each)
        members = [
            _membership(population, each, domain, sums, stratum) for domain, sums in zip(domains, totals, strict=True)
        ]
        keys = random_keys(each.row * population.shape[1] + each.col, seed)
        near = np.flatnonzero((keys <= limit[stratum]) & (sizes[stratum] > 0))
        found.append((keys[near], _candidates(each, stratum, members, near)))
    keys = np.concatenate([keys for keys, _ in found])
    candidates = _joined([units for _, units in found])
    number = candidates.row * population.shape[1] + candidates.col
    order = np.lexsort((number, keys, candidates.stratum))
    first = np.searchsorted(candidates.stratum[order], np.arange(len(units)))
    rank = np.arange(len(order)) - first[candidates.stratum[order]]
    chosen = order[rank < sizes[candidates.stratum[order]]]
    if len(chosen) != sizes.sum():
        raise RuntimeError(f"{len(chosen)} units were drawn in place of {sizes.sum()}")
    drawn = candidates.take(chosen)
    shuffled = np.argsort(random_keys(number[chosen], seed, stream=1), kind="stable")
    return drawn.take(shuffled), [sums.totals() for sums in totals]


class _Sums:
    """Totals of a domain, summed window by window."""

    def __init__(self, strata: Stratification) -> None:
        self._totals = strata.strata.totals
        height, classes = self._totals.mapped.shape
        self._units, self._area = np.zeros(height), np.zeros(height)
        self._by_class = np.zeros((3, height, classes))

    def add(self, units: Units, stratum: Ints, share: Floats) -> None:
        inside = np.flatnonzero(share)
        share, at, area = share[inside], stratum[inside], units.area[inside] * share[inside]
        height, classes = self._totals.mapped.shape
        self._units += np.bincount(at, share, height)
        self._area += np.bincount(at, area, height)
        key = at * classes + units.mapped[inside]
        self._by_class[0] += np.bincount(key, area, height * classes).reshape(height, classes)
        if units.probability is not None:
            for k, chance in enumerate(units.probability[:, inside]):
                self._by_class[1, :, k] += np.bincount(at, area * chance, height)
                self._by_class[2, :, k] += np.bincount(at, area * chance * (1 - chance), height)

    def totals(self) -> Totals:
        known = self._totals.probability is not None
        mapped, probability, variance = self._by_class
        return Totals(self._units, self._area, mapped, probability if known else None, variance if known else None)


def _membership(population: Population, units: Units, domain: Domain, sums: _Sums, stratum: Ints) -> Floats | None:
    """Return the share of each unit that a domain covers, (n,), and add it to the domain's totals; None for none."""
    window = units.window
    shares = domain.shares(window.row_off, window.col_off, window.height, window.width)
    if shares is None:
        return None
    found = population.unit_shares(units, shares)
    sums.add(units, stratum, found)
    return found


def _candidates(units: Units, stratum: Ints, members: Sequence[Floats | None], near: NDArray[np.int64]) -> Drawn:
    none = np.zeros(len(near))
    columns = [none if member is None else member[near] for member in members]
    return Drawn(
        units.row[near],
        units.col[near],
        stratum[near],
        units.mapped[near],
        units.area[near],
        None if units.probability is None else units.probability[:, near].T.astype(np.float64),
        np.stack(columns, axis=1) if columns else None,
    )


def _joined(parts: Sequence[Drawn]) -> Drawn:
    with_chances, with_domains = parts[0].probability is not None, parts[0].membership is not None
    return Drawn(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.col for part in parts]),
        np.concatenate([part.stratum for part in parts]),
        np.concatenate([part.mapped for part in parts]),
        np.concatenate([part.area for part in parts]),
        np.concatenate([part.probability for part in parts if part.probability is not None]) if with_chances else None,
        np.concatenate([part.membership for part in parts if part.membership is not None]) if with_domains else None,
    )


def _mixed(state: Keys) -> Keys:
    """Return the output of SplitMix64 for its states, (n,) uint64."""
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: Keys = state ^ (state >> np.uint64(31))
    return mixed

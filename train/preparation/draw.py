"""Draw of the splits (or folds): units of ground are assigned so that each split has its share of every class.

Method: iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, 2011,
doi:10.1007/978-3-642-23808-6_10), in which the class with the fewest pixels left is dealt first, for counts in place of
labels; then a local search over moves and swaps of units. A small cost of borders between splits keeps neighbours
together, because the guard takes ground at every border.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError

FREE = -1
"""Assignment of a unit that is to be drawn."""
_STARTS = 4
_MANY = 2000
"""Units from which one start has the steps of all: no start comes to an end in its own steps."""
_SAMPLE = 400  # units that a step of the search may move
_SWAPPED = 60  # units of these that it may swap
_STEPS = 4000
_PATIENCE = 10  # samples without a gain that end the search


def draw(
    counts: NDArray[np.int64],
    shares: Sequence[float],
    seed: int,
    fixed: NDArray[np.int64] | None = None,
    neighbours: NDArray[np.int64] | None = None,
    by: str = "block",
    border: float = 0.02,
) -> NDArray[np.int64]:
    """Assign units to splits.

    Args:
        counts: Pixels of each class in each unit, (units, classes).
        shares: Wanted share of each split, each above 0; they sum to 1.
        seed: Seed; the same one gives the same splits.
        fixed: Split of units that is given, (units,), `FREE` for the others; None if all are free.
        neighbours: Numbers of two units that lie beside each other, (pairs, 2).
        by: What a unit is, for error messages: block, site, date, column.
        border: Cost of borders between splits, as a share of all neighbours, beside the mean squared relative error of
            the shares.

    Returns:
        Split of each unit, (units,) int64.

    Raises:
        UserError: There are fewer units with labels than splits.
    """
    fixed = np.full(len(counts), FREE) if fixed is None else fixed
    taken = set(fixed[(fixed != FREE) & (counts.sum(axis=1) > 0)].tolist())
    free = np.flatnonzero((fixed == FREE) & (counts.sum(axis=1) > 0))
    if not (fixed == FREE).any():
        return fixed.copy()
    missing = [split for split in range(len(shares)) if split not in taken]
    if len(free) < len(missing):
        fix = (
            "make the blocks smaller with split.block_size" if by == "block" else "add sources, or use split.by: block"
        )
        raise UserError(
            f"split.by: {by}: {len(free)} {unit_noun(by)} with labelled pixels can't fill {len(missing)} splits "
            f"({fix}, or set the share of a split to 0)"
        )
    present = counts.sum(axis=0) > 0
    weights = counts[:, present] / np.maximum(counts[:, present].sum(axis=0), 1)
    pairs = np.zeros((0, 2), np.int64) if neighbours is None else neighbours
    best: tuple[float, NDArray[np.int64]] | None = None
    starts = 1 if len(free) > _MANY else _STARTS
    for start in range(starts):
        rng = np.random.default_rng([seed, start])
        search = _Search(weights, np.asarray(shares, np.float64), fixed, pairs, rng, border)
        search.deal()
        search.improve(_STEPS * _STARTS // starts)
        if best is None or search.cost() < best[0] - 1e-12:
            best = search.cost(), search.split.copy()
    assert best is not None
    return best[1]


def unit_noun(by: str) -> str:
    """Return what several units are called, from what is drawn: block, site, date, column or given."""
    return {"block": "blocks", "column": "areas", "given": "splits"}.get(by, f"{by}s")


class _Search:
    """Local search for an assignment; see `draw`."""

    def __init__(
        self,
        weights: NDArray[np.float64],
        shares: NDArray[np.float64],
        fixed: NDArray[np.int64],
        pairs: NDArray[np.int64],
        rng: np.random.Generator,
        border: float,
    ) -> None:
        self._weights, self._shares, self._fixed, self._rng = weights, shares, fixed, rng
        self._pairs, self._border = pairs, border
        self._beside: list[list[int]] = [[] for _ in weights]
        for one, other in pairs.tolist():
            self._beside[one].append(other)
            self._beside[other].append(one)
        self.split = fixed.copy()
        self._free = np.flatnonzero(fixed == FREE)
        # Error of a share relative to the wanted one, so that small splits are as good as large ones.
        self._scale = 1 / shares[:, None] ** 2 / (weights.shape[1] * len(shares))
        self._achieved = np.zeros((len(shares), weights.shape[1]))
        np.add.at(self._achieved, fixed[fixed != FREE], weights[fixed != FREE])
        # Neighbours of each unit in each split, (units, splits): counting them at every step would take all the time.
        self._around = np.zeros((len(weights), len(shares)), np.int64)
        for unit in np.flatnonzero(fixed != FREE).tolist():
            np.add.at(self._around[:, fixed[unit]], self._beside[unit], 1)

    def deal(self) -> None:
        """Assign the free units, those of the rarest class first, to the split that lacks most of it."""
        left = self._free[self._rng.permutation(len(self._free))]
        total = self._weights[left].sum(axis=0)
        spread = (self._weights[left] > 0).sum(axis=0)
        order = np.lexsort((total, spread))  # classes that few units have come first
        for column in order:
            has = left[self._weights[left, column] > 0]
            has = has[np.argsort(-self._weights[has, column], kind="stable")]
            for unit in has.tolist():
                lack = (self._shares[:, None] - self._achieved) / self._shares[:, None]
                # The split that lacks most of this class; of equals, of all classes.
                self._put(unit, int(np.lexsort((-lack.mean(axis=1), -lack[:, column]))[0]))
            left = left[self.split[left] == FREE]
        for unit in left.tolist():  # nothing labelled
            self._put(unit, int(np.argmax(self._shares)))
        self._fill_empty()

    def _fill_empty(self) -> None:
        """Give each split without a labelled unit the smallest one of the split that has most units."""
        labelled = self._weights.sum(axis=1) > 0
        for split in range(len(self._shares)):
            if (labelled & (self.split == split)).any():
                continue
            count = np.bincount(self.split[labelled], minlength=len(self._shares))
            movable = [unit for unit in self._free.tolist() if labelled[unit] and count[self.split[unit]] > 1]
            unit = min(movable, key=lambda unit: float(self._weights[unit].sum()))
            self._take(unit)
            self._put(unit, split)

    def improve(self, steps: int) -> None:
        """Move and swap units as long as that lowers the cost."""
        labelled = self._weights.sum(axis=1) > 0
        movable = self._free[labelled[self._free]]
        failed = 0
        for _ in range(steps if len(movable) else 0):
            failed = 0 if self._step(movable) else failed + 1
            # Another sample may hold what one lacks; where all units are looked at, there is no other.
            if failed == (1 if len(movable) <= _SWAPPED else _PATIENCE):
                break

    def _step(self, movable: NDArray[np.int64]) -> bool:
        """Make the best move or swap among a sample; return False if none lowers the cost."""
        sample = movable if len(movable) <= _SAMPLE else self._rng.choice(movable, _SAMPLE, replace=False)
        error = self._achieved - self._shares[:, None]
        count = np.bincount(self.split[movable], minlength=len(self._shares))
        fixed = np.bincount(self._fixed[self._fixed != FREE], minlength=len(self._shares))
        best = -1e-12
        change: tuple[tuple[int, int], ...] | None = None
        weights, split = self._weights[sample], self.split[sample]
        own = (((error[split] - weights) ** 2 - error[split] ** 2) * self._scale[split]).sum(axis=1)
        for target in range(len(self._shares)):
            into = (((error[target] + weights) ** 2 - error[target] ** 2) * self._scale[target]).sum(axis=1)
            gain = own + into + self._border_change(sample, target)
            # A split keeps one unit at least.
            gain[(split == target) | (count[split] + fixed[split] <= 1)] = np.inf
            at = int(np.argmin(gain))
            if gain[at] < best:
                best, change = float(gain[at]), ((int(sample[at]), target),)
        swap = self._best_swap(sample, error)
        if swap is not None and swap[0] < best:
            change = swap[1]
        if change is None:
            return False
        for unit, _ in change:
            self._take(unit)
        for unit, target in change:
            self._put(unit, target)
        return True

    def _best_swap(
        self, sample: NDArray[np.int64], error: NDArray[np.float64]
    ) -> tuple[float, tuple[tuple[int, int], tuple[int, int]]] | None:
        """Return the best swap of two units of a sample, and its change of the cost (without borders)."""
        chosen = sample if len(sample) <= _SWAPPED else self._rng.choice(sample, _SWAPPED, replace=False)
        weights, split = self._weights[chosen], self.split[chosen]
        one, other = np.nonzero(split[:, None] < split[None, :])
        if not len(one):
            return None
        moved = weights[other] - weights[one]
        first, second = split[one], split[other]
        gain = (((error[first] + moved) ** 2 - error[first] ** 2) * self._scale[first]).sum(axis=1)
        gain += (((error[second] - moved) ** 2 - error[second] ** 2) * self._scale[second]).sum(axis=1)
        at = int(np.argmin(gain))
        a, b = int(chosen[one[at]]), int(chosen[other[at]])
        to_a, to_b = int(second[at]), int(first[at])
        borders = float(self._border_change(np.array([a]), to_a)[0] + self._border_change(np.array([b]), to_b)[0])
        if b in self._beside[a]:  # each counted the other as one of its own split
            borders += 2 * self._border / len(self._pairs)
        return float(gain[at]) + borders, ((a, to_a), (b, to_b))

    def _border_change(self, units: NDArray[np.int64], target: int) -> NDArray[np.float64]:
        """Return the change of the cost of borders if a unit moves to a split, (n,)."""
        if not len(self._pairs):
            return np.zeros(len(units))
        around = self._around[units]
        own = around[np.arange(len(units)), self.split[units]]
        return (own - around[:, target]).astype(np.float64) * (self._border / len(self._pairs))

    def _take(self, unit: int) -> None:
        split = self.split[unit]
        self._achieved[split] -= self._weights[unit]
        np.subtract.at(self._around[:, split], self._beside[unit], 1)
        self.split[unit] = FREE

    def _put(self, unit: int, split: int) -> None:
        self._achieved[split] += self._weights[unit]
        np.add.at(self._around[:, split], self._beside[unit], 1)
        self.split[unit] = split

    def cost(self) -> float:
        """Return the mean squared relative error of the shares plus the cost of borders."""
        error = (((self._achieved - self._shares[:, None]) ** 2) * self._scale).sum()
        if not len(self._pairs):
            return float(error)
        unlike = np.count_nonzero(self.split[self._pairs[:, 0]] != self.split[self._pairs[:, 1]])
        return float(error + self._border * unlike / len(self._pairs))

"""Assignment of the cells of a data set to splits or folds, with what the guard takes in view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.configs.data import SPLITS
from train.preparation.blocks import NONE, trim
from train.preparation.cells import Cell, frame_guard
from train.preparation.config import SplitConfig
from train.preparation.draw import FREE, draw
from train.preparation.ground import Group
from train.preparation.units import Place, Units

_BORDERS = (0.02, 0.1, 0.5)
"""Costs of borders that are tried: the higher, the larger the pieces of a split, and the less the guard takes."""
_ROUNDS = 3
"""Draws for each of them; each asks for more of what the guard left too little of."""
_MANY = 2000
"""Units from which one cost is tried: a draw takes seconds then, and the shares come out well by themselves."""
_LOSS = 0.2
"""Cost of all labelled pixels being left out by the guard, beside the mean squared relative error of the shares."""


@dataclass(frozen=True)
class Assignment:
    """Splits of cells.

    Attributes:
        labels: Label of each used cell.
        names: Split and fold of each label.
        wanted: Wanted share of each split, or of each fold, by its name.
    """

    labels: dict[Place, int]
    names: list[tuple[str, int | None]]
    wanted: dict[str, float]

    @property
    def ranks(self) -> list[int]:
        """Rank of each label: of two splits the one with the smaller share keeps its ground."""
        shares = [self.wanted.get(label_name(name), 0.0) for name in self.names]
        order = sorted(set(shares), reverse=True)
        return [order.index(share) for share in shares]


def label_name(name: tuple[str, int | None]) -> str:
    """Return the name of a split or fold."""
    return name[0] if name[1] is None else f"fold {name[1]}"


def assign(
    cells: Sequence[Cell],
    units: Units,
    config: SplitConfig,
    groups: Sequence[Group],
    grids: Sequence[NDArray[np.int64]],
    guard: tuple[float | None, int],
) -> Assignment:
    """Draw the splits; blocks are drawn several times, and the splits count that are best after trimming.

    Args:
        cells: Cells of all images.
        units: Units of those that are used.
        config: Section `split` of the config.
        groups: Groups of images.
        grids: Bounds of the cells of each group.
        guard: Guard on the ground, metres or None, and in pixels.

    Raises:
        UserError: There are fewer units than splits.
    """
    problem = _Problem(cells, units, config)
    used: dict[int, list[Cell]] = {}
    for cell in cells:
        if not cell.reason:
            used.setdefault(cell.place[0], []).append(cell)
    if config.by != "block":
        return problem.draw(_BORDERS[0], {})
    many = problem.units > _MANY
    best: tuple[float, Assignment] | None = None
    for border in _BORDERS[1:2] if many else _BORDERS:
        wish: dict[str, float] = {}
        for _ in range(1 if many else _ROUNDS):
            found = problem.draw(border, wish)
            cost, achieved = _after_trimming(found, used, groups, grids, guard)
            if best is None or cost < best[0] - 1e-9:
                best = cost, found
            wish = {
                name: wish.get(name, 1.0) * float(np.clip(found.wanted[name] / max(share, 1e-3), 0.5, 2))
                for name, share in achieved.items()
            }
    assert best is not None
    return best[1]


def _after_trimming(
    found: Assignment,
    used: Mapping[int, Sequence[Cell]],
    groups: Sequence[Group],
    grids: Sequence[NDArray[np.int64]],
    guard: tuple[float | None, int],
) -> tuple[float, dict[str, float]]:
    """Estimate from areas what the guard leaves of each split.

    Args:
        found: Splits.
        used: Cells of each group that are used.
        groups: Groups of images.
        grids: Bounds of the cells of each group.
        guard: Guard on the ground, metres or None, and in pixels.

    Returns:
        Cost, and the mean share of the classes in each split or fold that is wanted.
    """
    width = len(next(iter(used.values()))[0].counts) - 2
    kept = np.zeros((len(found.names), width))
    whole = np.zeros(width)
    for number, inside in used.items():
        grid = grids[number]
        label = np.full(grid.shape[:2], NONE)
        for cell in inside:
            label[cell.place[1:]] = found.labels[cell.place]
        trimmed = trim(grid, label, frame_guard(groups[number], guard), found.ranks)
        left = _areas(trimmed) / _areas(grid)
        for cell in inside:
            kept[found.labels[cell.place]] += cell.counts[:-2] * left[cell.place[1:]]
            whole += cell.counts[:-2]
    present = whole > 0
    shares = kept[:, present] / np.maximum(kept[:, present].sum(axis=0), 1)
    error, achieved = [], {}
    for name, share in zip(found.names, shares, strict=True):
        wanted = found.wanted.get(label_name(name), 0.0)
        if wanted:
            error.append(((share - wanted) / wanted) ** 2)
            achieved[label_name(name)] = float(share.mean())
    lost = 1 - kept.sum() / max(whole.sum(), 1)
    return float(np.mean(error) + _LOSS * lost) if error else float(lost), achieved


def _areas(bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    sides = np.maximum(bounds[..., 1::2] - bounds[..., ::2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float64)


class _Problem:
    """Units, their counts, and what is known of their splits."""

    def __init__(self, cells: Sequence[Cell], units: Units, config: SplitConfig) -> None:
        self._config = config
        self._places = [cell.place for cell in cells if not cell.reason]
        used = sorted({units.number(place) for place in self._places})
        index = {unit: at for at, unit in enumerate(used)}
        self.units = len(used)
        self._unit = {place: index[units.number(place)] for place in self._places}
        self._counts = np.zeros((len(used), len(cells[0].counts) - 2 if cells else 0), np.int64)
        for cell in cells:
            if not cell.reason:
                self._counts[self._unit[cell.place]] += cell.counts[:-2]
        self._fixed = np.full(len(used), FREE)
        if config.by in {"given", "column"}:
            for place in self._places:
                key = units.key(place)
                if key in SPLITS:
                    self._fixed[self._unit[place]] = SPLITS.index(key)
        self._neighbours = self._beside() if config.by == "block" else None

    def _beside(self) -> NDArray[np.int64]:
        """Return the units of all pairs of cells that share a side, (n, 2)."""
        pairs = [
            (self._unit[group, row, col], self._unit[other])
            for group, row, col in sorted(set(self._places))
            for other in ((group, row + 1, col), (group, row, col + 1))
            if other in self._unit
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def draw(self, border: float, wish: Mapping[str, float]) -> Assignment:
        """Draw the splits.

        Args:
            border: Cost of borders.
            wish: Factor for the wanted share of a split; 1 where it isn't named.
        """
        config, fixed = self._config, self._fixed
        shares = {split: getattr(config.shares, split) for split in SPLITS}
        if config.folds is None:
            wanted = {split: share for split, share in shares.items() if share or (fixed == SPLITS.index(split)).any()}
            asked = {split: share * wish.get(split, 1.0) for split, share in wanted.items()}
            drawn = self._draw_named(asked, list(SPLITS), fixed, border)
            return Assignment(self._labels(drawn), [(split, None) for split in SPLITS], wanted)
        rest = 1 - shares["test"]
        asked = {"rest": rest}
        if shares["test"] or (fixed == 2).any():
            asked["test"] = shares["test"] * wish.get("test", 1.0)
        first = self._draw_named(asked, ["rest", "", "test"], np.where(fixed == 2, 2, FREE), border)
        inside = np.where((first == 2)[:, None], 0, self._counts)
        even = [1 / config.folds] * config.folds
        folds = draw(inside, even, config.seed + 1, None, self._neighbours, config.by, border)
        names = [("val" if fold == 1 else "train", fold) for fold in range(1, config.folds + 1)]
        wanted = {f"fold {fold}": rest / config.folds for _, fold in names}
        wanted |= {"test": shares["test"]} if "test" in asked else {}
        return Assignment(self._labels(np.where(first == 2, config.folds, folds)), [*names, ("test", None)], wanted)

    def _draw_named(
        self, wanted: Mapping[str, float], names: Sequence[str], fixed: NDArray[np.int64], border: float
    ) -> NDArray[np.int64]:
        """Draw among the splits that are wanted; return the number of each unit's split among all names."""
        chosen = [names.index(name) for name in wanted]
        inner = np.full(len(names), FREE)
        inner[chosen] = np.arange(len(chosen))
        shares = np.maximum(np.array(list(wanted.values())), 1e-3)  # a split that is given alone has no share
        inside = np.where(fixed == FREE, FREE, inner[fixed])
        config = self._config
        asked = (shares / shares.sum()).tolist()
        return np.array(chosen)[draw(self._counts, asked, config.seed, inside, self._neighbours, config.by, border)]

    def _labels(self, drawn: NDArray[np.int64]) -> dict[Place, int]:
        return {place: int(drawn[unit]) for place, unit in self._unit.items()}

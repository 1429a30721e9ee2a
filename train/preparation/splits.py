"""Blocks of a data set and their splits, from the images, their labels and the config."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.text import quoted
from train.data.guard import Plane, rectangles, too_close
from train.data.pairs import SPLITS, join_some
from train.data.prepared import Block
from train.preparation.blocks import lay_out
from train.preparation.cells import Cell, Count, Image, cell_size, find_cells, guard_of, select_cells, trim_cells
from train.preparation.config import SelectConfig, SplitConfig
from train.preparation.draw import FREE, draw
from train.preparation.ground import Group, find_groups
from train.preparation.units import Unit, Units

_SHARED = 1e-3
"""Share of an image from which two images are said to show the same ground."""


@dataclass(frozen=True)
class BlockPlan:
    """Blocks of a data set.

    Attributes:
        blocks: Blocks, in the order of the images.
        guard: Guard on the ground, metres; None if no image is georeferenced.
        guard_pixels: Guard in images that aren't georeferenced, pixels.
        wanted: Wanted share of each split (of each fold, with folds).
        achieved: Share of the labelled pixels of each class in each split or fold, (classes,).
        lost: Share of the labelled pixels of selected blocks that the guard leaves out.
        notices: Lines for the user.
    """

    blocks: list[Block]
    guard: float | None
    guard_pixels: int
    wanted: dict[str, float]
    achieved: dict[str, NDArray[np.float64]]
    lost: float
    notices: tuple[str, ...]


def plan_blocks(
    images: Sequence[Image], config: SplitConfig, select: SelectConfig, tile: int, classes: Sequence[str], count: Count
) -> BlockPlan:
    """Lay out the blocks of all images, draw their splits, and trim them so that the splits keep the guard.

    Args:
        images: Images.
        config: Section `split` of the config.
        select: Section `select`.
        tile: Side of a training window, pixels.
        classes: Names of the classes.
        count: Counts the pixels of rectangles of an image.

    Raises:
        UserError: The images can't be divided as the config wants.
    """
    guard, guard_pixels = guard_of(images, config, tile)
    groups = find_groups([image.header for image in images], guard or 0.0)
    notices = _shared_ground(images, groups)
    grids = [lay_out(group.bounds, cell_size(group, config, tile)).bounds() for group in groups]
    cells = find_cells(images, groups, grids, tile, count)
    select_cells(cells, select)
    units = Units(
        [Unit(cell.place, _key(images[cell.image], cell, config), cell.image) for cell in cells if not cell.reason]
    )
    for cell in cells:
        if not cell.reason and config.by == "column" and units.key(cell.place) is None:
            cell.reason = f"lies in areas of several values of {config.column}, or in none"
    notices += units.notices([image.name for image in images], config.by)
    labels, names, wanted = _draw(cells, units, config)
    before = _labelled(cells)
    trim_cells(images, groups, grids, cells, labels, (guard, guard_pixels), _ranks(names, wanted), tile, count)
    select_cells(cells, select)
    blocks = [_block(images[cell.image], cell, names, labels) for cell in cells]
    _check_filled(cells, labels, names, guard, guard_pixels)
    headers = {image.name: image.header for image in images}
    close = too_close(blocks, headers, guard, guard_pixels)
    assert not close, f"blocks {blocks[close[0].first]} and {blocks[close[0].second]} are {close[0].distance} apart"
    return BlockPlan(
        blocks,
        guard,
        guard_pixels,
        wanted,
        _achieved(cells, labels, names, len(classes)),
        1 - _labelled(cells) / before if before else 0.0,
        tuple(notices),
    )


def _key(image: Image, cell: Cell, config: SplitConfig) -> str | None:
    """Return what a block is drawn with, beside its own ground: its site, date, split or the value of its areas."""
    if config.by == "site":
        return image.site
    if config.by == "date":
        if image.date is None:
            raise UserError(f"split.by: date: {image.header.path} has no date (give it with date in its source)")
        return image.date
    if config.by == "given":
        if image.split is None:
            raise UserError(f"split.by: given: {image.header.path} has no split (give it with split in its source)")
        return image.split
    if config.by == "column":
        top, bottom, left, right = cell.area
        touched = shapely.area(shapely.intersection(image.areas, shapely.box(left, top, right, bottom))) > 0
        values = {value for value, inside in zip(image.values, touched, strict=True) if inside}
        return values.pop() if len(values) == 1 else None
    return ""


def _draw(
    cells: Sequence[Cell], units: Units, config: SplitConfig
) -> tuple[dict[tuple[int, int, int], int], list[tuple[str, int | None]], dict[str, float]]:
    """Draw the splits.

    Returns:
        Label of each used cell; split and fold of each label; wanted share of each split or fold, by its name.
    """
    places = [cell.place for cell in cells if not cell.reason]
    used = sorted({units.number(place) for place in places})
    index = {unit: at for at, unit in enumerate(used)}
    width = len(cells[0].counts) - 2 if cells else 0
    counts = np.zeros((len(used), width), np.int64)
    for cell in cells:
        if not cell.reason:
            counts[index[units.number(cell.place)]] += cell.counts[:-2]
    shares = {split: getattr(config.shares, split) for split in SPLITS}
    fixed = np.full(len(used), FREE)
    names: list[tuple[str, int | None]] = [(split, None) for split in SPLITS]
    if config.by in {"given", "column"}:
        keys = {units.number(place): units.key(place) for place in places}
        for unit, key in keys.items():
            if key in SPLITS:
                fixed[index[unit]] = SPLITS.index(key)
    neighbours = _neighbours(places, units, index) if config.by == "block" else None
    if config.folds is None:
        wanted = {split: share for split, share in shares.items() if share or (fixed == SPLITS.index(split)).any()}
        drawn = _draw_named(counts, wanted, list(SPLITS), config.seed, fixed, neighbours, config.by)
        return {place: int(drawn[index[units.number(place)]]) for place in places}, names, wanted
    rest = 1 - shares["test"]
    kept = {"rest": rest, "test": shares["test"]} if shares["test"] or (fixed == 2).any() else {"rest": 1.0}
    first = _draw_named(
        counts, kept, ["rest", "", "test"], config.seed, np.where(fixed == 2, 2, FREE), neighbours, config.by
    )
    folds = draw(
        np.where((first == 2)[:, None], 0, counts),
        [1 / config.folds] * config.folds,
        config.seed + 1,
        None,
        neighbours,
        config.by,
    )
    names = [("val" if fold == 1 else "train", fold) for fold in range(1, config.folds + 1)] + [("test", None)]
    labels = np.where(first == 2, config.folds, folds)
    wanted = {f"fold {fold}": rest / config.folds for fold in range(1, config.folds + 1)}
    wanted |= {"test": shares["test"]} if "test" in kept else {}
    return {place: int(labels[index[units.number(place)]]) for place in places}, names, wanted


def _draw_named(
    counts: NDArray[np.int64],
    wanted: dict[str, float],
    names: Sequence[str],
    seed: int,
    fixed: NDArray[np.int64],
    neighbours: NDArray[np.int64] | None,
    by: str,
) -> NDArray[np.int64]:
    """Draw among the splits that are wanted; return the number of each unit's split among all names."""
    chosen = [names.index(name) for name in wanted]
    inner = np.full(len(names), FREE)
    inner[chosen] = np.arange(len(chosen))
    shares = np.maximum(np.array(list(wanted.values())), 1e-3)  # a split that is given alone has no share
    inside = np.where(fixed == FREE, FREE, inner[fixed])
    return np.array(chosen)[draw(counts, (shares / shares.sum()).tolist(), seed, inside, neighbours, by)]


def _neighbours(places: Sequence[tuple[int, int, int]], units: Units, index: dict[int, int]) -> NDArray[np.int64]:
    known = set(places)
    pairs = [
        (index[units.number((group, row, col))], index[units.number(other)])
        for group, row, col in sorted(known)
        for other in ((group, row + 1, col), (group, row, col + 1))
        if other in known
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _ranks(names: Sequence[tuple[str, int | None]], wanted: dict[str, float]) -> list[int]:
    """Return the rank of each label: of two splits the one with the smaller share keeps its ground."""
    shares = [wanted.get(split if fold is None else f"fold {fold}", 0.0) for split, fold in names]
    order = sorted(set(shares), reverse=True)
    return [order.index(share) for share in shares]


def _block(
    image: Image,
    cell: Cell,
    names: Sequence[tuple[str, int | None]],
    labels: dict[tuple[int, int, int], int],
) -> Block:
    _, row, col = cell.place
    split, fold = names[labels[cell.place]] if cell.place in labels else ("train", None)
    pixels = max(1, int(cell.counts.sum()))
    top, bottom, left, right = cell.area
    return Block(
        block=f"{image.name}_r{row}_c{col}",
        source=image.name,
        row=top,
        col=left,
        height=bottom - top,
        width=right - left,
        split=split,
        fold=fold,
        selected=not cell.reason,
        reason=cell.reason,
        nodata=int(cell.counts[-1]) / pixels,
        unlabelled=int(cell.counts[-2]) / pixels,
        shares=tuple(int(each) / pixels for each in cell.counts[:-2]),
    )


def _labelled(cells: Sequence[Cell]) -> int:
    return sum(int(cell.counts[:-2].sum()) for cell in cells if not cell.reason)


def _label_name(name: tuple[str, int | None]) -> str:
    return name[0] if name[1] is None else f"fold {name[1]}"


def _achieved(
    cells: Sequence[Cell],
    labels: dict[tuple[int, int, int], int],
    names: Sequence[tuple[str, int | None]],
    classes: int,
) -> dict[str, NDArray[np.float64]]:
    totals = np.zeros((len(names), classes), np.int64)
    for cell in cells:
        if not cell.reason:
            totals[labels[cell.place]] += cell.counts[:-2]
    shares = totals / np.maximum(totals.sum(axis=0), 1)
    return {_label_name(name): share for name, share in zip(names, shares, strict=True)}


def _check_filled(
    cells: Sequence[Cell],
    labels: dict[tuple[int, int, int], int],
    names: Sequence[tuple[str, int | None]],
    guard: float | None,
    guard_pixels: int,
) -> None:
    """Raise UserError if the guard has left nothing of a split."""
    left = {labels[cell.place] for cell in cells if not cell.reason}
    for label in sorted(set(labels.values()) - left):
        number = sum(1 for cell in cells if cell.place in labels and labels[cell.place] == label)
        shown = f"{guard_pixels} px" if guard is None else f"{guard:.4g} m"
        raise UserError(
            f"split.guard: {shown} leaves nothing of the {number} blocks of {_label_name(names[label])} (make the "
            "guard smaller with split.guard, or the blocks larger with split.block_size)"
        )


def _shared_ground(images: Sequence[Image], groups: Sequence[Group]) -> list[str]:
    """Return a notice about images that show the same ground."""
    pairs = []
    for group in groups:
        if len(group.members) < 2:
            continue
        plane = Plane(group.headers)
        whole = [Block("", "", 0, 0, header.height, header.width, "train") for header in group.headers]
        outlines = np.concatenate([rectangles(h, [b], plane) for h, b in zip(group.headers, whole, strict=True)])
        one, other = shapely.STRtree(outlines).query(outlines, predicate="intersects")
        one, other = one[one < other], other[one < other]
        area = shapely.area(outlines)
        common = shapely.area(shapely.intersection(outlines[one], outlines[other])) > _SHARED * np.minimum(
            area[one], area[other]
        )
        pairs += [(group.members[a], group.members[b]) for a, b in zip(one[common], other[common], strict=True)]
    if not pairs:
        return []
    shown = join_some(f"{quoted(images[a].name)} and {quoted(images[b].name)}" for a, b in sorted(pairs))
    return [f"images show the same ground, so that each place of it lands in one split: {shown}"]

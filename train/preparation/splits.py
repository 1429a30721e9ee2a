"""Blocks of a data set and their splits, from the images, their labels and the config."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.text import quoted
from train.data.guard import Plane, rectangles, too_close
from train.data.pairs import join_some
from train.data.prepared import Block
from train.preparation.assign import assign, label_name
from train.preparation.blocks import lay_out
from train.preparation.cells import Cell, Count, Image, cell_size, find_cells, guard_of, select_cells, trim_cells
from train.preparation.config import SelectConfig, SplitConfig
from train.preparation.draw import unit_noun
from train.preparation.ground import Group, find_groups
from train.preparation.units import Unit, Units

_SHARED = 1e-3
"""Share of an image from which two images are said to show the same ground."""
_FIX = {"block": "try another split.seed, or smaller blocks with split.block_size", "given": "change split in sources"}
_FIX |= dict.fromkeys(("site", "date", "column"), "try another split.seed, or split.by: block")
_TOUCHED = 1.0
"""Pixels of a block from which it lies in an area; less is the rounding of a shared outline."""


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
    used = [cell for cell in cells if not cell.reason]
    if not used:
        kinds = Counter(cell.reason.rstrip(" %.0123456789") for cell in cells)
        found_kinds = ", ".join(f"{count} with {kind or 'no pixels'}" for kind, count in sorted(kinds.items()))
        raise UserError(
            f"none of the {len(cells)} blocks can be selected: {found_kinds} (check the nodata value of the "
            "images, labels and areas; or change select.max_nodata or select.min_labelled)"
        )
    keys = _keys(images, used, config)
    units = Units([Unit(cell.place, key, cell.image) for cell, key in zip(used, keys, strict=True)])
    for cell in cells:
        if not cell.reason and config.by == "column" and units.key(cell.place) is None:
            cell.reason = f"lies in areas of several values of {config.column}, or in none"
    notices += units.notices([image.name for image in images], config.by)
    try:
        found = assign(cells, units, config, groups, grids, (guard, guard_pixels))
    except UserError as error:  # units that were joined because of shared ground may be why there are too few
        raise UserError("; ".join([str(error), *notices])) from None
    labels, names = found.labels, found.names
    drawn = [cell for cell in cells if not cell.reason]
    before, spread = _labelled(cells), _spread(drawn, units)
    trim_cells(images, groups, grids, cells, labels, (guard, guard_pixels), found.ranks, tile, count)
    select_cells(cells, select)
    blocks = [_block(images[cell.image], cell, names, labels) for cell in cells]
    _check_filled(cells, labels, names, guard, guard_pixels)
    achieved = _achieved(cells, labels, names, len(classes))
    notices += _missing_classes(classes, found.wanted, achieved, spread, config.by)
    headers = {image.name: image.header for image in images}
    close = too_close(blocks, headers, guard, guard_pixels)
    assert not close, f"blocks {blocks[close[0].first]} and {blocks[close[0].second]} are {close[0].distance} apart"
    return BlockPlan(
        blocks,
        guard,
        guard_pixels,
        found.wanted,
        achieved,
        1 - _labelled(cells) / before if before else 0.0,
        tuple(notices),
    )


def _keys(images: Sequence[Image], cells: Sequence[Cell], config: SplitConfig) -> list[str | None]:
    """Return what each block is drawn with, beside its own ground: its site, date, split or the value of its areas."""
    if config.by == "column":
        return _column_keys(images, cells)
    return [_key(images[cell.image], config) for cell in cells]


def _key(image: Image, config: SplitConfig) -> str:
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
    return ""


def _column_keys(images: Sequence[Image], cells: Sequence[Cell]) -> list[str | None]:
    """Return the value of the areas that each block lies in; None if they have several, or there are none."""
    values: list[set[str]] = [set() for _ in cells]
    of_image: dict[int, list[int]] = {}
    for number, cell in enumerate(cells):
        of_image.setdefault(cell.image, []).append(number)
    for image, numbers in of_image.items():
        top, bottom, left, right = np.array([cells[number].area for number in numbers]).T
        areas, blocks = images[image].areas, shapely.box(left, top, right, bottom)
        block, area = shapely.STRtree(areas).query(blocks, predicate="intersects")
        shared = shapely.area(shapely.intersection(blocks[block], areas[area])) >= _TOUCHED
        for at, which in zip(block[shared].tolist(), area[shared].tolist(), strict=True):
            values[numbers[at]].add(images[image].values[which])
    return [found.pop() if len(found) == 1 else None for found in values]


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
    return {label_name(name): share for name, share in zip(names, shares, strict=True)}


def _spread(cells: Sequence[Cell], units: Units) -> list[int]:
    """Return how many units have pixels of each class."""
    having: list[set[int]] = [set() for _ in cells[0].counts[:-2]] if cells else []
    for cell in cells:
        for index in np.flatnonzero(cell.counts[:-2]).tolist():
            having[index].add(units.number(cell.place))
    return [len(found) for found in having]


def _missing_classes(
    classes: Sequence[str],
    wanted: Mapping[str, float],
    achieved: Mapping[str, NDArray[np.float64]],
    spread: Sequence[int],
    by: str,
) -> list[str]:
    """Return notices about classes that a split or fold has no pixel of.

    Args:
        classes: Names of the classes.
        wanted: Splits or folds that are wanted.
        achieved: Share of the pixels of each class in each of them.
        spread: Number of units that have pixels of each class.
        by: What a unit is.
    """
    lines = []
    for index, name in enumerate(classes):
        without = [split for split in wanted if split in achieved and not achieved[split][index] > 0]
        if not spread[index] or len(without) == len(wanted):
            lines.append(f"no block that is used has a pixel of {quoted(name)}")
        elif without:
            where = f"{unit_noun(by)} with pixels of it: {spread[index]}"
            lines.append(f"no pixel of {quoted(name)} is in {join_some(without)} ({where}; {_FIX[by]}, or label more)")
    return lines


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
            f"split.guard: {shown} leaves nothing of the {number} blocks of {label_name(names[label])} (make the "
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

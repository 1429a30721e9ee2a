"""Blocks of a data set and their splits, from the images, their labels and the config."""

from collections.abc import Sequence
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
    found = assign(cells, units, config, groups, grids, (guard, guard_pixels))
    labels, names = found.labels, found.names
    before = _labelled(cells)
    trim_cells(images, groups, grids, cells, labels, (guard, guard_pixels), found.ranks, tile, count)
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
        found.wanted,
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

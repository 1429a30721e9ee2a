"""Cells of a data set: blocks of images, each in a cell of ground, with counts of their pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.areas import ground_sample_distance
from inference.common.errors import UserError
from inference.common.raster import Header
from train.preparation.blocks import NONE, trim
from train.preparation.config import Distance, SelectConfig, SplitConfig, distance
from train.preparation.ground import Group, extent, rectangles

DEFAULT_BLOCK = 4
"""Side of a block where the config doesn't say, tiles."""
Rectangle = tuple[int, int, int, int]
"""First row, row after the last, first column and column after the last, pixels of an image."""
Count = Callable[[int, Sequence[Rectangle]], NDArray[np.int64]]
"""Counts the pixels of rectangles of an image, given by its number: (n, classes + 2) int64, the valid pixels of each
class, the valid pixels without a label, and the invalid pixels."""


@dataclass(frozen=True)
class Image:
    """Image of a data set.

    Attributes:
        name: Unique name.
        header: Header.
        site: Name of the place.
        date: Date; None if unknown.
        split: Split that the user gave it; None for none.
        areas: (n,) polygons in pixel coordinates that carry a value of the column; empty without a column.
        values: Value of each of them.
    """

    name: str
    header: Header
    site: str
    date: str | None = None
    split: str | None = None
    areas: NDArray[Any] = field(default_factory=lambda: np.zeros(0, object))
    values: tuple[str, ...] = ()


@dataclass
class Cell:
    """Block of an image in a cell of a frame; `place` is the group's number, and the row and column of the cell."""

    image: int
    place: tuple[int, int, int]
    area: Rectangle
    counts: NDArray[np.int64]
    reason: str = ""


def guard_of(images: Sequence[Image], config: SplitConfig, tile: int) -> tuple[float | None, int]:
    """Return the guard on the ground, metres, and in images that aren't georeferenced, pixels.

    Raises:
        UserError: It is given in metres, and an image isn't georeferenced.
    """
    wanted = Distance(tile, "px") if config.guard is None else distance(config.guard)
    headers = [image.header for image in images]
    sizes = [ground_sample_distance(h.crs, h.transform, h.height, h.width) for h in headers]
    known = [size for size in sizes if size is not None]
    if wanted.unit == "m":
        if len(known) < len(sizes) and wanted.value:
            path = next(header.path for header, size in zip(headers, sizes, strict=True) if size is None)
            raise UserError(
                f"split.guard: {wanted} can't be measured in {path}, which isn't georeferenced (give the guard in "
                "pixels, such as 512 px)"
            )
        return (wanted.value if known else None), 0
    # One guard for the whole set: that of the coarsest image.
    return (wanted.value * max(known) if known else None), int(np.ceil(wanted.value))


def cell_size(group: Group, config: SplitConfig, tile: int) -> tuple[float, float]:
    """Return the wanted height and width of a cell, pixels of the group's frame.

    Raises:
        UserError: It is given in metres, and the image isn't georeferenced.
    """
    wanted = Distance(DEFAULT_BLOCK * tile, "px") if config.block_size is None else distance(config.block_size)
    if wanted.unit == "px" or group.sides is None:
        if wanted.unit == "m":
            raise UserError(
                f"split.block_size: {wanted} can't be measured in {group.headers[0].path}, which isn't georeferenced "
                "(give it in pixels, such as 2048 px)"
            )
        return max(1.0, wanted.value), max(1.0, wanted.value)
    return max(1.0, wanted.value / group.sides[0]), max(1.0, wanted.value / group.sides[1])


def find_cells(
    images: Sequence[Image], groups: Sequence[Group], grids: Sequence[NDArray[np.int64]], tile: int, count: Count
) -> list[Cell]:
    """Return the blocks of all images, in their order, with counts of their pixels."""
    found: dict[int, list[Cell]] = {}
    for number, (group, grid) in enumerate(zip(groups, grids, strict=True)):
        for image, header in zip(group.members, group.headers, strict=True):
            at = _shown(header, group.headers[0], grid)
            areas, whole = rectangles(header, group.headers[0], grid[at[:, 0], at[:, 1]])
            alive = _has_extent(areas)
            counts = count(image, [_rectangle(area) for area in areas[alive]])
            cells = [
                Cell(image, (number, int(row), int(col)), _rectangle(area), each)
                for (row, col), area, each in zip(at[alive], areas[alive], counts, strict=True)
            ]
            small = _too_small(areas[alive], np.minimum(whole[alive], (header.height, header.width)), tile)
            for which in np.flatnonzero(small).tolist():  # a strip at the edge of the image
                cells[which].reason = "smaller than a quarter of a tile"
            found[image] = cells
    return [cell for image in range(len(images)) for cell in found[image]]


def _shown(header: Header, frame: Header, grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return row and column of the cells that an image may show, (n, 2)."""
    top, bottom, left, right = extent(header, frame)
    rows, cols = grid[:, 0, :2], grid[0, :, 2:]
    across = np.flatnonzero((rows[:, 1] > top - 1) & (rows[:, 0] < bottom + 1))
    down = np.flatnonzero((cols[:, 1] > left - 1) & (cols[:, 0] < right + 1))
    return np.stack(np.meshgrid(across, down, indexing="ij"), -1).reshape(-1, 2)


def select_cells(cells: Sequence[Cell], select: SelectConfig) -> None:
    """Give a reason to cells that have too much nodata, or too little that is labelled."""
    for cell in cells:
        *labelled, unlabelled, invalid = cell.counts.tolist()
        pixels, valid = int(cell.counts.sum()), sum(labelled) + unlabelled
        if cell.reason or not pixels:
            continue
        if invalid / pixels > select.max_nodata or not valid:
            cell.reason = f"nodata {100 * invalid / pixels:.3g} %"
        elif not sum(labelled):
            cell.reason = "no labelled pixel"
        elif sum(labelled) / valid < select.min_labelled:
            cell.reason = f"labelled {100 * sum(labelled) / valid:.3g} %"


def trim_cells(
    images: Sequence[Image],
    groups: Sequence[Group],
    grids: Sequence[NDArray[np.int64]],
    cells: Sequence[Cell],
    labels: dict[tuple[int, int, int], int],
    guard: tuple[float | None, int],
    ranks: Sequence[int],
    tile: int,
    count: Count,
) -> None:
    """Trim the cells of all groups, in place, and count their pixels anew."""
    used: dict[int, dict[int, list[Cell]]] = {}
    for cell in cells:
        if not cell.reason:
            used.setdefault(cell.place[0], {}).setdefault(cell.image, []).append(cell)
    changed: dict[int, list[Cell]] = {}
    for number, of_image in used.items():
        group, grid = groups[number], grids[number]
        label = np.full(grid.shape[:2], NONE)
        for cell in (cell for several in of_image.values() for cell in several):
            label[cell.place[1:]] = labels[cell.place]
        trimmed = trim(grid, label, frame_guard(group, guard), ranks)
        for image, several in of_image.items():
            at = np.array([cell.place[1:] for cell in several])
            bounds, before = trimmed[at[:, 0], at[:, 1]], np.array([cell.area for cell in several])
            areas, _ = rectangles(images[image].header, group.headers[0], bounds)
            left = _has_extent(bounds) & _has_extent(areas)
            left &= ~_too_small(areas, _sides(before), tile)
            moved = (bounds != grid[at[:, 0], at[:, 1]]).any(axis=1)
            for which in np.flatnonzero(moved).tolist():
                cell = several[which]
                if left[which]:
                    cell.area = _rectangle(areas[which])
                    changed.setdefault(image, []).append(cell)
                else:
                    cell.reason = "guard"
    for image, several in changed.items():
        for cell, counts in zip(several, count(image, [cell.area for cell in several]), strict=True):
            cell.counts = counts


def frame_guard(group: Group, guard: tuple[float | None, int]) -> tuple[int, int]:
    """Return the guard in rows and columns of a group's frame.

    Args:
        group: Group of images.
        guard: Guard on the ground, metres or None, and in pixels.
    """
    if group.sides is None or guard[0] is None:
        return guard[1], guard[1]
    rows, cols = (int(np.ceil(guard[0] / side - 1e-6)) for side in group.sides)
    return (rows + group.margin[0] if rows else 0), (cols + group.margin[1] if cols else 0)


def _rectangle(area: NDArray[np.int64]) -> Rectangle:
    top, bottom, left, right = area.tolist()
    return top, bottom, left, right


def _sides(areas: NDArray[np.int64]) -> NDArray[np.int64]:
    return areas[:, 1::2] - areas[:, ::2]


def _has_extent(areas: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((_sides(areas) > 0).all(axis=1))


def _too_small(areas: NDArray[np.int64], before: NDArray[Any], tile: int) -> NDArray[np.bool_]:
    """Return True where a side is less than a quarter of a tile, or of what it was if that was less than a tile."""
    return np.asarray((4 * _sides(areas) < np.minimum(before, tile)).any(axis=1))

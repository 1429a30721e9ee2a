"""What a map shows and what it took, in numbers and as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.areas import pixel_areas

# Cells whose pixels are taken to be of one area; on the coarsest drone mosaics they are a hundred metres wide.
_CELL_ROWS, _CELL_COLS = 64, 512


class ClassCounter:
    """Counts pixels and ground areas of classes while a map is written.

    Args:
        classes: How many.
        crs: The map's CRS; None where it has none.
        transform: From (column, row) to the CRS.
        width: Of the map, pixels.
    """

    def __init__(self, classes: int, crs: Any, transform: Any, width: int) -> None:
        self.pixels = np.zeros(classes, np.int64)
        self.invalid = 0
        self._areas: NDArray[np.float64] | None = np.zeros(classes)
        self._crs, self._transform = crs, transform
        self._cols = _edges(width, _CELL_COLS)

    def add(self, row: int, values: NDArray[np.uint8], invalid: NDArray[np.bool_] | None) -> None:
        """Takes in some rows of a map.

        Args:
            row: The first of them.
            values: (n, width) class of each pixel.
            invalid: (n, width) bool, True where there is none; None where all is valid.
        """
        rows = _edges(len(values), _CELL_ROWS)
        counts = np.zeros((len(self.pixels), len(rows) - 1, len(self._cols) - 1), np.int64)
        valid = np.outer(np.diff(rows), np.diff(self._cols)) if invalid is None else _count(~invalid, rows, self._cols)
        for number in range(1, len(counts)):
            found = values == number
            if invalid is not None:
                found &= ~invalid
            counts[number] = _count(found, rows, self._cols)
        counts[0] = valid - counts[1:].sum(axis=0)
        self.pixels += counts.sum(axis=(1, 2))
        self.invalid += values.size - int(valid.sum())
        areas = pixel_areas(self._crs, self._transform, (rows + row).astype(np.float64), self._cols.astype(np.float64))
        if areas is None or self._areas is None:
            self._areas = None
        else:
            self._areas += (counts * areas).sum(axis=(1, 2))

    @property
    def areas(self) -> NDArray[np.float64] | None:
        """Ground area of each class, m²; None where the map has no place on the Earth."""
        return self._areas


def _edges(length: int, step: int) -> NDArray[np.int64]:
    return np.append(np.arange(0, length, step), length)


def _count(found: NDArray[np.bool_], rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of (H, W) bool are True in each cell."""
    return np.array(
        [
            [np.count_nonzero(found[top:bottom, left:right]) for left, right in pairwise(cols)]
            for top, bottom in pairwise(rows)
        ]
    )


@dataclass(frozen=True)
class ClassTotal:
    """What a map shows of one class.

    Attributes:
        name: Of the class.
        value: In the map.
        pixels: How many.
        area: On the ground, m²; None where the map has no place on the Earth.
    """

    name: str
    value: int
    pixels: int
    area: float | None


@dataclass(frozen=True)
class Summary:
    """What a map shows and what it took.

    Attributes:
        classes: In the order of their values.
        invalid: Pixels without image.
        height: Of the map, pixels.
        width: Of the map, pixels.
        tiles: Predicted tiles.
        skipped: Tiles that show nothing valid.
        tile: Side of a tile, pixels.
        seconds: From the call to the finished map, loading the model included.
        backend: Library and version, device and precision.
        model: File, name and revision of the model.
        paths: What was written.
        notices: What the user may not expect, a line each.
    """

    classes: Sequence[ClassTotal]
    invalid: int
    height: int
    width: int
    tiles: int
    skipped: int
    tile: int
    seconds: float
    backend: str
    model: str
    paths: Sequence[str]
    notices: Sequence[str] = field(default_factory=tuple)

    def __str__(self) -> str:
        valid = sum(total.pixels for total in self.classes)
        wide = max(7, *(len(total.name) for total in self.classes))
        known = all(total.area is not None for total in self.classes)
        lines = [f"{'class':<{wide}}  value {'pixels':>14} {'share':>7}" + (f" {'m²':>14} {'ha':>11}" if known else "")]
        for total in self.classes:
            share = 100 * total.pixels / valid if valid else 0.0
            line = f"{total.name:<{wide}}  {total.value:>5} {total.pixels:>14,} {share:>6.2f}%"
            lines.append(line + (f" {total.area:>14,.1f} {total.area / 1e4:>11,.4f}" if total.area is not None else ""))
        lines.append(f"{'invalid':<{wide}}        {self.invalid:>14,}")
        if not known:
            lines.append("no areas: the mosaic has no place on the Earth")
        speed = self.height * self.width / 1e6 / self.seconds if self.seconds else 0.0
        lines += [
            f"model: {self.model}",
            f"run by: {self.backend}; {self.tiles:,} tiles of {self.tile} px, {self.skipped:,} empty ones skipped",
            f"took: {self.seconds:.1f} s, {speed:.2f} Mpx/s",
        ]
        return "\n".join(lines + [f"wrote: {path}" for path in self.paths])

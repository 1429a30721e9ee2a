"""Row bands: parts of a mosaic that are mapped apart and joined to what one process writes, bit for bit.

A pixel's blended probability depends on the rows of tiles that cover it alone, and on their order. A band that contains
the image rows from one row of tiles to another therefore predicts, above its own, the rows of tiles that reach into it;
the band above predicts these too. Each pixel is the running mean of the same tiles in the same order, with the weights
of the whole axis. No sum crosses from one band to another.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from inference.tiles.tiling import Axis

LEAST_ROWS = 4
"""Fewest rows of tiles of a band."""
_LEAST_SHARE = 3  # rows of tiles of a band for each one that it predicts once more


@dataclass(frozen=True)
class RowBand:
    """Consecutive rows of tiles.

    Attributes:
        begin: First row of tiles that is predicted; up to `first` they belong to the band above.
        first: First row of tiles of the band. Its image rows begin with those of this row of tiles.
        stop: Row of tiles after the last one.
    """

    begin: int
    first: int
    stop: int

    @property
    def predicted(self) -> int:
        """Number of rows of tiles that are predicted."""
        return self.stop - self.begin


def whole(axis: Axis) -> RowBand:
    """Return the band of all rows of tiles."""
    return RowBand(0, 0, len(axis))


def row_band(axis: Axis, first: int, stop: int) -> RowBand:
    """Return the band of the rows of tiles from `first` to `stop`, exclusive.

    Args:
        axis: Tiles from top to bottom.
        first: First row of tiles.
        stop: Row of tiles after the last one.
    """
    # The first row of tiles that ends below the band's first image row.
    return RowBand(bisect_right(axis.starts, axis.starts[first] - axis.inside), first, stop)


def cut(axis: Axis, number: int) -> list[RowBand]:
    """Cut an axis into bands that take about the same time.

    Args:
        axis: Tiles from top to bottom.
        number: Bands that are wanted; there are fewer where they would be thin.

    Returns:
        The bands from top to bottom; a single one where there is nothing to cut.
    """
    repeated = max((row - row_band(axis, row, len(axis)).begin for row in range(1, len(axis))), default=0)
    least = max(LEAST_ROWS, _LEAST_SHARE * repeated)
    number = max(1, min(number, (len(axis) - repeated) // least))
    each = (len(axis) + (number - 1) * repeated) / number  # that a band predicts
    cuts = [0, *(round(at * each - (at - 1) * repeated) for at in range(1, number)), len(axis)]
    return [row_band(axis, first, stop) for first, stop in pairwise(cuts)]

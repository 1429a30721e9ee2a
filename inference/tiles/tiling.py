"""Tile positions along the axes of an image.

Each axis gets as few tiles as the requested overlap allows, spread evenly from border to border. Every tile then
shows real pixels only, and no overlap is smaller than requested. Only an image smaller than a tile is extended, by
reflection.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of an image.

    Attributes:
        length: Length of the image, pixels.
        tile: Side of a tile, pixels.
        starts: First pixel of each tile, ascending. A tile ends inside the image unless the image is smaller than it.
    """

    length: int
    tile: int
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def inside(self) -> int:
        """Number of pixels of a tile inside the image: all, unless the image is smaller than a tile."""
        return min(self.tile, self.length)

    def stop(self, index: int) -> int:
        """Return the end of a tile in the image (exclusive)."""
        return self.starts[index] + self.inside

    def overlap(self, index: int) -> int:
        """Return the number of leading pixels of a tile that the previous tile covers too."""
        return self.stop(index - 1) - self.starts[index] if index else 0

    def final_stop(self, index: int) -> int:
        """Return the end (exclusive) of the pixels that no tile after this one covers."""
        return self.starts[index + 1] if index + 1 < len(self) else self.length


def tile_axis(length: int, tile: int, overlap: float) -> Axis:
    """Return the fewest evenly spread tiles that cover an axis with at least the given overlap.

    Args:
        length: Length of the image, pixels, at least 1.
        tile: Side of a tile, pixels, at least 1.
        overlap: Smallest fraction of a tile that the next one covers too, in [0, 1).
    """
    if length <= tile:
        return Axis(length, tile, (0,))
    stride = max(1, math.floor(tile * (1 - overlap)))
    gaps = math.ceil((length - tile) / stride)
    return Axis(length, tile, tuple((length - tile) * i // gaps for i in range(gaps + 1)))


def reflected(size: int, length: int) -> NDArray[np.intp]:
    """Return the indices that extend an axis by reflection: 0 1 2 3 2 1 0 1 ..., border pixels not repeated.

    Args:
        size: Number of indices to return.
        length: Length of the axis, pixels.

    Returns:
        (size,) indices into the axis; the same as `numpy.pad(..., mode="reflect")`.
    """
    if length == 1:
        return np.zeros(size, np.intp)
    places = np.arange(size) % (2 * (length - 1))
    return np.minimum(places, 2 * (length - 1) - places)

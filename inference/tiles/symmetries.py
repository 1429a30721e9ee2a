"""The eight flips and turns of a square, for averaging a network's answers over them (test-time augmentation)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Symmetry:
    """A flip and then quarter turns.

    Attributes:
        flipped: Whether columns are reversed first.
        turns: Quarter turns after that, counter-clockwise.
    """

    flipped: bool
    turns: int

    def apply(self, tiles: NDArray[Any]) -> NDArray[Any]:
        """(N, C, T, T) flipped and turned, C-contiguous."""
        flipped = tiles[..., ::-1] if self.flipped else tiles
        return np.ascontiguousarray(np.rot90(flipped, self.turns, axes=(2, 3)))

    def undo(self, tiles: NDArray[Any]) -> NDArray[Any]:
        """What `apply` undoes."""
        turned = np.rot90(tiles, -self.turns, axes=(2, 3))
        return turned[..., ::-1] if self.flipped else turned


SYMMETRIES = tuple(Symmetry(flipped, turns) for flipped in (False, True) for turns in range(4))
"""All eight; the first leaves everything where it is."""

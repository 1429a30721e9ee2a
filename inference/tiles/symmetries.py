"""Test-time augmentation: the eight flips and turns of a square tile, and the mean of the predictions over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Symmetry:
    """A flip followed by quarter turns.

    Attributes:
        flipped: Whether columns are reversed first.
        turns: Number of quarter turns after the flip, counter-clockwise.
    """

    flipped: bool
    turns: int

    def apply(self, tiles: NDArray[Any]) -> NDArray[Any]:
        """Flip and turn tiles, (N, C, T, T); the result is C-contiguous."""
        flipped = tiles[..., ::-1] if self.flipped else tiles
        return np.ascontiguousarray(np.rot90(flipped, self.turns, axes=(2, 3)))

    def undo(self, tiles: NDArray[Any]) -> NDArray[Any]:
        """Invert `apply` on tiles, (N, C, T, T); the result may be a view."""
        turned = np.rot90(tiles, -self.turns, axes=(2, 3))
        return turned[..., ::-1] if self.flipped else turned


SYMMETRIES = tuple(Symmetry(flipped, turns) for flipped in (False, True) for turns in range(4))
"""All eight symmetries; the first is the identity."""


def mean_prediction(predictions: Sequence[tuple[Symmetry, NDArray[np.float32]]]) -> NDArray[np.float32]:
    """Return the mean of predictions of the same tiles under several symmetries.

    Args:
        predictions: Each symmetry with the probabilities predicted for the tiles under it, (N, channels, T, T) float32.

    Returns:
        (N, channels, T, T) float32 in the tiles' own orientation.
    """
    restored = [symmetry.undo(prediction) for symmetry, prediction in predictions]
    return restored[0] if len(restored) == 1 else np.mean(restored, axis=0, dtype=np.float32)

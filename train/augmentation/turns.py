"""The eight flips and quarter turns of a window."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Rows that are transposed at a time, so that reads and writes both stay within the cache.
_BLOCK = 32
# OpenCV transposes pixels of any size up to this; beyond, only of some sizes.
_CV_PIXEL = 4


@dataclass(frozen=True)
class Turn:
    """One of the eight flips and quarter turns: the transposition comes first.

    Attributes:
        transpose: True to exchange rows and columns.
        up_down: True to reverse the order of the rows.
        left_right: True to reverse the order of the columns.
    """

    transpose: bool = False
    up_down: bool = False
    left_right: bool = False

    @classmethod
    def of(cls, number: int) -> "Turn":
        """Return the turn of a number, 0 to 7; 0 is the identity."""
        return cls(bool(number & 4), bool(number & 2), bool(number & 1))

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn (H, W) or (H, W, bands); return the same array if nothing moves, else a contiguous copy."""
        if self == Turn():
            return pixels
        pixels = np.ascontiguousarray(pixels)
        shape = pixels.shape[:2][::-1] if self.transpose else pixels.shape[:2]
        size = pixels[0, 0].nbytes
        moved = self._with_opencv(pixels) if size <= _CV_PIXEL else self._with_numpy(pixels, size)
        return moved.reshape(*shape, *pixels.shape[2:])

    def matrix(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the (3, 3) matrix from places (x, y, 1) in an image of this size to their places after the turn."""
        matrix = np.eye(3)
        if self.transpose:
            matrix, height, width = matrix[[1, 0, 2]], width, height
        if self.left_right:
            matrix[0] = [0, 0, width - 1] - matrix[0]
        if self.up_down:
            matrix[1] = [0, 0, height - 1] - matrix[1]
        return matrix

    def _with_opencv(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn pixels of few bytes."""
        moved = cv2.transpose(pixels) if self.transpose else pixels
        if self.up_down or self.left_right:
            direction = -1 if self.up_down and self.left_right else 0 if self.up_down else 1
            moved = cv2.flip(moved, direction, dst=moved if self.transpose else None)
        return np.asarray(moved)

    def _with_numpy(self, pixels: NDArray[Any], size: int) -> NDArray[Any]:
        """Turn pixels of any number of bytes, each copied as one item: band by band is up to five times as slow."""
        source = pixels.reshape(*pixels.shape[:2], -1).view(f"V{size}")[..., 0]
        moved = np.empty(source.shape[::-1] if self.transpose else source.shape, source.dtype)
        # The target's rows and columns, so turned that they lie as those of the source.
        target = moved[:: -1 if self.up_down else 1, :: -1 if self.left_right else 1]
        target = target.T if self.transpose else target
        for row in range(0, len(source), _BLOCK):
            target[row : row + _BLOCK] = source[row : row + _BLOCK]
        return moved.view(pixels.dtype)

"""One resampling of a window for all of its geometric changes: image bilinear, labels and validity nearest."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.augmentation import each_part

Matrix = NDArray[np.floating[Any]]
Maps = tuple[NDArray[np.float32], NDArray[np.float32] | None]
# Marks invalid pixels and pixels from outside the window in a label of 16 bits.
_INVALID = 256


@dataclass(frozen=True)
class Warp:
    """Geometric change of a window, by one of two descriptions.

    Attributes:
        matrix: (3, 3) matrix from places (x, y, 1) in the window to their places after the change.
        maps: For each pixel after the change its column and row in the window: two (H, W) float32 arrays, or one
            (H, W, 2) and None. None where the matrix describes the change.
    """

    matrix: Matrix
    maps: Maps | None = None

    def __call__(
        self,
        image: NDArray[Any],
        label: NDArray[np.uint8],
        invalid: NDArray[np.bool_] | None,
        ignore_index: int,
        fill_value: float,
    ) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.bool_]]:
        """Resample a window.

        Args:
            image: Image (H, W, bands), uint8 or float32.
            label: Label (H, W) uint8.
            invalid: Mask (H, W) bool, True at invalid pixels; None if all are valid.
            ignore_index: Label of pixels from outside the window.
            fill_value: Image value of pixels from outside the window.

        Returns:
            Image, label, and mask of the pixels that are invalid or from outside.
        """
        # Label and validity as one array: two would be resampled at twice the cost.
        both = label.astype(np.uint16)
        if invalid is not None:
            both |= invalid.view(np.uint8) * np.uint16(_INVALID)
        both = self._resample(both, cv2.INTER_NEAREST, _INVALID + ignore_index)
        return self._bands(image, fill_value), both.astype(np.uint8), both >= _INVALID

    def _resample(self, pixels: NDArray[Any], interpolation: int, outside: float) -> NDArray[Any]:
        """Resample (H, W) or (H, W, bands)."""
        # OpenCV repeats the four values for further bands.
        border: dict[str, Any] = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (outside,) * 4}
        if self.maps is not None:
            return np.asarray(cv2.remap(pixels, *self.maps, interpolation, **border))
        size = pixels.shape[1::-1]
        if np.array_equal(self.matrix[2], (0, 0, 1)):
            return np.asarray(cv2.warpAffine(pixels, self.matrix[:2], size, flags=interpolation, **border))
        return np.asarray(cv2.warpPerspective(pixels, self.matrix, size, flags=interpolation, **border))

    def _bands(self, image: NDArray[Any], fill_value: float) -> NDArray[Any]:
        """Resample an image of any number of bands."""
        if image.shape[2] == 3 and image.dtype == np.uint8:
            # Four bands are resampled in half the time of three.
            padded = self._resample(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), cv2.INTER_LINEAR, fill_value)
            return np.asarray(cv2.cvtColor(padded, cv2.COLOR_RGBA2RGB))
        return each_part(lambda part: self._resample(part, cv2.INTER_LINEAR, fill_value), image)


def grid_maps(x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], matrix: Matrix) -> Maps:
    """Return the maps of a change that moves whole columns and rows, followed by an affine one.

    Args:
        x: For each column after the change its column before, (W,).
        y: For each row after the change its row before, (H,).
        matrix: (3, 3) affine matrix that is applied to (x, y, 1).

    Returns:
        Columns and rows, two (H, W) float32 arrays.
    """
    columns, rows = (
        np.add.outer((b * y + c).astype(np.float32), (a * x).astype(np.float32)) for a, b, c in matrix[:2].tolist()
    )
    return columns, rows

"""Augmentations of training windows that are faster than those of Albumentations, and the import of that library."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# On import Albumentations looks for a newer release, which takes seconds without a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

__all__ = ["A", "each_part"]

# OpenCV 4 processes images of up to 512 bands, OpenCV 5 of up to 128.
_CV_BANDS = 128


def each_part(function: Callable[[NDArray[Any]], NDArray[Any]], image: NDArray[Any]) -> NDArray[Any]:
    """Apply an OpenCV function to an image (H, W, bands): to all bands at once where OpenCV can, else to parts.

    Args:
        function: Function that processes each band by itself, and keeps the shape.
        image: Image of any number of bands.

    Returns:
        Image of the same shape.
    """
    bands = image.shape[2]
    if bands <= _CV_BANDS:
        return np.asarray(function(image)).reshape(image.shape)
    parts = np.array_split(image, -(-bands // _CV_BANDS), axis=2)
    return np.concatenate([each_part(function, np.ascontiguousarray(part)) for part in parts], axis=2)

"""Photometric transforms of uint8 images, drawn as Albumentations draws them and applied with look-up tables."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.augmentation import A, each_part

_LEVELS = 65536


class GaussianNoise(A.GaussNoise):  # type: ignore[misc]
    """Gaussian noise of uint8 images, by looking random integers up in a table of quantiles.

    All random numbers come from the transform's own generator; OpenCV's generator, which a whole thread shares, is not
    used. Other types are left to Albumentations.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the noise: int16, rounded to whole units, in the shape of the image."""
        image: NDArray[Any] = data["image"]
        if image.dtype != np.uint8 or not self.per_channel or self.noise_scale_factor != 1:
            drawn: dict[str, Any] = super().get_params_dependent_on_data(params, data)
            return drawn
        std, mean = self.py_random.uniform(*self.std_range), self.py_random.uniform(*self.mean_range)
        table = np.rint(255 * (mean + std * _quantiles())).astype(np.int16)
        # Two axes: OpenCV limits the number of bands.
        indices = self.random_generator.integers(0, _LEVELS, (len(image), image[0].size), np.uint16)
        return {"noise_map": look_up(table, indices)}

    def apply(self, img: NDArray[Any], noise_map: NDArray[Any], **params: Any) -> NDArray[Any]:
        """Add the noise; values beyond 0 and 255 are cut off."""
        if noise_map.dtype != np.int16:
            return np.asarray(super().apply(img, noise_map, **params))
        noisy = cv2.add(img.reshape(noise_map.shape), noise_map, dtype=cv2.CV_8U)
        return np.asarray(noisy).reshape(img.shape)


class HueSaturationValue(A.HueSaturationValue):  # type: ignore[misc]
    """Shift of hue, saturation and value of three uint8 bands, by one look-up for all three."""

    def apply(
        self, img: NDArray[np.uint8], hue_shift: float, sat_shift: float, val_shift: float, **params: Any
    ) -> NDArray[np.uint8]:
        """Shift an image; a grey pixel stays grey."""
        levels = np.arange(256, dtype=np.float64)
        hue = np.mod(levels + hue_shift, 180)  # OpenCV's hue has 180 steps
        saturation, value = (np.clip(levels + np.trunc(shift), 0, 255) for shift in (sat_shift, val_shift))
        saturation[0] = 0
        table = np.stack([hue, saturation, value], axis=1).astype(np.uint8)[None]
        hsv = cv2.LUT(cv2.cvtColor(img, cv2.COLOR_RGB2HSV), table)
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv))


class GaussianBlur(A.GaussianBlur):  # type: ignore[misc]
    """Gaussian blur of all bands at once, which Albumentations blurs in groups of four."""

    def apply(self, img: NDArray[Any], kernel: NDArray[np.float32], **params: Any) -> NDArray[Any]:
        """Blur an image (H, W, bands)."""
        return each_part(lambda part: cv2.sepFilter2D(part, ddepth=-1, kernelX=kernel, kernelY=kernel), img)


class MotionBlur(A.MotionBlur):  # type: ignore[misc]
    """Motion blur of all bands at once, which Albumentations blurs in groups of four."""

    def apply(self, img: NDArray[Any], kernel: NDArray[np.float32], **params: Any) -> NDArray[Any]:
        """Blur an image (H, W, bands)."""
        return each_part(lambda part: cv2.filter2D(part, ddepth=-1, kernel=kernel), img)


def look_up(table: NDArray[np.int16], indices: NDArray[np.uint16]) -> NDArray[np.int16]:
    """Return the values of a table of 65536 entries at (H, W) indices."""
    if _opencv_5():
        return np.asarray(cv2.LUT(indices, table))
    return table[indices]


@lru_cache(maxsize=1)
def _opencv_5() -> bool:
    """Tell whether this is OpenCV 5, whose tables may have 65536 entries: five times as fast as NumPy's indexing."""
    return int(cv2.__version__.split(".")[0]) >= 5


@lru_cache(maxsize=1)
def _quantiles() -> NDArray[np.float32]:
    """Return the standard normal quantiles of 65536 equal probabilities, at the middle of each."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS), np.float32)

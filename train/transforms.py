"""Augmentation of training windows.

Images stay in units of the file: the network normalises them on the device. Photometric transforms come first and
change only the image; then invalid pixels are reset to `fill_value`. Geometric transforms come last and also move the
mask of invalid pixels; pixels from outside the window get `fill_value` and are ignored. All randomness derives from the
seed of the call.
"""

import copy
import random
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.validity import fill
from train.augmentation import A
from train.augmentation.geometry import Geometry
from train.augmentation.photometry import GaussianBlur, GaussianNoise, HueSaturationValue, MotionBlur

Strength = Literal["none", "light", "drone", "strong"]
# Shares of windows with a change of scale and rotation, and with a distortion.
_MOVED: dict[Strength, tuple[float, float]] = {"light": (0, 0), "drone": (0.4, 0), "strong": (0.7, 0.5)}
# Value of the window's pixels in the mask that a user's pipeline transforms; an unlikely value of fill_mask.
_INSIDE = 113


def _photometric(strength: Strength, bands: int, dtype: str) -> tuple[list[A.BasicTransform], list[str]]:
    """Return the photometric transforms, and the names of those that are omitted for these bands and dtype."""
    if strength in {"none", "light"}:
        return [], []
    strong = strength == "strong"
    light = [
        A.RandomBrightnessContrast(0.2 if not strong else 0.35, 0.2 if not strong else 0.35, p=1),
        A.RandomGamma((70, 140), p=1),
    ]
    colour = [HueSaturationValue(10 if not strong else 20, 25, 15, p=1)]
    noise = [GaussianNoise(std_range=(0.01, 0.04 if not strong else 0.08), p=0.15 if not strong else 0.3)]
    blur = [A.OneOf([GaussianBlur((3, 5), p=1), MotionBlur((3, 7), p=1)], p=0.1 if not strong else 0.25)]
    if dtype != "uint8":
        # The parameters are fractions of a known value range, which other dtypes don't have.
        return [], ["brightness and contrast", "gamma", "hue and saturation", "noise", "blur"]
    if bands != 3:
        return [A.OneOf(light, p=0.5), *noise, *blur], ["hue and saturation"]
    return [A.OneOf(light + colour, p=0.6), *noise, *blur], []


class Augmentation:
    """Built-in augmentation of a window; picklable for worker processes.

    Args:
        strength: none, light (the eight flips and quarter turns), drone (also scale, rotation, brightness, colour,
            noise, blur) or strong (also distortions, and wider ranges).
        bands: Number of bands.
        dtype: Data type of the files: "uint8", or another one (whose images are float32 here).
        ignore_index: Label of pixels from outside the window.
        fill_value: Image value of invalid pixels and pixels from outside the window, in units of the file.

    Attributes:
        omitted: Names of the transforms that are not defined for these bands and this dtype.
    """

    def __init__(self, strength: Strength, bands: int, dtype: str, ignore_index: int, fill_value: float) -> None:
        photometric, self.omitted = _photometric(strength, bands, dtype)
        self.fill_value = fill_value
        self._photometric = A.Compose(photometric) if photometric else None
        self._geometry = Geometry(*_MOVED[strength], ignore_index, fill_value) if strength in _MOVED else None

    def __call__(
        self, image: NDArray[Any], label: NDArray[np.uint8], invalid: NDArray[np.bool_] | None, seed: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Augment one window.

        Args:
            image: Image (H, W, bands), uint8 or float32, with `fill_value` at invalid pixels. May be modified.
            label: Label (H, W) uint8.
            invalid: Mask (H, W) bool, True at invalid pixels; None if all pixels are valid.
            seed: Seed of all random numbers.

        Returns:
            Image and label of the same shapes and dtypes.
        """
        # One pair of generators for all transforms: `set_random_seed` would give each transform its own generator with
        # the same numbers, so that a rare transform would occur only together with the frequent ones.
        state = np.random.default_rng(seed), random.Random(seed)
        if self._photometric is not None:
            self._photometric.set_random_state(*state)
            image = self._photometric(image=image)["image"]
            if invalid is not None:
                fill(image.transpose(2, 0, 1), invalid, self.fill_value)
        if self._geometry is not None:
            image, label = self._geometry(image, label, invalid, state)
        return image, label


class UserAugmentation:
    """Augmentation with a user's own Albumentations pipeline; picklable.

    Pixels from outside the window are ignored and invalid pixels are moved along, whatever `fill` and `fill_mask` of
    the pipeline are: mirrored or filled pixels with a label would count as ground truth.

    Args:
        pipeline: Pipeline as written by `A.to_dict`.
        bands: Number of bands.
        dtype: Data type of the files: "uint8", or another one (whose images are float32 here).
        ignore_index: Label of invalid pixels and pixels from outside the window.
        fill_value: Image value of these pixels, in units of the file.
        size: Side of a window, pixels.

    Raises:
        UserError: The dict is not a pipeline, or the pipeline does not work on such windows.
    """

    omitted: Sequence[str] = ()

    def __init__(
        self, pipeline: dict[str, Any], bands: int, dtype: str, ignore_index: int, fill_value: float, size: int
    ) -> None:
        self.ignore_index, self.fill_value = ignore_index, fill_value
        image = np.zeros((size, size, bands), np.uint8 if dtype == "uint8" else np.float32)
        label = np.zeros((size, size), np.uint8)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = A.from_dict(copy.deepcopy(pipeline))  # from_dict modifies its argument
            self.pipeline = A.Compose([made], additional_targets={"inside": "mask", "invalid": "mask"})
            for seed in range(4):  # several, since transforms are applied with a probability
                found, _ = self(image.copy(), label.copy(), None, seed)
        except Exception as error:  # transforms raise many types for data that they don't support
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"data_module.augmentation: not an Albumentations pipeline for windows of {bands} bands of "
                f"{image.dtype}: {reason} (allowed: none, light, drone, strong, or a dict of A.to_dict)"
            ) from None
        if found.shape != image.shape or found.dtype != image.dtype:
            raise UserError(
                f"data_module.augmentation: turns {image.dtype} windows of shape {list(image.shape)} into "
                f"{found.dtype} windows of shape {list(found.shape)} (leave out transforms that change size or dtype, "
                "such as Normalize: the network normalises)"
            )

    def __call__(
        self, image: NDArray[Any], label: NDArray[np.uint8], invalid: NDArray[np.bool_] | None, seed: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Augment one window; see `Augmentation.__call__`."""
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        mask = np.zeros_like(label) if invalid is None else invalid.view(np.uint8)
        made = self.pipeline(image=image, mask=label, inside=np.full_like(label, _INSIDE), invalid=mask)
        image, label = np.ascontiguousarray(made["image"]), np.ascontiguousarray(made["mask"])
        outside = (made["inside"] != _INSIDE) | (made["invalid"] == 1)
        if outside.any():
            fill(image.transpose(2, 0, 1), outside, self.fill_value)
            label[outside] = self.ignore_index
        return image, label

"""Augmentation of training windows.

Images stay in units of the file: the network normalises them on the device. Photometric transforms come first and
change only the image; then invalid pixels are reset to `fill_value`. Geometric transforms come last and also move the
mask of invalid pixels; pixels from outside the window get `fill_value` and are ignored. All randomness derives from the
seed of the call.
"""

import copy
import os
import random
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.validity import fill

# On import Albumentations looks for a newer release, which takes seconds without a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

_EXTRA_TARGETS = {"invalid": "mask"}
Strength = Literal["none", "light", "drone", "strong"]
# Value of the window's pixels in the mask that a user's pipeline transforms; an unlikely value of fill_mask.
_INSIDE = 113


def _distortions(strength: Strength, ignore_index: int, fill_value: float) -> list[A.BasicTransform]:
    """Return the geometric transforms that interpolate."""
    outside: dict[str, Any] = {
        "border_mode": cv2.BORDER_CONSTANT,
        "fill": fill_value,
        "fill_mask": ignore_index,
    }
    if strength in {"none", "light"}:
        return []
    # A drone's height above ground, and with it the ground sample distance, varies by a quarter within a flight.
    affine = A.Affine(
        scale=(0.8, 1.25), rotate=(-30, 30), shear=(-5, 5), p=0.4 if strength == "drone" else 0.7, **outside
    )
    if strength == "drone":
        return [affine]
    distortion = A.OneOf(
        [
            A.ElasticTransform(alpha=60, sigma=8, **outside),
            A.GridDistortion(distort_limit=0.2, **outside),
            A.Perspective(scale=(0.02, 0.08), **outside),
        ],
        p=0.5,
    )
    return [affine, distortion]


def _photometric(strength: Strength, bands: int, dtype: str) -> tuple[list[A.BasicTransform], list[str]]:
    """Return the photometric transforms, and the names of those that are omitted for these bands and dtype."""
    if strength in {"none", "light"}:
        return [], []
    strong = strength == "strong"
    light = [
        A.RandomBrightnessContrast(0.2 if not strong else 0.35, 0.2 if not strong else 0.35, p=1),
        A.RandomGamma((70, 140), p=1),
    ]
    colour = [A.HueSaturationValue(10 if not strong else 20, 25, 15, p=1)]
    noise = [A.GaussNoise(std_range=(0.01, 0.04 if not strong else 0.08), p=0.15 if not strong else 0.3)]
    blur = [A.OneOf([A.GaussianBlur((3, 5), p=1), A.MotionBlur((3, 7), p=1)], p=0.1 if not strong else 0.25)]
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
        distortions = _distortions(strength, ignore_index, fill_value)
        self.fill_value = fill_value
        self._photometric = A.Compose(photometric) if photometric else None
        self._flip = A.Compose([A.D4(p=1)], additional_targets=_EXTRA_TARGETS) if strength != "none" else None
        self._distort = A.Compose(distortions, additional_targets=_EXTRA_TARGETS) if distortions else None

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
        mask = None if invalid is None else invalid.view(np.uint8)
        if self._flip is not None:
            self._flip.set_random_state(*state)
            flipped = self._flip(image=image, mask=label, **({} if mask is None else {"invalid": mask}))
            image, label, mask = flipped["image"], flipped["mask"], flipped.get("invalid")
        if self._distort is not None:
            # The mask is transformed too, so that interpolation leaves no rim of mixed pixels around invalid ones.
            self._distort.set_random_state(*state)
            made = self._distort(image=image, mask=label, invalid=np.zeros_like(label) if mask is None else mask)
            image, label, outside = made["image"], made["mask"], made["invalid"] != 0
            if outside.any():
                fill(image.transpose(2, 0, 1), outside, self.fill_value)
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

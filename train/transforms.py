"""Augmentation of training windows.

A window arrives as it will reach the network, in units of the file, and leaves so: normalisation is the network's first
step on the device. Photometric changes come first and see only the image; then invalid pixels are set back to
`fill_value`; geometric changes come last, move what is invalid along, and whatever they bring in from outside the
window is `fill_value` and ignored. All randomness comes from the seed of the call.
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

# Albumentations looks for a newer release on import, which takes seconds without a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

_TOO = {"invalid": "mask"}
Strength = Literal["none", "light", "drone", "strong"]
# What marks pixels of the window in the mask that a user's pipeline moves along; no sensible fill_mask.
_INSIDE = 113


def _bends(strength: Strength, ignore_index: int, fill_value: float) -> list[A.BasicTransform]:
    outside: dict[str, Any] = {
        "border_mode": cv2.BORDER_CONSTANT,
        "fill": fill_value,
        "fill_mask": ignore_index,
    }
    if strength in {"none", "light"}:
        return []
    # A drone's height above ground, and so its ground sample distance, varies by a quarter within a flight.
    shift = A.Affine(
        scale=(0.8, 1.25), rotate=(-30, 30), shear=(-5, 5), p=0.4 if strength == "drone" else 0.7, **outside
    )
    if strength == "drone":
        return [shift]
    bend = A.OneOf(
        [
            A.ElasticTransform(alpha=60, sigma=8, **outside),
            A.GridDistortion(distort_limit=0.2, **outside),
            A.Perspective(scale=(0.02, 0.08), **outside),
        ],
        p=0.5,
    )
    return [shift, bend]


def _photometric(strength: Strength, bands: int, dtype: str) -> tuple[list[A.BasicTransform], list[str]]:
    """The transforms, and the names of those that these data can't have."""
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
        # Their parameters are shares of a known range, which these data don't have.
        return [], ["brightness and contrast", "gamma", "hue and saturation", "noise", "blur"]
    if bands != 3:
        return [A.OneOf(light, p=0.5), *noise, *blur], ["hue and saturation"]
    return [A.OneOf(light + colour, p=0.6), *noise, *blur], []


class Augmentation:
    """Augments a window; picklable, so that it may go to a worker.

    Args:
        strength: none, light (the eight flips and turns), drone (also scale, rotation, light, colour, noise, blur) or
            strong (with distortions, and more of everything).
        bands: Bands of the image.
        dtype: Of the image: "uint8", or anything else (which arrives as float32).
        ignore_index: What a label gets where the transform brings in pixels from outside.
        fill_value: What an image gets there, in units of the file.
    """

    def __init__(self, strength: Strength, bands: int, dtype: str, ignore_index: int, fill_value: float) -> None:
        photometric, self.left_out = _photometric(strength, bands, dtype)
        bends = _bends(strength, ignore_index, fill_value)
        self.fill_value = fill_value
        self._photometric = A.Compose(photometric) if photometric else None
        self._turn = A.Compose([A.D4(p=1)], additional_targets=_TOO) if strength != "none" else None
        self._bend = A.Compose(bends, additional_targets=_TOO) if bends else None

    def __call__(
        self, image: NDArray[Any], label: NDArray[np.uint8], invalid: NDArray[np.bool_] | None, seed: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Augments one window.

        Args:
            image: (H, W, bands), uint8 or float32, with `fill_value` where it is invalid. It may be written to.
            label: (H, W) uint8.
            invalid: (H, W) bool, True where there is no image; None where all is valid.
            seed: The same seed gives the same result.

        Returns:
            Image and label of the same shapes and types.
        """
        # One pair of generators for all: `set_random_seed` would give each transform one of its own with the same
        # numbers, and what is rare would only ever happen together with what is frequent.
        state = np.random.default_rng(seed), random.Random(seed)
        if self._photometric is not None:
            self._photometric.set_random_state(*state)
            image = self._photometric(image=image)["image"]
            if invalid is not None:
                fill(image.transpose(2, 0, 1), invalid, self.fill_value)
        gone = None if invalid is None else invalid.view(np.uint8)
        if self._turn is not None:
            self._turn.set_random_state(*state)
            turned = self._turn(image=image, mask=label, **({} if gone is None else {"invalid": gone}))
            image, label, gone = turned["image"], turned["mask"], turned.get("invalid")
        if self._bend is not None:
            # What is invalid is bent as well, so that interpolation leaves no rim between it and the rest.
            self._bend.set_random_state(*state)
            bent = self._bend(image=image, mask=label, invalid=np.zeros_like(label) if gone is None else gone)
            image, label, outside = bent["image"], bent["mask"], bent["invalid"] != 0
            if outside.any():
                fill(image.transpose(2, 0, 1), outside, self.fill_value)
        return image, label


class UserAugmentation:
    """Augments a window with a user's own Albumentations pipeline; picklable.

    Whatever the pipeline fills in from outside the window is ignored, and what is invalid moves along, whatever its
    `fill` and `fill_mask` say: mirrored or invented pixels with a label would be counted as truth.

    Args:
        pipeline: As `A.to_dict` writes it.
        bands: Bands of the image.
        dtype: Of the image: "uint8", or anything else (which arrives as float32).
        ignore_index: What a label gets where there is no image.
        fill_value: What an image gets there, in units of the file.
        size: Side of a window, pixels.

    Raises:
        UserError: It is no pipeline, or none for such windows.
    """

    left_out: Sequence[str] = ()

    def __init__(
        self, pipeline: dict[str, Any], bands: int, dtype: str, ignore_index: int, fill_value: float, size: int
    ) -> None:
        self.ignore_index, self.fill_value = ignore_index, fill_value
        image = np.zeros((size, size, bands), np.uint8 if dtype == "uint8" else np.float32)
        label = np.zeros((size, size), np.uint8)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = A.from_dict(copy.deepcopy(pipeline))  # it takes its argument apart
            self.pipeline = A.Compose([made], additional_targets={"inside": "mask", "invalid": "mask"})
            for seed in range(4):  # what happens with a probability happens in one of a few
                found, _ = self(image.copy(), label.copy(), None, seed)
        except Exception as error:  # whatever a transform raises for data that it isn't made for
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"data_module.augmentation: is no Albumentations pipeline for windows of {bands} bands of "
                f"{image.dtype}: {reason} (allowed: none, light, drone, strong, or a dict of A.to_dict)"
            ) from None
        if found.shape != image.shape or found.dtype != image.dtype:
            raise UserError(
                f"data_module.augmentation: makes {found.dtype} windows of shape {list(found.shape)} of {image.dtype} "
                f"windows of shape {list(image.shape)} (leave out what changes size or type, such as Normalize: that "
                "comes later)"
            )

    def __call__(
        self, image: NDArray[Any], label: NDArray[np.uint8], invalid: NDArray[np.bool_] | None, seed: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """See `Augmentation.__call__`."""
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        gone = np.zeros_like(label) if invalid is None else invalid.view(np.uint8)
        made = self.pipeline(image=image, mask=label, inside=np.full_like(label, _INSIDE), invalid=gone)
        image, label = np.ascontiguousarray(made["image"]), np.ascontiguousarray(made["mask"])
        outside = (made["inside"] != _INSIDE) | (made["invalid"] == 1)
        if outside.any():
            fill(image.transpose(2, 0, 1), outside, self.fill_value)
            label[outside] = self.ignore_index
        return image, label

"""How pixels are brought to a network's scale: (pixel / max_pixel_value - mean) / std, for each band."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.common.errors import UserError
from train.configs.config import DataModuleConfig
from train.data.statistics import Survey

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each band, of values divided by `max_pixel_value`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_pixel_value: float


def given_normalization(config: DataModuleConfig, bands: Sequence[int], dtype: str) -> Normalization | None:
    """The normalisation that the config spells out or leaves to the default; None where it must be measured.

    Raises:
        UserError: Nothing is said of mean and std, and ImageNet's can't be meant.
    """
    largest = _largest(config, dtype)
    if isinstance(config.mean, list) and isinstance(config.std, list):
        return Normalization(tuple(config.mean), tuple(config.std), largest)
    if config.mean == "auto":
        return None
    if dtype == "uint8" and len(bands) == 3:
        return Normalization(IMAGENET_MEAN, IMAGENET_STD, largest)
    raise UserError(
        f"data_module.mean and data_module.std: must be given for {len(bands)} bands of {dtype} (a list with a number "
        "for each band, or auto to measure them on the train split)"
    )


def measured_normalization(
    config: DataModuleConfig, bands: Sequence[int], dtype: str, measured: Survey
) -> Normalization:
    """The normalisation that follows from a survey of the train split.

    Raises:
        UserError: There is no valid pixel, or all of a band have one value.
    """
    largest = _largest(config, dtype)
    if not measured.valid:
        raise UserError("data_module.mean: auto finds no valid pixel in the train split (give mean and std)")
    flat = [f"{band} ({low:g})" for band, low, std in zip(bands, measured.low, measured.std, strict=True) if std == 0]
    if flat:
        raise UserError(
            f"data_module.std: auto finds one value only in band {', '.join(flat)} of the train split (leave it out "
            "with data_module.bands, or give mean and std)"
        )
    mean, std = measured.mean / largest, measured.std / largest
    return Normalization(tuple(map(float, mean)), tuple(map(float, std)), largest)


def _largest(config: DataModuleConfig, dtype: str) -> float:
    """What pixels are divided by."""
    integer = np.dtype(dtype).kind in "iu"
    if config.max_pixel_value == "auto" and not integer:
        raise UserError(
            f"data_module.max_pixel_value: auto needs an integer type, the images are {dtype} (give the value that "
            "pixels are divided by, such as 1.0)"
        )
    if config.max_pixel_value in (None, "auto"):
        return float(np.iinfo(dtype).max) if integer else 1.0
    return float(config.max_pixel_value)

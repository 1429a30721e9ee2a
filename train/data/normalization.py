"""Normalisation of pixels for the network: (pixel / max_pixel_value - mean) / std, for each band."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.common.errors import UserError
from train.configs.config import DataModuleConfig
from train.data.statistics import Statistics

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalization:
    """Parameters of the normalisation.

    Attributes:
        mean: Mean of each band after division by `max_pixel_value`.
        std: Standard deviation of each band after division by `max_pixel_value`.
        max_pixel_value: Divisor of the pixels, in units of the file.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_pixel_value: float


def given_normalization(config: DataModuleConfig, bands: Sequence[int], dtype: str) -> Normalization | None:
    """Return the normalisation that the config gives or implies; None where it must be measured.

    ImageNet's is implied for three bands of uint8; for others it is measured, unless mean and std are given.

    Args:
        config: Data settings.
        bands: Bands to read, from 1.
        dtype: Data type of the images.

    Raises:
        UserError: `max_pixel_value: auto` for images of floats, which have no largest value.
    """
    largest = _largest(config, dtype)
    if isinstance(config.mean, list) and isinstance(config.std, list):
        return Normalization(tuple(config.mean), tuple(config.std), largest)
    if config.mean is None and dtype == "uint8" and len(bands) == 3:
        return Normalization(IMAGENET_MEAN, IMAGENET_STD, largest)
    return None


def measured_normalization(
    config: DataModuleConfig, bands: Sequence[int], dtype: str, measured: Statistics
) -> Normalization:
    """Return the normalisation from the statistics of the train split.

    Args:
        config: Data settings.
        bands: Bands to read, from 1.
        dtype: Data type of the images.
        measured: Statistics of the train split.

    Raises:
        UserError: There is no valid pixel, or a band has only one value.
    """
    largest = _largest(config, dtype)
    if not measured.valid:
        raise UserError("data_module.mean: the train split has no valid pixel to measure it on (give mean and std)")
    flat = [f"{band} ({low:g})" for band, low, std in zip(bands, measured.low, measured.std, strict=True) if std == 0]
    if flat:
        raise UserError(
            f"data_module.std: can't be measured: the train split has a single value in band {', '.join(flat)} (leave "
            "the band out with data_module.bands, or give mean and std)"
        )
    mean, std = measured.mean / largest, measured.std / largest
    return Normalization(tuple(map(float, mean)), tuple(map(float, std)), largest)


def measured_notice(config: DataModuleConfig, dtype: str, found: Normalization) -> str:
    """Return a notice with a normalisation that was measured, and with the keys that give it where it wasn't asked for.

    Args:
        config: Data settings.
        dtype: Data type of the images.
        found: Normalisation from `measured_normalization`.
    """
    shown = ", ".join(f"{mean:.4g}±{std:.4g}" for mean, std in zip(found.mean, found.std, strict=True))
    values = f"{shown} of {found.max_pixel_value:g}"
    if config.mean == "auto":
        return f"normalisation measured on the train split: {values}"
    mean, std = (", ".join(f"{value:.6g}" for value in each) for each in (found.mean, found.std))
    bands = f"{len(found.mean)} band{'s' if len(found.mean) > 1 else ''}"
    return (
        f"data_module.mean and data_module.std aren't given for {bands} of {dtype}, so they are measured on the train "
        f"split: {values} (to keep these values: data_module.mean: [{mean}], data_module.std: [{std}])"
    )


def _largest(config: DataModuleConfig, dtype: str) -> float:
    """Return the divisor of the pixels."""
    integer = np.dtype(dtype).kind in "iu"
    if config.max_pixel_value == "auto" and not integer:
        raise UserError(
            f"data_module.max_pixel_value: auto needs an integer type, the images are {dtype} (give the value that "
            "pixels are divided by, such as 1.0)"
        )
    if config.max_pixel_value in (None, "auto"):
        return float(np.iinfo(dtype).max) if integer else 1.0
    return float(config.max_pixel_value)

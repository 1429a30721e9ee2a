"""How pixels are brought to a network's scale: (pixel / max_pixel_value - mean) / std, for each band."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.configs.config import DataModuleConfig
from train.errors import UserError
from train.geotiff import Reader
from train.scenes import Scene
from train.survey import survey

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each band, of values divided by `max_pixel_value`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_pixel_value: float


def normalization(
    config: DataModuleConfig, scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, dtype: str
) -> tuple[Normalization, str | None]:
    """The normalisation that the config asks for, measured on these (training) scenes where it says auto.

    Returns:
        The normalisation, and a notice where it was not spelled out.

    Raises:
        UserError: Nothing is said of mean and std, and ImageNet's can't be meant.
    """
    largest = config.max_pixel_value
    if largest is None:
        largest = "auto" if np.dtype(dtype).kind in "iu" else 1.0
    if largest == "auto":
        if np.dtype(dtype).kind not in "iu":
            raise UserError(
                f"data_module.max_pixel_value: auto needs an integer type, the images are {dtype} (give the value that "
                "pixels are divided by, such as 1.0)"
            )
        largest = float(np.iinfo(dtype).max)
    largest = float(largest)
    if isinstance(config.mean, list) and isinstance(config.std, list):
        return Normalization(tuple(config.mean), tuple(config.std), largest), None
    if config.mean == "auto":
        measured = survey(scenes, bands, reader, "measuring mean and std")
        if not measured.valid:
            raise UserError("data_module.mean: auto finds no valid pixel in the train split (give mean and std)")
        if not measured.std.all():
            flat = [band for band, std in zip(bands, measured.std, strict=True) if std == 0]
            raise UserError(f"data_module.std: band {', '.join(map(str, flat))} has one value only (leave it out)")
        mean = tuple(float(v) for v in measured.mean / largest)
        std = tuple(float(v) for v in measured.std / largest)
        shown = ", ".join(f"{m:.4g}±{s:.4g}" for m, s in zip(mean, std, strict=True))
        return Normalization(mean, std, largest), f"normalisation measured on the train split: {shown} of {largest:g}"
    if dtype == "uint8" and len(bands) == 3:
        return Normalization(IMAGENET_MEAN, IMAGENET_STD, largest), None
    raise UserError(
        f"data_module.mean and data_module.std: must be given for {len(bands)} bands of {dtype} (a list with a number "
        "for each band, or auto to measure them on the train split)"
    )

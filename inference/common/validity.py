"""Validity of pixels: one rule for training, mapping and evaluation.

A pixel is invalid under the file's nodata value (where all bands read have it), under its mask, where an alpha band
that is not read as data is 0, and where a band is not finite. Invalid pixels count nowhere, and the network sees
`fill_value` in their place. Pixels that are ignored because of their label are decided in `train.data.labels`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.errors import UserError
from inference.common.raster import Header


def alpha_bands(header: Header, bands: Sequence[int]) -> tuple[int, ...]:
    """Return the alpha bands, counted from 1, that decide on validity: those that are not read as data."""
    return tuple(band for band in header.alpha if band not in bands)


def read_masked(src: Any, header: Header, bands: Sequence[int], window: Window) -> NDArray[np.bool_] | None:
    """Read the mask and the alpha bands of a window.

    Args:
        src: The open rasterio dataset.
        header: Its header.
        bands: Bands that are read as data, counted from 1.
        window: Part of the image.

    Returns:
        (H, W) bool, True where the file's mask or alpha marks a pixel as invalid; None if it has neither.
    """
    alpha = (src.read(band, window=window) for band in alpha_bands(header, bands))
    return masked(src.read_masks(bands[0], window=window) if header.masked else None, alpha)


def masked(mask: NDArray[np.uint8] | None, alpha: Iterable[NDArray[Any]]) -> NDArray[np.bool_] | None:
    """Combine a mask and alpha bands, each (H, W) and 0 where invalid, into (H, W) bool; None if there are none."""
    invalid = None if mask is None else mask == 0
    for band in alpha:
        invalid = _either(invalid, band == 0)
    return invalid


def invalid_pixels(
    pixels: NDArray[Any], dtype: str, nodata: float | None, masked: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Find the invalid pixels of a window.

    Args:
        pixels: (bands, H, W), in any memory order.
        dtype: The file's data type; `pixels` may hold its values as float32.
        nodata: Value that marks a pixel as invalid where all bands have it, as GDAL defines it; None for no value.
        masked: (H, W) bool, True where the mask or alpha marks a pixel as invalid; None for no pixel.

    Returns:
        (H, W) bool, True where invalid; None if all pixels are valid.
    """
    invalid = _either(masked, _all_equal(pixels, nodata))
    if np.dtype(dtype).kind == "f" and not (finite := np.isfinite(pixels)).all():
        # GDAL calls a NaN valid unless it is the nodata value; no network can process one.
        invalid = _either(invalid, np.asarray(~finite.all(axis=0)))
    return invalid if invalid is not None and invalid.any() else None


def fill(pixels: NDArray[Any], invalid: NDArray[np.bool_], value: float) -> None:
    """Set invalid pixels of (bands, H, W) to a value, in place; band by band, which is far faster than all at once."""
    for band in pixels:
        np.copyto(band, value, where=invalid, casting="unsafe")


def equal(values: NDArray[Any], number: float) -> NDArray[np.bool_]:
    """Compare values with a number that GDAL keeps as a double: -3.4e38 must be found again among float32."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            number = values.dtype.type(number)
    elif float(number).is_integer():
        number = int(number)  # bytes are compared as bytes, not as doubles
    found: NDArray[np.bool_] = values == number
    return found


def check_nodata(name: str, value: float, dtype: str) -> None:
    """Check that a nodata value is a value of a data type, so that it can mark a pixel.

    Args:
        name: Option or key that gives the value; begins the error message.
        value: Nodata value.
        dtype: Data type of the image.

    Raises:
        UserError: The type can't hold the value.
    """
    if np.dtype(dtype).kind == "f":
        with np.errstate(over="ignore"):
            lost = np.isfinite(value) and not np.isfinite(np.dtype(dtype).type(value))
        if lost:
            raise UserError(
                f"{name}: {value:g} is not a value of {dtype}, the image's type (allowed: {np.finfo(dtype).min:.8g} "
                f"to {np.finfo(dtype).max:.8g}, nan, or none)"
            )
        return
    info = np.iinfo(dtype)
    if not (np.isfinite(value) and float(value).is_integer() and info.min <= value <= info.max):
        raise UserError(
            f"{name}: {value:g} is not a value of {dtype}, the image's type (allowed: whole numbers from {info.min} to "
            f"{info.max}, or none)"
        )


def _all_equal(pixels: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Find pixels all of whose bands are nodata; None if there are none."""
    if nodata is None or np.isnan(nodata):
        return None
    found = equal(pixels[0], nodata)
    for band in pixels[1:]:
        if not found.any():
            return None
        found &= equal(band, nodata)
    return found


def _either(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    return other if one is None else one if other is None else one | other

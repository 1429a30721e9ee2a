"""Strips of a mosaic: read from top to bottom, each block decoded once, with the validity of their pixels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.bands import ALPHA_STEP
from inference.common.errors import UserError, first_line
from inference.common.raster import Header, environment, open_image
from inference.common.remote import GDAL_ERRORS, read_again
from inference.common.validity import alpha_bands, fill, invalid_pixels, masked

STRIP = 256
"""Smallest number of rows read at a time; whole blocks of the file."""
_TALLEST = 1024  # a file in one block of all its rows is read by parts of it
# Other types are read as float32, as in training.
_NATIVE = {"uint8", "uint16", "int16"}
_Read = TypeVar("_Read")


@dataclass
class Strip:
    """Whole rows of an image.

    Attributes:
        row: First row.
        pixels: (bands, rows, width), uint8, uint16, int16 or float32; `fill_value` where invalid.
        invalid: (rows, width) bool, True where invalid; None if all pixels are valid.
        alpha: Sample of each alpha band that decided on validity, (alpha bands, rows, columns).
    """

    row: int
    pixels: NDArray[Any]
    invalid: NDArray[np.bool_] | None
    alpha: NDArray[Any] | None = None

    @property
    def stop(self) -> int:
        """Row after the last one."""
        return self.row + int(self.pixels.shape[1])


@dataclass(frozen=True)
class Source:
    """Mosaic to read, strip by strip.

    Attributes:
        header: Header of the mosaic.
        bands: Bands to read, counted from 1, in the network's order.
        fill_value: Value of invalid pixels, in units of the file.
        nodata: Value that marks a pixel as invalid where all bands have it; None for no value.
        threads: Threads that GDAL decodes blocks with.
    """

    header: Header
    bands: Sequence[int]
    fill_value: float
    nodata: float | None
    threads: int = 1

    @property
    def may_be_invalid(self) -> bool:
        """True if the file has anything that can mark a pixel as invalid."""
        floats = np.dtype(self.header.dtype).kind == "f"
        return bool(self.nodata is not None or self.header.masked or alpha_bands(self.header, self.bands) or floats)

    @property
    def _dtype(self) -> Any:
        dtype = self.header.dtype
        if dtype not in _NATIVE:
            return np.dtype(np.float32)
        fits = float(self.fill_value).is_integer() and np.iinfo(dtype).min <= self.fill_value <= np.iinfo(dtype).max
        return np.dtype(dtype if fits else np.float32)

    def strips(self, first: int = 0, stop: int | None = None) -> Iterator[Strip]:
        """Read the image from top to bottom, every row once.

        Args:
            first: First row that is needed; the first strip may begin above it.
            stop: Row after the last one that is needed, below which the last strip may end; None for all rows.

        Raises:
            UserError: A part of the image can't be decoded.
        """
        height, block = self.header.height, self.header.block[0]
        step = -(-STRIP // block) * block if block <= _TALLEST else STRIP
        with closing(_File(self.header, self.threads)) as file:
            # Strips begin at the same rows, wherever the reading begins.
            for row in range(first // step * step, height if stop is None else stop, step):
                yield self._strip(file, row, min(step, height - row))

    def _strip(self, file: "_File", row: int, rows: int) -> Strip:
        alpha, width = alpha_bands(self.header, self.bands), self.header.width
        # One call for all bands, so that no block is decoded for the alpha band again.
        values = np.empty((len(self.bands) + len(alpha), rows, width), self._dtype)
        window = Window(0, row, width, rows)

        def read(src: Any) -> NDArray[np.uint8] | None:
            src.read([*self.bands, *alpha], window=window, out=values)
            return src.read_masks(self.bands[0], window=window) if self.header.masked else None

        try:
            mask: NDArray[np.uint8] | None = file.read(read)
        except GDAL_ERRORS as error:
            raise self._undecodable(file, window, error) from None
        pixels = values[: len(self.bands)]
        marked = masked(mask, values[len(self.bands) :])
        invalid = invalid_pixels(pixels, self.header.dtype, self.nodata, marked)
        if invalid is not None:
            fill(pixels, invalid, self.fill_value)
        sample = values[len(self.bands) :, ::ALPHA_STEP, ::ALPHA_STEP].copy() if alpha else None
        return Strip(row, pixels, invalid, sample)

    def _undecodable(self, file: "_File", window: Window, error: Exception) -> UserError:
        """Return an error that names the first block of a strip that can't be decoded."""
        if file.src is None:
            return UserError(f"{self.header.path}: can't be read: {first_line(error)}")
        file.close()
        with suppress(*GDAL_ERRORS), environment(), open_image(self.header, 1) as src:
            # Opened anew: GDAL's threads may have left blocks in its cache that they couldn't decode.
            window, error = self._first_undecodable(src, window) or (window, error)
        return UserError(
            f"{self.header.path}: can't be read from row {window.row_off}, column {window.col_off}, "
            f"{window.width}x{window.height} pixels: {first_line(error)} (the file is damaged or cut short)"
        )

    def _first_undecodable(self, src: Any, window: Window) -> tuple[Window, Exception] | None:
        """Return the first block of a strip that can't be decoded, and the error; None if all can."""
        rows, cols = self.header.block
        for row in range(window.row_off, window.row_off + window.height, min(rows, window.height)):
            for col in range(0, window.width, cols):
                part = Window(col, row, min(cols, window.width - col), min(rows, self.header.height - row))
                try:
                    src.read(list(self.bands), window=part)
                except GDAL_ERRORS as found:
                    return part, found
        return None


class _File:
    """Image that is opened when it is first read, and anew after a remote one couldn't be read.

    Attributes:
        src: The open rasterio dataset; None before the first reading, and if it can't be opened.
    """

    def __init__(self, header: Header, threads: int) -> None:
        self.src: Any = None
        self._header, self._threads = header, threads

    def read(self, function: Callable[[Any], _Read]) -> _Read:
        """Call a function with the dataset, several times where that fails and the image is remote.

        Raises:
            GDAL_ERRORS: The image can't be opened, or the part not be decoded.
        """
        return read_again(self._header.path, lambda again: self._attempt(function, again))

    def _attempt(self, function: Callable[[Any], _Read], again: bool) -> _Read:
        with environment(source=self._header, again=again):
            if again:
                self.close()
            if self.src is None:
                self.src = open_image(self._header, self._threads)
            return function(self.src)

    def close(self) -> None:
        """Close the image."""
        if self.src is not None:
            self.src.close()
            self.src = None

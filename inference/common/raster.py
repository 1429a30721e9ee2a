"""Reading a mosaic: strip by strip from top to bottom, each block decoded once, with what is valid of it.

Invalid are pixels under the file's nodata (in all bands), its mask or alpha band, and those where a band isn't finite:
the same that training ignores. The network sees `fill_value` there.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from inference.common.errors import UserError, first_line

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises: most of GDAL's errors as its own, some as they are."""
STRIP = 256
"""Rows that are read at a time, at least; whole blocks of the file."""
_TALLEST = 1024  # a file in one block of all its rows is read by parts of it
# What other types hold is read as float32, as in training.
_NATIVE = {"uint8", "uint16", "int16"}


def environment() -> Any:
    """GDAL's settings for a thread of ours.

    Blocks are read and written once and in order: a large cache, by default 5 % of the machine's memory, would only
    hold what nobody asks for again. Not EMPTY_DIR: that would hide .msk and .aux.xml files, which say what is valid.
    """
    return rasterio.Env(GDAL_CACHEMAX=32 * 2**20, GDAL_DISABLE_READDIR_ON_OPEN="TRUE", GDAL_TIFF_INTERNAL_MASK=True)


def open_raster(path: str, **options: str) -> Any:
    """An open rasterio dataset; a mosaic without a place on the Earth is told of once, by us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **options)


@dataclass(frozen=True)
class Header:
    """What a mosaic says of itself.

    Attributes:
        path: Its file, or its address.
        height: Rows, pixels.
        width: Columns, pixels.
        block: (height, width) of its blocks, pixels.
        count: Bands.
        dtype: Of all bands.
        nodata: Value that means "nothing here", of each band; only a VRT's can differ.
        alpha: Alpha bands, counted from 1.
        masked: Whether it has a mask of its own, inside or in a .msk file.
        crs: Coordinate reference system; None where it has none.
        transform: From (column, row) to the CRS.
        gcps: Ground control points, where it has them in place of a transform.
        files: What it is read from: itself, and the files that a VRT is made of.
    """

    path: str
    height: int
    width: int
    block: tuple[int, int]
    count: int
    dtype: str
    nodata: tuple[float | None, ...]
    alpha: tuple[int, ...]
    masked: bool
    crs: Any
    transform: Any
    gcps: tuple[Any, ...]
    files: tuple[str, ...]


def read_header(path: str) -> Header:
    """What a file says of itself.

    Raises:
        UserError: It can't be read as an image of real numbers.
    """
    try:
        with environment(), open_raster(path) as src:
            if not src.count:
                inside = ", ".join(src.subdatasets[:3])
                raise UserError(f"{path}: holds no bands{f', but other images (name one: {inside})' if inside else ''}")
            dtypes = set(src.dtypes)
            if len(dtypes) > 1 or any("complex" in d for d in dtypes):
                raise UserError(f"{path}: bands of type {', '.join(sorted(dtypes))} (all must be of one real type)")
            flags = src.mask_flag_enums[0]
            points, points_crs = src.gcps
            return Header(
                path=path,
                height=src.height,
                width=src.width,
                block=src.block_shapes[0],
                count=src.count,
                dtype=src.dtypes[0],
                nodata=tuple(src.nodatavals),
                alpha=tuple(i for i, c in enumerate(src.colorinterp, 1) if c == ColorInterp.alpha),
                masked=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
                crs=src.crs or points_crs,
                transform=src.transform,
                gcps=tuple(points) if src.transform.is_identity else (),
                files=tuple(src.files),
            )
    except (*GDAL_ERRORS, OSError, ValueError) as error:
        what = first_line(error).removeprefix(f"{path}: ").removeprefix(f"'{path}' ").rstrip(".")
        if not Path(path).exists() and "://" not in path and not path.startswith("/vsi"):
            what = "no such file"
        raise UserError(f"{path}: can't be read as an image: {what}") from None


@dataclass
class Strip:
    """Some rows of an image, whole.

    Attributes:
        row: The first of them.
        pixels: (bands, rows, width), uint8, uint16, int16 or float32; `fill_value` where invalid.
        invalid: (rows, width) bool, True where there is no image; None where all is valid.
    """

    row: int
    pixels: NDArray[Any]
    invalid: NDArray[np.bool_] | None

    @property
    def stop(self) -> int:
        """The row after the last one."""
        return self.row + int(self.pixels.shape[1])


@dataclass(frozen=True)
class Source:
    """How a mosaic is read.

    Attributes:
        header: What it says of itself.
        bands: Bands to read, counted from 1, in the network's order.
        fill_value: What invalid pixels get, in units of the file.
        nodata: Value that means "nothing here" where all bands have it; None where none does.
        threads: Threads with which GDAL decodes blocks.
    """

    header: Header
    bands: Sequence[int]
    fill_value: float
    nodata: float | None
    threads: int = 1

    @property
    def may_be_invalid(self) -> bool:
        """Whether there is anything by which a pixel could be invalid."""
        floats = np.dtype(self.header.dtype).kind == "f"
        return bool(self.nodata is not None or self.header.masked or self._alpha or floats)

    @property
    def _alpha(self) -> tuple[int, ...]:
        """Alpha bands that aren't read as data; one that is says nothing."""
        return tuple(band for band in self.header.alpha if band not in self.bands)

    @property
    def _dtype(self) -> Any:
        dtype = self.header.dtype
        if dtype not in _NATIVE:
            return np.dtype(np.float32)
        fits = float(self.fill_value).is_integer() and np.iinfo(dtype).min <= self.fill_value <= np.iinfo(dtype).max
        return np.dtype(dtype if fits else np.float32)

    def strips(self) -> Iterator[Strip]:
        """The image from top to bottom, every row once.

        Raises:
            UserError: A part of it can't be decoded.
        """
        height, block = self.header.height, self.header.block[0]
        step = -(-STRIP // block) * block if block <= _TALLEST else STRIP
        try:
            with environment(), open_raster(self.header.path, NUM_THREADS=str(self.threads)) as src:
                for row in range(0, height, step):
                    yield self._strip(src, row, min(step, height - row))
        except GDAL_ERRORS as error:
            raise UserError(f"{self.header.path}: can't be read: {first_line(error)}") from None

    def _strip(self, src: Any, row: int, rows: int) -> Strip:
        alpha, width = self._alpha, self.header.width
        # One call for all bands, so that no block is decoded for the alpha band again.
        values = np.empty((len(self.bands) + len(alpha), rows, width), self._dtype)
        window = Window(0, row, width, rows)
        try:
            src.read([*self.bands, *alpha], window=window, out=values)
            invalid = src.read_masks(self.bands[0], window=window) == 0 if self.header.masked else None
        except GDAL_ERRORS as error:
            raise self._undecodable(src, window, error) from None
        pixels = values[: len(self.bands)]
        for band in values[len(self.bands) :]:
            invalid = _either(invalid, band == 0)
        invalid = _either(invalid, _all_equal(pixels, self.nodata))
        if np.dtype(self.header.dtype).kind == "f" and not np.isfinite(pixels).all():
            # GDAL calls a NaN valid unless it is the nodata value; no network can do anything with it.
            invalid = _either(invalid, np.asarray(~np.isfinite(pixels).all(axis=0)))
        if invalid is None or not invalid.any():
            return Strip(row, pixels, None)
        for band in pixels:
            np.copyto(band, self.fill_value, where=invalid, casting="unsafe")
        return Strip(row, pixels, invalid)

    def _undecodable(self, src: Any, window: Window, error: Exception) -> UserError:
        """Says which of the blocks of a strip it is."""
        rows, cols = self.header.block
        for row in range(window.row_off, window.row_off + window.height, min(rows, window.height)):
            for col in range(0, window.width, cols):
                part = Window(col, row, min(cols, window.width - col), min(rows, self.header.height - row))
                try:
                    src.read(list(self.bands), window=part)
                except GDAL_ERRORS as found:
                    window, error = part, found
                    break
            else:
                continue
            break
        return UserError(
            f"{self.header.path}: can't be read from row {window.row_off}, column {window.col_off}, "
            f"{window.width}x{window.height} pixels: {first_line(error)} (the file is damaged or cut short)"
        )


def _all_equal(pixels: NDArray[Any], number: float | None) -> NDArray[np.bool_] | None:
    """Where all bands of (bands, H, W) are this number; None where no pixel is."""
    if number is None or np.isnan(number):
        return None
    if pixels.dtype.kind == "f":
        # GDAL keeps nodata as a double, and -3.4e38 must be found again among float32.
        with np.errstate(over="ignore"):
            number = float(np.float32(number))
    elif float(number).is_integer():
        number = int(number)  # bytes are compared as bytes, not as doubles
    equal: NDArray[np.bool_] = pixels[0] == number
    for band in pixels[1:]:
        if not equal.any():
            return None
        equal &= band == number
    return equal


def _either(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    return other if one is None else one if other is None else one | other

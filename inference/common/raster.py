"""Raster files: GDAL settings, errors, opening, and the header of a file."""

import contextlib
import datetime
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from inference.common.documents import check_regular_file
from inference.common.errors import UserError, first_line
from inference.common.paths import is_address, shown_path
from inference.common.remote import (
    GDAL_ERRORS,
    check_reachable,
    decoding_threads,
    read_again,
    remote_settings,
    store_path,
)

__all__ = [
    "GDAL_ERRORS",
    "STREAM_CACHE",
    "WINDOW_CACHE",
    "Header",
    "environment",
    "open_image",
    "open_raster",
    "read_header",
]

# Files without a georeference are common. The filter stays: `warnings.catch_warnings` changes the filters of the whole
# process, so that a thread that leaves it has another one, which opens a file at that moment, warn nevertheless.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

STREAM_CACHE = 32 * 2**20
"""Cache of decoded blocks, bytes, where each block is read or written once and in order."""
WINDOW_CACHE = 64 * 2**20
"""Cache of decoded blocks, bytes, where windows of a file are read that share blocks."""


def environment(cache: int = STREAM_CACHE, source: "str | Header" = "", again: bool = False) -> Any:
    """Return the GDAL settings that rasters are read and written with, as a context manager.

    GDAL's own cache is 5 % of the machine's memory in every process: too much for several workers, or in a container.
    Folders are not listed on opening. This is not EMPTY_DIR, which would also hide .msk and .aux.xml files; they say
    which pixels are valid. The settings for remote files are those of `inference.common.remote`.

    Args:
        cache: Size of GDAL's cache of decoded blocks, bytes.
        source: File or address that is read, or its header, which knows what lies beside it.
        again: True to open an address anew, whatever GDAL remembers of it.
    """
    path, alone = (source, False) if isinstance(source, str) else (source.path, len(source.files) == 1)
    settings = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"} | remote_settings(path, again, alone)
    return rasterio.Env(GDAL_CACHEMAX=cache, GDAL_TIFF_INTERNAL_MASK=True, **settings)


def open_raster(path: str | Path, mode: str = "r", **options: Any) -> Any:
    """Open a rasterio dataset.

    Args:
        path: File or address.
        mode: "r", "r+" or "w".
        **options: Further arguments of `rasterio.open`.
    """
    # With an s3:// address rasterio would look for keys with boto3, where that is installed, and not as GDAL does.
    stored = store_path(str(path)) if str(path).lower().startswith("s3://") else None
    return rasterio.open(stored or path, mode, **options)


def open_image(header: "Header", threads: int) -> Any:
    """Open an image whose header has been read.

    Args:
        header: Header of the image.
        threads: Threads that GDAL decodes blocks with; one for a remote file.

    Raises:
        GDAL_ERRORS: It can't be opened, or not its mask, which may be a file beside it.
    """
    src = open_raster(header.path, NUM_THREADS=str(decoding_threads(header.path, threads)))
    if is_address(header.path) and header.masked and MaskFlags.per_dataset not in src.mask_flag_enums[0]:
        src.close()
        raise RasterioIOError("its mask can't be read")
    return src


_COLOURS = ("red", "green", "blue", "coastal", "yellow", "rededge", "nir", "swir", "mwir", "lwir", "tir", "pan")
_OTHER_NAMES = {"r": "red", "g": "green", "b": "blue", "nearinfrared": "nir", "infrared": "nir", "nearir": "nir"}


def _colour(description: str | None, interpretation: Any) -> str | None:
    """Return the colour that a band states; None for gray, alpha, and bands that state nothing.

    The description comes first: writers mark three or four bands of bytes as red, green, blue and alpha by default.
    """
    stated = "".join(letter for letter in (description or "").lower() if letter.isalpha())
    stated = _OTHER_NAMES.get(stated, stated)
    if stated in _COLOURS:
        return stated
    name = str(interpretation.name).lower()
    return name if name in _COLOURS else None


def _date(src: Any) -> str:
    """Return the date that a file states: a map of this project that of its mosaic, an image when it was taken."""
    tags = src.tags()
    for stated in (tags.get("DATE"), src.tags(ns="IMAGERY").get("ACQUISITIONDATETIME"), tags.get("TIFFTAG_DATETIME")):
        found = re.match(r"(\d{4})[:-](\d{2})[:-](\d{2})(?!\d)", (stated or "").strip())
        if found is not None:
            with contextlib.suppress(ValueError):  # cameras without a clock write zeros
                return datetime.date(*map(int, found.groups())).isoformat()
    return ""


@dataclass(frozen=True)
class Header:
    """Header of a raster file.

    Attributes:
        path: File or address.
        height: Rows, pixels.
        width: Columns, pixels.
        block: (height, width) of the file's blocks, pixels.
        count: Number of bands.
        dtype: Data type of all bands.
        nodata: Nodata value of each band; only a VRT's can differ.
        alpha: Alpha bands, counted from 1.
        masked: True if the file has a mask of its own, inside or in a .msk file.
        crs: Coordinate reference system; None if there is none.
        transform: From (column, row) to the CRS.
        gcps: Ground control points of a file that has them in place of a transform.
        rpcs: Rational polynomial coefficients of a satellite scene; None if there are none.
        files: Files that are read: the file itself, and those that a VRT refers to.
        colours: Colour that each band states, such as red, by its description or its colour interpretation; None where
            it states none.
        descriptions: Description of each band; None where there is none.
        palette: True if the values are indices into a colour table.
        pages: Images in the file; those after the first are not read.
        date: Date that the file states, YYYY-MM-DD; empty if it states none.
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
    gcps: tuple[Any, ...] = ()
    rpcs: Any = None
    files: tuple[str, ...] = ()
    colours: tuple[str | None, ...] = ()
    descriptions: tuple[str | None, ...] = ()
    palette: bool = False
    pages: int = 1
    date: str = ""

    @property
    def georeferenced(self) -> bool:
        """True if a CRS and a transform place the image on the Earth; ground control points alone do not."""
        return self.crs is not None and not self.transform.is_identity


def _is_missing(file: str) -> bool:
    """Return True if a file that a VRT refers to is gone; sources such as NETCDF:FILE:VARIABLE are not looked for."""
    return not is_address(file) and ":" not in file[2:] and not Path(file).exists()


def _header(path: str, again: bool) -> Header:
    """Read the header of a file that GDAL can open."""
    with environment(source=path, again=again), open_raster(path) as src:
        if not src.count:
            inside = ", ".join(src.subdatasets[:3])
            raise UserError(f"{path}: holds no bands{f', but other images (name one: {inside})' if inside else ''}")
        dtypes = set(src.dtypes)
        if len(dtypes) > 1 or any("complex" in d for d in dtypes):
            raise UserError(f"{path}: bands of type {', '.join(sorted(dtypes))} (all must be of one real type)")
        if missing := [file for file in src.files if _is_missing(file)]:
            raise UserError(
                f"{path}: refers to {shown_path(missing[0])}, which doesn't exist (put the file there, or make the "
                "mosaic anew)"
            )
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
            rpcs=src.rpcs,
            files=tuple(src.files),
            colours=tuple(map(_colour, src.descriptions, src.colorinterp)),
            descriptions=tuple(src.descriptions),
            palette=src.colorinterp[0] == ColorInterp.palette,
            pages=max(1, len(src.subdatasets)) if src.driver == "GTiff" else 1,
            date=_date(src),
        )


def read_header(path: str | Path, kind: str = "an image", fix: str = "") -> Header:
    """Read the header of a raster file.

    Args:
        path: File, or an address that GDAL can open.
        kind: Noun for the error message: "can't be read as ...".
        fix: What the user can do about a file that can't be read; ends the error message, in brackets.

    Raises:
        UserError: The file can't be read as an image of real numbers.
    """
    path = str(path)
    if Path(path).exists() and not Path(path).is_dir():
        check_regular_file(Path(path))  # GDAL waits for ever at a pipe
    check_reachable(path)
    try:
        return read_again(path, lambda again: _header(path, again))
    except (*GDAL_ERRORS, OSError, ValueError) as error:
        what = first_line(error).removeprefix(f"{path}: ").removeprefix(f"'{path}' ").rstrip(".")
        if not Path(path).exists() and "://" not in path and not path.startswith("/vsi"):
            what = "no such file"
        raise UserError(f"{path}: can't be read as {kind}: {what}{f' ({fix})' if fix else ''}") from None

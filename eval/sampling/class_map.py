"""Class maps: single-band rasters whose values are classes, with the names of these and a hash of their content."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.areas import FIX_GEOREFERENCE, georeference_problem, pixel_areas, usable_crs, why_no_areas
from inference.common.errors import UserError, first_line
from inference.common.progress import Progress
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster, read_header
from inference.common.text import LONGEST_NAME, clean_line, limited, quoted
from inference.common.validity import check_nodata, invalid_pixels, read_masked

MOST_CLASSES = 100
"""Largest number of classes of a map; an image that is given in its place has more values."""
_ROWS = 512  # of the blocks that are hashed; another number would change the hash


@dataclass(frozen=True)
class ClassMap:
    """Class map, opened and read once as a whole.

    Attributes:
        header: Header of the file.
        names: Name of each of the K classes.
        values: Value of each class in the map, (K,) int64, ascending.
        pixels: Number of valid pixels of each class, (K,) int64.
        nodata: Value of invalid pixels; None for no value.
        digest: SHA-256 of the values, the valid pixels and the grid; independent of compression, tiling, overviews
            and data type.
    """

    header: Header
    names: tuple[str, ...]
    values: NDArray[np.int64]
    pixels: NDArray[np.int64]
    nodata: float | None
    digest: str

    def read(self, src: Any, window: Window) -> NDArray[np.int64]:
        """Read a window, (H, W) int64: index of the class, -1 where invalid."""
        values, invalid = _read(src, self.header, self.nodata, window)
        index: NDArray[np.int64]
        if values.dtype == np.uint8:  # ten times as fast
            index = np.searchsorted(self.values, np.arange(256))[values]
        else:
            index = np.searchsorted(self.values, values)
        if invalid is not None:
            index[invalid] = -1
        return index


def read_class_map(path: str, names: Mapping[int, str] | None = None, nodata: float | str | None = None) -> ClassMap:
    """Read a class map as a whole: its classes, how many pixels each has, and the hash.

    Args:
        path: File, or an address that GDAL can open.
        names: Names of the classes by value; None for those in the file's metadata (CLASS_NAMES, as our maps have
            it), or, without any, the values.
        nodata: Value of invalid pixels in place of the file's; "none" for no value.

    Raises:
        UserError: The file isn't a class map, isn't georeferenced, has no valid pixel, or has a value that is no class.
    """
    header = read_header(path, "a map of classes")
    _check_header(header)
    value = _nodata(header, nodata)
    digest = hashlib.sha256(_grid(header))
    found: dict[int, int] = {}
    with reading(path), environment(), open_raster(path) as src:
        with Progress(header.height, "reading the map", "rows") as bar:
            for row in range(0, header.height, _ROWS):
                window = Window(0, row, header.width, min(_ROWS, header.height - row))
                _add_block(header, *_read(src, header, value, window), digest, found)
                bar.show(row + window.height)
        stated = names if names is not None else _stated_names(header.path, src.tags().get("CLASS_NAMES"))
    if not found:
        raise UserError(f"{path}: has no valid pixel (give a map of which some part is not nodata)")
    cleaned = _named(header.path, found, stated, names is not None)
    values = sorted(cleaned)
    pixels = np.array([found.get(each, 0) for each in values], np.int64)
    titles = tuple(cleaned[each] for each in values)
    return ClassMap(header, titles, np.array(values, np.int64), pixels, value, digest.hexdigest())


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Convert errors of GDAL while a raster is read into a `UserError`."""
    try:
        yield
    except (*GDAL_ERRORS, OSError) as error:
        raise UserError(f"{path}: can't be read: {first_line(error)} (is the file whole?)") from None


def _check_header(header: Header) -> None:
    path = header.path
    bands = header.count - len(header.alpha)
    if bands != 1 and header.count != 1:
        raise UserError(f"{path}: has {bands} bands (allowed: one, of classes; give the map, not the image)")
    problem = georeference_problem(header.crs, header.transform, header.height, header.width)
    if problem is not None:
        raise UserError(f"{path}: its georeference is wrong: {problem} ({FIX_GEOREFERENCE})")
    some = np.array([0.0, 1.0])
    if pixel_areas(usable_crs(header), header.transform, some, some) is None:
        why = why_no_areas(header).replace("the mosaic", "the map")
        raise UserError(f"{path}: {why}, so that it has no areas ({FIX_GEOREFERENCE})")


def _grid(header: Header) -> bytes:
    return json.dumps([header.height, header.width, *map(float, header.transform[:6])]).encode()


def _nodata(header: Header, nodata: float | str | None) -> float | None:
    """Return the value of invalid pixels; NaN, which is always invalid, as None."""
    value = header.nodata[0] if nodata is None else None if isinstance(nodata, str) else float(nodata)
    if value is None or np.isnan(value):
        return None
    if nodata is not None:
        check_nodata("--nodata", value, header.dtype)
    return value


def _read(
    src: Any, header: Header, nodata: float | None, window: Window
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read the values of a window, (H, W), and where they are invalid; None where all are valid."""
    values = src.read(1, window=window)
    masked = read_masked(src, header, (1,), window)
    return values, invalid_pixels(values[None], header.dtype, nodata, masked)


def _add_block(
    header: Header, values: NDArray[Any], invalid: NDArray[np.bool_] | None, digest: Any, found: dict[int, int]
) -> None:
    """Add the rows of a block to the hash and to the number of pixels by value."""
    valid = np.ones(values.shape, np.bool_) if invalid is None else ~invalid
    if invalid is not None:
        values[invalid] = 0
    if values.dtype.kind == "f" and not (values == np.round(values)).all():
        value = values[values != np.round(values)][0]
        raise UserError(f"{header.path}: has the value {value:.6g} (allowed: whole numbers; give the map of classes)")
    bytes_ = values.dtype == np.uint8 or (values.min() >= 0 and values.max() <= 255)
    largest = max(-float(values.min()), float(values.max()))
    if largest >= 2**31:
        raise UserError(f"{header.path}: has values up to {largest:.6g} (allowed: classes below 2**31)")
    values = values.astype(np.uint8 if bytes_ else "<i4", copy=False)
    digest.update(np.ascontiguousarray(values))
    digest.update(np.packbits(valid))
    if bytes_:
        counts = np.bincount(values.ravel(), minlength=256)
        counts[0] -= values.size - np.count_nonzero(valid)
        pairs = [(value, int(counts[value])) for value in np.flatnonzero(counts)]
    else:
        pairs = list(zip(*(each.tolist() for each in np.unique(values[valid], return_counts=True)), strict=True))
    for value, count in pairs:
        found[int(value)] = found.get(int(value), 0) + count
    if len(found) > MOST_CLASSES:
        raise UserError(
            f"{header.path}: has more than {MOST_CLASSES} different values (is it a map of classes? give the map, not "
            "the image or the probabilities)"
        )


def _stated_names(path: str, text: str | None) -> dict[int, str] | None:
    """Return the names of the classes in a map's metadata; None where it has none."""
    if text is None:
        return None
    try:
        stated = json.loads(text)
        pairs = enumerate(stated) if isinstance(stated, list) else stated.items()
        names = {int(value): str(name) for value, name in pairs}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{path}: its metadata CLASS_NAMES is {quoted(text)} (allowed: JSON such as "
            '{"0": "background", "1": "kelp"}; name the classes with --class-names 0=background,1=kelp)'
        ) from None
    return names or None


def _named(path: str, found: Mapping[int, int], names: Mapping[int, str] | None, given: bool) -> dict[int, str]:
    """Return the names of all classes by value, cleaned, after checking that they differ."""
    if names is None:
        names = {value: str(value) for value in sorted(found)}
    if unknown := sorted(set(found) - set(names)):
        where = "--class-names" if given else "its metadata CLASS_NAMES"
        shown = ", ".join(limited(map(str, unknown), 8, len(unknown)))
        raise UserError(
            f"{path}: has pixels of value {shown}, which {where} has no name for (name all values with --class-names "
            f"{','.join(f'{value}=NAME' for value in sorted({*found, *names})[:4])}, or if it marks "
            f"invalid pixels: --nodata {unknown[0]})"
        )
    values = sorted(names)
    cleaned = [clean_line(names[value].strip(), LONGEST_NAME) for value in values]
    if repeated := [name for name in cleaned if [each.casefold() for each in cleaned].count(name.casefold()) > 1]:
        raise UserError(f"{path}: has two classes called {quoted(repeated[0])} (name them with --class-names)")
    if not all(cleaned):
        raise UserError(f"{path}: has a class without a name (name the classes with --class-names)")
    if len(values) < 2:
        raise UserError(
            f"{path}: has a single class, {quoted(cleaned[0])} (allowed: two or more; name the others with "
            "--class-names 0=background,1=kelp; if its nodata value is a class: --nodata none)"
        )
    return dict(zip(values, cleaned, strict=True))

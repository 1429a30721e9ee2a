"""Class maps that are counted and hashed: the same map is recognised whatever its compression and data type."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.areas import FIX_GEOREFERENCE, georeference_problem, pixel_areas, usable_crs, why_no_areas
from inference.common.errors import UserError, first_line
from inference.common.progress import Progress
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster
from inference.common.text import LONGEST_NAME, clean_line, quoted
from inference.vector.class_map import ClassMap, open_class_map

_ROWS = 512  # of the blocks that are hashed; another number would change the hash


@dataclass(frozen=True)
class CountedMap:
    """Class map, read once as a whole.

    Attributes:
        map: The map.
        pixels: Number of valid pixels of each class, (K,) int64.
        digest: SHA-256 of the values, the valid pixels and the grid; independent of compression, tiling, overviews
            and data type.
    """

    map: ClassMap
    pixels: NDArray[np.int64]
    digest: str

    @property
    def header(self) -> Header:
        """Header of the file."""
        return self.map.info.header

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each of the K classes."""
        return tuple(self.map.info.names)

    @property
    def values(self) -> NDArray[np.int64]:
        """Value of each class in the map, (K,) int64, ascending."""
        return self.map.info.numbers

    @property
    def nodata(self) -> float | None:
        """Value of invalid pixels; None for no value."""
        return self.map.nodata

    def read(self, src: Any, window: Window) -> NDArray[np.int64]:
        """Read a window, (H, W) int64: index of the class, -1 where invalid."""
        index, invalid = self.map.indices(*self.map.read(src, window), window)
        found = index.astype(np.int64)
        if invalid is not None:
            found[invalid] = -1
        return found


def count_class_map(path: str, names: Mapping[int, str] | None = None, nodata: float | str | None = None) -> CountedMap:
    """Read a class map as a whole: its classes, how many pixels each has, and the hash.

    Args:
        path: File, or an address that GDAL can open.
        names: Names of the classes by value; None for those in the file's metadata, or to number them.
        nodata: Value of invalid pixels in place of the file's; "none" for no value.

    Raises:
        UserError: The file isn't a class map, isn't georeferenced, has no valid pixel, or has a value that is no class.
    """
    opened = open_class_map(path, names=names, nodata=nodata)
    header = opened.info.header
    _check_georeference(header)
    opened = _named(opened)
    digest = hashlib.sha256(_grid(header))
    counts = np.zeros(len(opened.info.names) + 1, np.int64)
    bar = Progress(header.height, "reading the map", "rows")
    with reading(path), environment(), open_raster(path) as src, bar:
        for row in range(0, header.height, _ROWS):
            window = Window(0, row, header.width, min(_ROWS, header.height - row))
            values, invalid = opened.read(src, window)
            _add_block(digest, values.copy(), invalid)
            index, _ = opened.indices(values, invalid, window)
            counts += np.bincount((index if invalid is None else index[~invalid]).ravel(), minlength=len(counts))
            bar.show(row + window.height)
    if not counts.any():
        raise UserError(f"{path}: has no valid pixel (give a map of which some part is not nodata)")
    return CountedMap(opened, counts[:-1], digest.hexdigest())


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Convert errors of GDAL while a raster is read into a `UserError`."""
    try:
        yield
    except (*GDAL_ERRORS, OSError) as error:
        raise UserError(f"{path}: can't be read: {first_line(error)} (is the file whole?)") from None


def _check_georeference(header: Header) -> None:
    path = header.path
    problem = georeference_problem(header.crs, header.transform, header.height, header.width)
    if problem is not None:
        raise UserError(f"{path}: its georeference is wrong: {problem} ({FIX_GEOREFERENCE})")
    some = np.array([0.0, 1.0])
    if pixel_areas(usable_crs(header), header.transform, some, some) is None:
        why = why_no_areas(header).replace("the mosaic", "the map")
        raise UserError(f"{path}: {why}, so that it has no areas ({FIX_GEOREFERENCE})")


def _grid(header: Header) -> bytes:
    return json.dumps([header.height, header.width, *map(float, header.transform[:6])]).encode()


def _add_block(digest: Any, values: NDArray[Any], invalid: NDArray[np.bool_] | None) -> None:
    """Add the rows of a block, whose values are changed, to the hash."""
    valid = np.ones(values.shape, np.bool_) if invalid is None else ~invalid
    values[~valid] = 0
    bytes_ = values.dtype == np.uint8 or (values.min() >= 0 and values.max() <= 255)
    digest.update(np.ascontiguousarray(values.astype(np.uint8 if bytes_ else "<i4", copy=False)))
    digest.update(np.packbits(valid))


def _named(found: ClassMap) -> ClassMap:
    """Return a map with cleaned names of its classes, after checking that they differ."""
    path, names = found.info.header.path, found.info.names
    cleaned = tuple(clean_line(name.strip(), LONGEST_NAME) for name in names)
    if repeated := [name for name in cleaned if [each.casefold() for each in cleaned].count(name.casefold()) > 1]:
        raise UserError(f"{path}: has two classes called {quoted(repeated[0])} (name them with --class-names)")
    if not all(cleaned):
        raise UserError(f"{path}: has a class without a name (name the classes with --class-names)")
    if len(cleaned) < 2:
        raise UserError(
            f"{path}: has a single class, {quoted(cleaned[0])} (allowed: two or more; name the others with "
            "--class-names 0=background,1=kelp; if its nodata value is a class: --nodata none)"
        )
    return replace(found, info=replace(found.info, names=cleaned))

"""Maps of classes that exist: this project's, or any raster with one band of class numbers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.areas import CELL_ROWS
from inference.common.documents import parse_json
from inference.common.errors import UserError, first_line
from inference.common.raster import GDAL_ERRORS, WINDOW_CACHE, Header, environment, open_raster, read_header
from inference.common.text import LONGEST_LINE, clean_line
from inference.common.validity import alpha_bands, check_nodata, invalid_pixels, read_masked
from inference.vector.features import MapInfo

ROWS = 512
"""Rows that are read at once, a multiple of `CELL_ROWS`."""
LARGEST_CLASS = 255
_TALLEST = 2048


@dataclass(frozen=True)
class Rows:
    """Rows of a map.

    Attributes:
        row: First of the rows, a multiple of `CELL_ROWS`.
        values: Class of each pixel, (n, width) uint8; 0 where invalid.
        invalid: True at invalid pixels, (n, width) bool; None if all are valid.
        probability: Probability of each pixel's class, (n, width) float32; None if it isn't known.
    """

    row: int
    values: NDArray[np.uint8]
    invalid: NDArray[np.bool_] | None
    probability: NDArray[np.float32] | None


@dataclass(frozen=True)
class ClassMap:
    """Map of classes.

    Attributes:
        info: Contents of the map.
        nodata: Value of invalid pixels; None for no value.
        probabilities: Header of a raster of probabilities on the same grid: a band for each class, or for two classes a
            single one of class 1; None if there is none.
        notices: Notices for the user, a line each.
    """

    info: MapInfo
    nodata: float | None
    probabilities: Header | None = None
    notices: tuple[str, ...] = ()

    def rows(self) -> Iterator[Rows]:
        """Read the map from top to bottom, every row once.

        Raises:
            UserError: A part can't be decoded, or holds values that aren't class numbers.
        """
        header = self.info.header
        step = _step(header)
        with environment(WINDOW_CACHE):
            try:
                with open_raster(header.path) as src:
                    if self.probabilities is None:
                        for row in range(0, header.height, step):
                            yield self._read(src, None, row, min(step, header.height - row))
                        return
                    with open_raster(self.probabilities.path) as floats:
                        for row in range(0, header.height, step):
                            yield self._read(src, floats, row, min(step, header.height - row))
            except GDAL_ERRORS as error:
                raise _unreadable(header.path, error) from None

    def _read(self, src: Any, floats: Any, row: int, rows: int) -> Rows:
        header = self.info.header
        window = Window(0, row, header.width, rows)
        read = src.read(1, window=window)
        invalid = invalid_pixels(read[None], header.dtype, self.nodata, read_masked(src, header, (1,), window))
        if invalid is not None:
            read[invalid] = 0
        values = _class_numbers(read, header.path, row, len(self.info.names))
        return Rows(
            row, values, invalid, None if floats is None else self._probability(floats, values, window, invalid)
        )

    def _probability(
        self, floats: Any, values: NDArray[np.uint8], window: Window, invalid: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """Read the probability of each pixel's class, one band at a time."""
        found = np.full(values.shape, np.nan, np.float32)
        for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256)):
            single = floats.count == 1
            try:
                band = floats.read(1 if single else int(value) + 1, window=window, out_dtype="float32")
            except GDAL_ERRORS as error:
                raise _unreadable(floats.name, error) from None
            np.copyto(found, 1 - band if single and value == 0 else band, where=values == value)
        # Background may have none, where what was unmapped is read as background.
        wrong = ~((found >= -1e-3) & (found <= 1 + 1e-3)) & (np.isfinite(found) | (values != self.info.background))
        if invalid is not None:
            wrong &= ~invalid
        if wrong.any():
            row, col = (int(place[0]) for place in np.nonzero(wrong))
            raise UserError(
                f"{floats.name}: is {found[row, col]:.6g} at row {window.row_off + row}, column {col} (allowed: "
                "probabilities, 0 to 1)"
            )
        return found


def _unreadable(path: str, error: BaseException) -> UserError:
    return UserError(f"{path}: can't be read: {first_line(error)} (the file is damaged or cut short)")


def open_class_map(
    path: str,
    *,
    probabilities: str | None = None,
    names: Sequence[str] | None = None,
    nodata: float | str | None = None,
) -> ClassMap:
    """Read the header of a map of classes, and what it says of its classes.

    Args:
        path: The map, a file or an address.
        probabilities: Raster of probabilities, a file or an address.
        names: Names of the classes 0, 1, ...; None to take them from the map, or to number them.
        nodata: Value of invalid pixels in place of the file's; "none" for no value.

    Raises:
        UserError: A file can't be read, or is no such raster.
    """
    header = read_header(path)
    if header.count - len(alpha_bands(header, (1,))) != 1:
        raise UserError(f"{header.path}: has {header.count} bands (a map of classes has one; an alpha band may follow)")
    notices = []
    value = header.nodata[0]
    if nodata is not None:
        value = None if isinstance(nodata, str) else float(nodata)
        if value is not None:
            check_nodata("--nodata", value, header.dtype)
    elif value == 0:
        notices.append(
            f"{header.path}: 0 is its nodata value, so these pixels are taken as unmapped, not as background (to read "
            "them as background: --nodata none)"
        )
    with environment(), open_raster(path) as src:
        tags = src.tags()
    stated = _stated_names(tags.get("CLASS_NAMES"))
    if stated is None and names is None and "CLASS_NAMES" in tags:
        notices.append(
            f"{header.path}: the names of its classes can't be read from CLASS_NAMES, so they are numbered (name them "
            "with --class-names)"
        )
    background: int | None = 0
    if tags.get("BACKGROUND") == "none" or tags.get("INVALID_PIXELS", "").startswith("255"):
        background = None
    elif re.fullmatch("[0-9]{1,3}", tags.get("BACKGROUND", "")):
        background = int(tags["BACKGROUND"])
    info = MapInfo(
        header,
        names or stated or [],
        background,
        image=tags.get("MOSAIC", ""),
        date=header.date,
        model=tags.get("MODEL", ""),
        revision=tags.get("MODEL_REVISION", ""),
    )
    found = ClassMap(info, value, notices=tuple(notices))
    if not info.names:
        found = replace(found, info=replace(info, names=_numbered(_highest(found))))
    if probabilities is not None:
        found = replace(found, probabilities=probabilities_header(probabilities, header, len(found.info.names)))
    return found


def _stated_names(text: str | None) -> list[str] | None:
    """Return the names of the classes from the metadata of this project's maps; None if there are none."""
    try:
        names = parse_json(text or "null", "CLASS_NAMES")
        found = [names[str(value)] for value in range(len(names))] if names else []
    except (UserError, KeyError, TypeError):
        return None
    if not 0 < len(found) <= LARGEST_CLASS + 1 or not all(isinstance(name, str) for name in found):
        return None
    # Hidden characters have no place in the columns and styles that the names get into.
    return [clean_line(name, LONGEST_LINE).strip() or f"class {value}" for value, name in enumerate(found)]


def _highest(found: ClassMap) -> int:
    """Return the highest class number of a map."""
    anything = replace(found, info=replace(found.info, names=[""] * (LARGEST_CLASS + 1)))
    return max(int(rows.values.max(initial=0)) for rows in anything.rows())


def _numbered(highest: int) -> list[str]:
    """Return names for classes that have none."""
    return ["background", *(f"class {value}" for value in range(1, max(highest, 1) + 1))]


def probabilities_header(path: str, of_map: Header, count: int) -> Header:
    """Read the header of a raster of probabilities, and check that it belongs to a map of `count` classes.

    Raises:
        UserError: It can't be read or doesn't belong to the map.
    """
    header = read_header(path)
    if np.dtype(header.dtype).kind != "f":
        raise UserError(f"{header.path}: is {header.dtype} (probabilities are floating-point numbers, 0 to 1)")
    shapes = (header.height, header.width), (of_map.height, of_map.width)
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{header.path}: has {shapes[0][0]} rows and {shapes[0][1]} columns, {of_map.path} has {shapes[1][0]} and "
            f"{shapes[1][1]} (give the probabilities of this map)"
        )
    if not header.transform.almost_equals(of_map.transform, 1e-6) or header.crs != of_map.crs:
        raise UserError(f"{header.path}: lies on another grid than {of_map.path} (give the probabilities of this map)")
    if header.count != count and not (header.count == 1 and count == 2):
        raise UserError(
            f"{header.path}: has {header.count} bands, the map {count} classes (allowed: a band for each class"
            f"{', or one for class 1' if count == 2 else ''})"
        )
    return header


def _step(header: Header) -> int:
    """Return the number of rows to read at once: whole blocks of the file, if they aren't too tall."""
    block = header.block[0]
    if block >= ROWS and block % CELL_ROWS == 0 and block <= _TALLEST:
        return block
    return ROWS


def _class_numbers(read: NDArray[Any], path: str, row: int, classes: int) -> NDArray[np.uint8]:
    """Convert pixels to class numbers; raise `UserError` for a value that is none."""
    if read.dtype == np.uint8:
        values = read
        wrong = values >= classes if classes <= LARGEST_CLASS else np.zeros((1, 1), np.bool_)
    else:
        with np.errstate(invalid="ignore"):
            values = read.astype(np.uint8)
            wrong = (values != read) | (values >= classes)
    if wrong.any():
        place = tuple(int(at[0]) for at in np.nonzero(wrong))
        raise UserError(
            f"{path}: holds the value {read[place]!s} at row {row + place[0]}, column {place[1]} (allowed: class "
            f"numbers 0 to {classes - 1}; for a value that means unmapped: --nodata {read[place]!s})"
        )
    return values

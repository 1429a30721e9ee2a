"""Maps of classes that exist: this project's, or any raster with one band of whole numbers.

Each value of a map is a class. Classes are counted from 0 in the order of their values; arrays hold these indices.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.areas import CELL_ROWS
from inference.common.documents import parse_json
from inference.common.errors import UserError, first_line
from inference.common.progress import Progress
from inference.common.raster import GDAL_ERRORS, WINDOW_CACHE, Header, environment, open_raster, read_header
from inference.common.text import LONGEST_LINE, clean_line
from inference.common.validity import alpha_bands, check_nodata, invalid_pixels, read_masked
from inference.vector.features import MapInfo

ROWS = 512
"""Rows that are read at once, a multiple of `CELL_ROWS`."""
MOST_CLASSES = 100
"""Largest number of classes of a map without names; an image that is given in its place has more values."""
_MOST_NAMES = 255
_TALLEST = 2048
_SHOWN = 12


@dataclass(frozen=True)
class Rows:
    """Rows of a map.

    Attributes:
        row: First of the rows, a multiple of `CELL_ROWS`.
        values: Index of the class of each pixel, (n, width) uint8; of no meaning where invalid.
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
            UserError: A part can't be decoded, or holds values that are no class.
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
        window = Window(0, row, self.info.header.width, rows)
        values, invalid = self.indices(*self.read(src, window), window)
        return Rows(
            row, values, invalid, None if floats is None else self._probability(floats, values, window, invalid)
        )

    def read(self, src: Any, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read the values of a window, (H, W), and where they are invalid; None where all are valid."""
        header = self.info.header
        values = src.read(1, window=window)
        masked = read_masked(src, header, (1,), window)
        return values, invalid_pixels(values[None], header.dtype, self.nodata, masked)

    def indices(
        self, values: NDArray[Any], invalid: NDArray[np.bool_] | None, window: Window
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Return the index of the class of each pixel, (H, W) uint8, and `invalid`.

        Args:
            values: Values of the map, (H, W); changed in place where invalid.
            invalid: True at invalid pixels; None if all are valid.
            window: Their place, for error messages.

        Raises:
            UserError: A value is no class.
        """
        known = np.array(self.info.values)
        if invalid is not None:
            values[invalid] = known[0]
        index: NDArray[np.uint8]
        if values.dtype == np.uint8:  # ten times as fast
            if np.array_equal(known, np.arange(len(known))):
                index = np.minimum(values, np.uint8(len(known)))
            else:
                table = np.full(256, len(known), np.uint8)
                bytes_ = np.flatnonzero((known >= 0) & (known < 256))
                table[known[bytes_]] = bytes_
                index = table[values]
            wrong = index == len(known)
        else:
            index = np.searchsorted(known, values).clip(max=len(known) - 1).astype(np.uint8)
            wrong = known[index] != values
        if wrong.any():
            row, col = (int(at[0]) for at in np.nonzero(wrong))
            allowed = ", ".join(map(str, known[:_SHOWN])) + (", ..." if len(known) > _SHOWN else "")
            raise UserError(
                f"{self.info.header.path}: holds the value {values[row, col]!s} at row {window.row_off + row}, column "
                f"{window.col_off + col} (allowed: its classes {allowed}; name it with --class-names, or if it means "
                f"unmapped: --nodata {values[row, col]!s})"
            )
        return index, invalid

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
    names: Mapping[int, str] | None = None,
    nodata: float | str | None = None,
) -> ClassMap:
    """Read what a map of classes says of itself; one without names is read as a whole, to find its classes.

    Args:
        path: The map, a file or an address.
        probabilities: Raster of probabilities, a file or an address.
        names: Names of the classes by value; None to take them from the map, or to number them.
        nodata: Value of invalid pixels in place of the file's; "none" for no value.

    Raises:
        UserError: A file can't be read, or is no such raster.
    """
    header = read_header(path, "a map of classes")
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
    if value is not None and np.isnan(value):
        value = None  # NaN is always invalid
    with environment(), open_raster(path) as src:
        tags = src.tags()
    if names is None:
        names = _stated_names(tags.get("CLASS_NAMES"))
        if names is None and "CLASS_NAMES" in tags:
            notices.append(
                f"{header.path}: the names of its classes can't be read from CLASS_NAMES, so they are numbered (name "
                "them with --class-names)"
            )
    info = MapInfo(
        header,
        (),
        None,
        image=tags.get("MOSAIC", ""),
        date=header.date,
        model=tags.get("MODEL", ""),
        revision=tags.get("MODEL_REVISION", ""),
    )
    found = ClassMap(info, value, notices=tuple(notices))
    if names is None:
        names = _numbered(_present(found))
    values = sorted(names)
    background = _background(tags)
    info = replace(
        info,
        names=tuple(names[each] for each in values),
        values=tuple(values),
        background=values.index(background) if background in values else None,
    )
    found = replace(found, info=info)
    if probabilities is not None:
        found = replace(found, probabilities=probabilities_header(probabilities, header, len(values)))
    return found


def _background(tags: Mapping[str, str]) -> int | None:
    """Return the value of the background; None for a map of a model without one."""
    if tags.get("BACKGROUND") == "none" or tags.get("INVALID_PIXELS", "").startswith("255"):
        return None
    stated = tags.get("BACKGROUND", "")
    return int(stated) if re.fullmatch("[0-9]{1,3}", stated) else 0


def _stated_names(text: str | None) -> dict[int, str] | None:
    """Return the names of the classes by value from the metadata of this project's maps; None if there are none."""
    try:
        stated = parse_json(text or "null", "CLASS_NAMES")
        pairs = dict(enumerate(stated) if isinstance(stated, list) else stated.items()) if stated else {}
        found = {int(value): name for value, name in pairs.items()}
    except (UserError, ValueError, AttributeError, TypeError):
        return None
    if not 0 < len(found) <= _MOST_NAMES or not all(isinstance(name, str) for name in found.values()):
        return None
    # Hidden characters have no place in the columns and styles that the names get into.
    return {value: clean_line(name, LONGEST_LINE).strip() or f"class {value}" for value, name in found.items()}


def _present(found: ClassMap) -> set[int]:
    """Return the values of the valid pixels of a map; raise `UserError` if they are no class numbers."""
    header, present = found.info.header, set[int]()
    try:
        with environment(WINDOW_CACHE), open_raster(header.path) as src:
            step = _step(header)
            with Progress(header.height, "looking for classes", "rows") as bar:
                for row in range(0, header.height, step):
                    window = Window(0, row, header.width, min(step, header.height - row))
                    present |= _values(header, *found.read(src, window), row)
                    bar.show(row + window.height)
    except GDAL_ERRORS as error:
        raise _unreadable(header.path, error) from None
    return present


def _values(header: Header, values: NDArray[Any], invalid: NDArray[np.bool_] | None, row: int) -> set[int]:
    """Return the different values of the valid pixels of some rows."""
    if values.dtype == np.uint8:
        counts = np.bincount((values if invalid is None else values[~invalid]).ravel(), minlength=256)
        different: NDArray[Any] = np.flatnonzero(counts)
    else:
        different = np.unique(values if invalid is None else values[~invalid])
    with np.errstate(invalid="ignore"):
        whole = (different == np.round(different)) & (np.abs(different.astype(np.float64)) < 2**31)
    if not whole.all():
        wrong = different[~whole][0]
        place = np.argwhere(values == wrong if invalid is None else (values == wrong) & ~invalid)[0]
        raise UserError(
            f"{header.path}: holds the value {wrong!s} at row {row + place[0]}, column {place[1]} (allowed: class "
            f"numbers, whole numbers below 2**31; for a value that means unmapped: --nodata {wrong!s})"
        )
    if len(different) > MOST_CLASSES:
        raise UserError(
            f"{header.path}: has more than {MOST_CLASSES} different values (is it a map of classes? give the map, not "
            "the image or the probabilities)"
        )
    return set(map(int, different))


def _numbered(values: set[int]) -> dict[int, str]:
    """Return names for classes that have none; a map has a class beside the background, mapped or not."""
    values = values | ({0, 1} if values <= {0} else {0} if min(values) > 0 else set())
    return {value: "background" if value == 0 else f"class {value}" for value in values}


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

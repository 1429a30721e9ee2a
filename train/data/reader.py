"""Reading a window of an image and its label from GeoTIFFs.

Nothing is held in memory: a window is read when it is asked for, and of a file no more than the window. A process keeps
its own open files, opened when first needed: a GDAL handle survives neither a fork nor a trip to another process.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from inference.common.errors import UserError, first_line
from train.data.pairs import GDAL_OPTIONS, Header, Scene, open_raster

OPEN_FILES = 64
# Decoded blocks are kept, for windows overlap, and a small mosaic is decoded once. GDAL's own default is 5 % of the
# machine's memory in every worker: with many workers, or in a container, too much.
_BLOCK_CACHE = 512 * 2**20
_LEAST_BLOCK_CACHE = 64 * 2**20
_WORTH_A_THREAD = 128 * 128


@dataclass(frozen=True)
class LabelRule:
    """How the values of a label file become class indices.

    Attributes:
        classes: Number of classes, background included: indices 0 to classes - 1.
        ignore_index: The value that stands for "no label" after mapping.
        label_map: Value in the file to value after mapping; others stay.
        nodata: Value in the file that means "no label"; "none" where no value does, None to take the file's own nodata
            unless that is a class.
    """

    classes: int
    ignore_index: int
    label_map: tuple[tuple[int, int], ...] = ()
    nodata: int | str | None = None

    def allowed(self) -> str:
        """The values that a file may hold, in words."""
        known = {*dict(self.label_map), *range(self.classes), self.ignore_index}
        known |= {self.nodata} if isinstance(self.nodata, int) else set()
        words: list[str] = []
        for value in sorted(known):
            if value - 1 not in known or value + 1 not in known or len(known) <= 10:
                words.append(str(value))
            elif words[-1] != "to":
                words.append("to")
        return ", ".join(words).replace(", to, ", " to ")

    def nodata_of(self, header: Header) -> float | None:
        """The value in this file that means "no label", or None."""
        if self.nodata == "none":
            return None
        if self.nodata is not None:
            return int(self.nodata)
        nodata = header.nodata
        if nodata is None or not float(nodata).is_integer():
            return nodata
        return None if self.class_of(int(nodata)) is not None else int(nodata)

    def class_of(self, value: int) -> int | None:
        """The class index that a value in the file stands for; None for ignored and unknown values."""
        mapped = dict(self.label_map).get(value, value)
        return mapped if 0 <= mapped < self.classes else None

    @property
    def unknown(self) -> int | None:
        """A value that no mapped label has: it marks what is neither a class nor ignored. None where all are taken."""
        return next((v for v in range(255, 0, -1) if v >= self.classes and v != self.ignore_index), None)

    def table(self, nodata: float | None) -> NDArray[np.uint8]:
        """The mapping of all uint8 values, shape (256,); unknown values become `self.unknown`."""
        return _table(self, nodata)


@lru_cache(maxsize=64)
def _table(rule: LabelRule, nodata: float | None) -> NDArray[np.uint8]:
    table = np.full(256, rule.unknown or 0, np.uint8)
    table[: rule.classes] = np.arange(rule.classes)
    table[rule.ignore_index] = rule.ignore_index
    for source, target in rule.label_map:
        if 0 <= source <= 255:
            table[source] = target
    if isinstance(nodata, int) and 0 <= nodata <= 255:
        table[nodata] = rule.ignore_index
    return table


class Reader:
    """Reads windows of scenes; safe to hand to another process, which opens files of its own.

    Args:
        rule: How label values become classes.
        fill_value: What invalid pixels hold, in units of the file.
        threads: Threads with which GDAL decodes the blocks of one window.
        processes: Processes that read at the same time; they share what memory there is for decoded blocks, 512 MiB
            or 64 MiB each, whichever is more.
    """

    def __init__(self, rule: LabelRule, fill_value: float = 0.0, threads: int = 1, processes: int = 1) -> None:
        self.rule = rule
        self.fill_value = fill_value
        self.threads = threads
        self._options = GDAL_OPTIONS | {"GDAL_CACHEMAX": max(_LEAST_BLOCK_CACHE, _BLOCK_CACHE // max(1, processes))}
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._inherited: OrderedDict[Path, Any] | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_inherited": None}

    def _dataset(self, path: Path, header: Header) -> Any:
        if self._process != os.getpid():
            # Forked: the parent's handles share its file positions. They are dropped unclosed, they aren't ours.
            self._inherited = self._open
            self._open, self._process = OrderedDict(), os.getpid()
        dataset = self._open.pop(path, None)
        if dataset is None:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            # Strips of a few lines are decoded faster than they are handed to another thread.
            large = header.block[0] * header.block[1] >= _WORTH_A_THREAD
            dataset = open_raster(path, NUM_THREADS=str(self.threads if large else 1))
        self._open[path] = dataset
        return dataset

    def close(self) -> None:
        """Closes this process's files."""
        if self._process == os.getpid():
            for dataset in self._open.values():
                dataset.close()
            self._open.clear()

    def window(
        self, scene: Scene, bands: Sequence[int], row: int, col: int, size: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.bool_] | None]:
        """A square window, which may reach beyond the image on every side.

        Args:
            scene: Where to read.
            bands: Bands to read, counted from 1.
            row: First row of the window; may be negative.
            col: First column; may be negative.
            size: Side, pixels.

        Returns:
            Image (size, size, bands), uint8 where the file is uint8, else float32: `fill_value` where invalid, a
            reflection beyond the edge. Label (size, size) uint8: class indices, ignore_index where the image is
            invalid, beyond the edge, or unlabelled. Invalid (size, size) bool, True where there is no image; None
            where all is valid.

        Raises:
            UserError: Pixels that can't be decoded, or a label value that is no class.
        """
        top, bottom, above, below = _span(row, size, scene.height)
        left, right, before, after = _span(col, size, scene.width)
        image, invalid = self.image(scene, bands, Window(left, top, right - left, bottom - top))
        label = self.label(scene, Window(col + before, row + above, size - before - after, size - above - below))
        if invalid is not None:
            refill(image, invalid, self.fill_value)
        sides = (above, below, before, after)
        if any(sides):
            corner = (row + above - top, col + before - left)
            image = _reflect(image, sides, corner, size)
            # A reflection of what is no image is no image either.
            invalid = None if invalid is None else _reflect(invalid.view(np.uint8), sides, corner, size)[..., 0] != 0
            label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=self.rule.ignore_index)
        if invalid is not None:
            np.copyto(label, self.rule.ignore_index, where=invalid)
        return image, label, invalid

    def image(self, scene: Scene, bands: Sequence[int], part: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Pixels of a part that lies inside the image.

        Returns:
            Image (H, W, bands), uint8 where the file is uint8, else float32. Invalid (H, W) bool, True under the file's
            nodata, mask or alpha, or where a band isn't finite; None where all is valid.

        Raises:
            UserError: The part can't be decoded.
        """
        path, header = scene.pair.image, scene.image
        try:
            with rasterio.Env(**self._options):
                src = self._dataset(path, header)
                # Pixel-interleaved, as both augmentation and a channels-last network want it; GDAL converts each value
                # and puts it where it belongs, so that nothing is copied.
                dtype = np.uint8 if header.dtype == "uint8" else np.float32
                image = np.empty((int(part.height), int(part.width), len(bands)), dtype)
                src.read(list(bands), window=part, out=image.transpose(2, 0, 1))
                invalid = _masked(src, header, bands, part)
        except RasterioError as error:
            raise _undecodable(path, part, error) from None
        # As GDAL has it: one band with data makes a pixel valid.
        invalid = _either(invalid, _all_equal(image, header.nodata))
        if np.dtype(header.dtype).kind == "f" and not np.isfinite(image).all():
            # GDAL calls a NaN valid unless it is the nodata value; no network can do anything with it.
            invalid = _either(invalid, np.asarray(~np.isfinite(image).all(axis=-1)))
        return image, invalid if invalid is not None and invalid.any() else None

    def label(self, scene: Scene, part: Window) -> NDArray[np.uint8]:
        """Class indices of a part that lies inside the image, (H, W) uint8; ignore_index where there is no label.

        Raises:
            UserError: The part can't be decoded, or holds a value that is no class.
        """
        path, header, rule = scene.pair.label, scene.label, self.rule
        band = next(i for i in range(1, header.count + 1) if i not in header.alpha)
        try:
            with rasterio.Env(**self._options):
                src = self._dataset(path, header)
                values = src.read(band, window=part)
                unlabelled = _masked(src, header, (band,), part)
        except RasterioError as error:
            raise _undecodable(path, part, error) from None
        label, unknown = map_labels(values, rule, rule.nodata_of(header))
        if unlabelled is not None:
            np.copyto(label, rule.ignore_index, where=unlabelled)
        if unknown is None:
            return label
        unknown = unknown if unlabelled is None else unknown & ~unlabelled
        if unknown.any():
            r, c = np.argwhere(unknown)[0]
            raise UserError(
                f"{path}: label value {values[r, c]!s} at row {part.row_off + r}, column {part.col_off + c} is no "
                f"class (allowed: {rule.allowed()}; translate others with data_module.label_map)"
            )
        return label


def map_labels(
    values: NDArray[Any], rule: LabelRule, nodata: float | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Class indices of label values.

    Args:
        values: (H, W) of any real type; a NaN means "no label".
        rule: What they stand for.
        nodata: Another value that means "no label".

    Returns:
        Label (H, W) uint8. Unknown (H, W) bool, True where a value is neither a class nor ignored; None where all are.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        # What is no byte becomes some byte, and then differs from it.
        small = np.ascontiguousarray(values).astype(np.uint8, copy=False)
    label: NDArray[np.uint8] = cv2.LUT(small, rule.table(nodata)).reshape(values.shape)
    strange = None
    if values.dtype not in (np.uint8, np.bool_) and (large := small != values).any():
        known: dict[float, int] = dict(rule.label_map) | ({} if nodata is None else {nodata: rule.ignore_index})
        for source, target in known.items():
            found = large & _equal(values, source)
            label[found], large[found] = target, False
        if values.dtype.kind == "f":
            nan = np.isnan(values)
            label[nan], large[nan] = rule.ignore_index, False
        strange = large
    unknown = _either(strange, None if rule.unknown is None else label == rule.unknown)
    return label, unknown if unknown is not None and unknown.any() else None


def _span(first: int, size: int, length: int) -> tuple[int, int, int, int]:
    """What a window needs of an image along one axis.

    Returns:
        First pixel to read and the one after the last, with as many as the reflection shows. How many pixels of the
        window lie before the image, and how many behind it.
    """
    before, after = max(0, -first), max(0, first + size - length)
    return max(0, min(first, length - 1 - after)), min(length, max(first + size, before + 1)), before, after


def _reflect(part: NDArray[Any], sides: tuple[int, int, int, int], corner: tuple[int, int], size: int) -> NDArray[Any]:
    """Continues a part of an image by its reflection, and cuts the (size, size, bands) window at `corner` out of it.

    What is continued beyond both ends is the whole image, so that the reflection is reflected in turn.
    """
    around = cv2.copyMakeBorder(part, *sides, cv2.BORDER_REFLECT_101)
    row, col = corner
    return np.ascontiguousarray(around[row : row + size, col : col + size]).reshape(size, size, -1)


def refill(image: NDArray[Any], invalid: NDArray[np.bool_], fill_value: float) -> None:
    """Puts `fill_value` where an (H, W, bands) image is invalid; in place, and band by band, as that is far faster."""
    for band in range(image.shape[2]):
        np.copyto(image[..., band], fill_value, where=invalid, casting="unsafe")


def _masked(src: Any, header: Header, bands: Sequence[int], part: Window) -> NDArray[np.bool_] | None:
    """Where a file's mask or alpha says that there is nothing; an alpha band that is read as data says nothing."""
    invalid = None
    if header.masked:
        invalid = src.read_masks(bands[0], window=part) == 0
    for band in header.alpha:
        if band not in bands:
            invalid = _either(invalid, src.read(band, window=part) == 0)
    return invalid


def _all_equal(image: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where all bands of (H, W, bands) are nodata; None where no pixel is."""
    if nodata is None or np.isnan(nodata):
        return None
    equal: NDArray[np.bool_] = _equal(image[..., 0], nodata)
    for band in range(1, image.shape[2]):
        if not equal.any():
            return None
        equal &= _equal(image[..., band], nodata)
    return equal


def _equal(values: NDArray[Any], number: float) -> NDArray[np.bool_]:
    """Where values are this number; GDAL keeps nodata as a double, and -3.4e38 must be found again among float32."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            number = values.dtype.type(number)
    elif float(number).is_integer():
        number = int(number)  # bytes are compared as bytes, not as doubles
    equal: NDArray[np.bool_] = values == number
    return equal


def _either(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    return other if one is None else one if other is None else one | other


def _undecodable(path: Path, part: Window, error: RasterioError) -> UserError:
    where = f"row {part.row_off}, column {part.col_off}, {part.width}x{part.height} pixels"
    return UserError(
        f"{path}: can't be read from {where}: {first_line(error)} (the file is damaged or cut short: write it again)"
    )

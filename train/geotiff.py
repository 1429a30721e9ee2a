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
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from train.errors import UserError
from train.scenes import GDAL_OPTIONS, Header, Scene, first_line, open_raster

OPEN_FILES = 64
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
        mapped = dict(self.label_map)
        known = sorted({*mapped, *(v for v in (*range(self.classes), self.ignore_index) if v not in mapped)})
        return ", ".join(map(str, known))

    def nodata_of(self, header: Header) -> int | None:
        """The value in this file that means "no label", or None."""
        if self.nodata == "none":
            return None
        if self.nodata is not None:
            return int(self.nodata)
        if header.nodata is None or not float(header.nodata).is_integer():
            return None
        value = int(header.nodata)
        return None if self.class_of(value) is not None else value

    def class_of(self, value: int) -> int | None:
        """The class index that a value in the file stands for; None for ignored and unknown values."""
        mapped = dict(self.label_map).get(value, value)
        return mapped if 0 <= mapped < self.classes else None

    @property
    def unknown(self) -> int:
        """A value that no mapped label has: it marks what is neither a class nor ignored."""
        return next(v for v in range(255, 0, -1) if v >= self.classes and v != self.ignore_index)

    def table(self, nodata: int | None) -> NDArray[np.uint8]:
        """The mapping of all uint8 values, shape (256,); unknown values become `self.unknown`."""
        return _table(self, nodata)


@lru_cache(maxsize=64)
def _table(rule: LabelRule, nodata: int | None) -> NDArray[np.uint8]:
    table = np.full(256, rule.unknown, np.uint8)
    table[: rule.classes] = np.arange(rule.classes)
    table[rule.ignore_index] = rule.ignore_index
    for source, target in rule.label_map:
        if 0 <= source <= 255:
            table[source] = target
    if nodata is not None and 0 <= nodata <= 255:
        table[nodata] = rule.ignore_index
    return table


class Reader:
    """Reads windows of scenes; safe to hand to another process, which opens files of its own.

    Args:
        rule: How label values become classes.
        fill_value: What invalid pixels hold, in units of the file.
        threads: Threads with which GDAL decodes the blocks of one window.
    """

    def __init__(self, rule: LabelRule, fill_value: float = 0.0, threads: int = 1) -> None:
        self.rule = rule
        self.fill_value = fill_value
        self.threads = threads
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

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
        height, width = scene.height, scene.width
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + size, height), min(col + size, width)
        part = Window(left, top, right - left, bottom - top)
        image, invalid = self.image(scene, bands, part)
        label = self.label(scene, part)
        if invalid is not None:
            image[invalid] = self.fill_value
            label[invalid] = self.rule.ignore_index
        pad = ((top - row, row + size - bottom), (left - col, col + size - right))
        if any(n for side in pad for n in side):
            image = np.pad(image, (*pad, (0, 0)), mode="reflect")
            label = np.pad(label, pad, constant_values=self.rule.ignore_index)
            if invalid is not None:
                # A reflection of what is no image is no image either.
                invalid = np.pad(invalid, pad, mode="reflect")
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
            with rasterio.Env(**GDAL_OPTIONS):
                src = self._dataset(path, header)
                # Pixel-interleaved, as both augmentation and a channels-last network want it; GDAL puts each value
                # where it belongs, so that nothing is copied.
                image = np.empty((int(part.height), int(part.width), len(bands)), header.dtype)
                src.read(list(bands), window=part, out=image.transpose(2, 0, 1))
                invalid = None
                if header.alpha:
                    invalid = src.read(header.alpha[0], window=part) == 0
                elif MaskFlags.per_dataset in src.mask_flag_enums[bands[0] - 1]:
                    invalid = src.read_masks(bands[0], window=part) == 0
                elif any(src.nodatavals[b - 1] is not None for b in bands):
                    # As GDAL has it: one band with data makes a pixel valid.
                    each = [_equals(image[..., i], src.nodatavals[b - 1]) for i, b in enumerate(bands)]
                    invalid = np.logical_and.reduce(each)
        except RasterioError as error:
            raise UserError(f"{path}: {_place(part)} can't be read: {first_line(error)}") from None
        if image.dtype.kind == "f":
            # GDAL calls a NaN valid unless it is the nodata value; no network can do anything with it.
            nan = ~np.isfinite(image).all(axis=-1)
            invalid = nan if invalid is None else invalid | nan
        if invalid is not None and not invalid.any():
            invalid = None
        return image if image.dtype == np.uint8 else image.astype(np.float32), invalid

    def label(self, scene: Scene, part: Window) -> NDArray[np.uint8]:
        """Class indices of a part that lies inside the image, (H, W) uint8; ignore_index where there is no label.

        Raises:
            UserError: The part can't be decoded, or holds a value that is no class.
        """
        path, header, rule = scene.pair.label, scene.label, self.rule
        band = next(i for i in range(1, header.count + 1) if i not in header.alpha)
        try:
            with rasterio.Env(**GDAL_OPTIONS):
                src = self._dataset(path, header)
                values = src.read(band, window=part)
                unlabelled = None
                if header.alpha or MaskFlags.per_dataset in src.mask_flag_enums[band - 1]:
                    unlabelled = src.read_masks(band, window=part) == 0
        except RasterioError as error:
            raise UserError(f"{path}: {_place(part)} can't be read: {first_line(error)}") from None
        label = map_labels(values, rule, rule.nodata_of(header))
        if unlabelled is not None:
            label[unlabelled] = rule.ignore_index
        unknown = label == rule.unknown
        if unknown.any():
            r, c = np.argwhere(unknown)[0]
            raise UserError(
                f"{path}: label value {values[r, c]} at row {part.row_off + r}, column {part.col_off + c} is no class "
                f"(allowed: {rule.allowed()}; translate others with data_module.label_map)"
            )
        return label


def map_labels(values: NDArray[Any], rule: LabelRule, nodata: int | None) -> NDArray[np.uint8]:
    """Class indices of label values of any real type, same shape, uint8; `rule.unknown` where there is none."""
    if values.dtype == np.uint8:
        label: NDArray[np.uint8] = cv2.LUT(np.ascontiguousarray(values), rule.table(nodata)).reshape(values.shape)
        return label
    if values.dtype == np.bool_:
        return map_labels(values.astype(np.uint8), rule, nodata)
    label = np.full(values.shape, rule.unknown, np.uint8)
    known = {v: v for v in (*range(rule.classes), rule.ignore_index)} | dict(rule.label_map)
    if nodata is not None:
        known[nodata] = rule.ignore_index
    for source, target in known.items():
        label[values == source] = target
    if values.dtype.kind == "f":
        label[np.isnan(values)] = rule.ignore_index
    return label


def _equals(band: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None:
        return np.zeros(band.shape, np.bool_)
    if np.isnan(nodata):
        nan: NDArray[np.bool_] = np.isnan(band)
        return nan
    # GDAL keeps nodata as a double; in a float32 file -3.4e38 must be found again.
    equal: NDArray[np.bool_] = band == (np.float32(nodata) if band.dtype == np.float32 else nodata)
    return equal


def _place(part: Window) -> str:
    return f"window at row {part.row_off}, column {part.col_off}, {part.width}x{part.height} pixels,"

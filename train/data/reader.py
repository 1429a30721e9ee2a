"""Windows of images and labels, read from GeoTIFFs.

A window is read when it is needed, and of a file no more than the window. A process keeps its own open files, opened
when first needed: a GDAL handle survives neither a fork nor pickling.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.errors import UserError, first_line
from inference.common.raster import WINDOW_CACHE, Header, environment, open_image
from inference.common.remote import GDAL_ERRORS, read_again
from inference.common.validity import fill, invalid_pixels, read_masked
from train.data.labels import LabelRule, map_labels
from train.data.pairs import Scene

OPEN_FILES = 64
# Decoded blocks are kept: windows overlap, and a small mosaic is then decoded once.
_BLOCK_CACHE = 512 * 2**20
_WORTH_A_THREAD = 128 * 128
# So few bands of bytes are interleaved by OpenCV in a third of the time that GDAL takes to write them with gaps.
_INTERLEAVED = 4
_Read = TypeVar("_Read")


class Reader:
    """Reader of windows of scenes; may be passed to another process, which opens its own files.

    Args:
        rule: Mapping of label values to classes.
        fill_value: Value of invalid pixels, in units of the file.
        threads: Threads that GDAL decodes the blocks of a window with.
        processes: Processes that read at the same time. They share 512 MiB for decoded blocks, but have at least 64 MiB
            each.
    """

    def __init__(self, rule: LabelRule, fill_value: float = 0.0, threads: int = 1, processes: int = 1) -> None:
        self.rule = rule
        self.fill_value = fill_value
        self.threads = threads
        self._cache = max(WINDOW_CACHE, _BLOCK_CACHE // max(1, processes))
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._inherited: OrderedDict[str, Any] | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict(), "_inherited": None}

    def _dataset(self, header: Header) -> Any:
        path = header.path
        if self._process != os.getpid():
            # Forked: these handles share their file positions with the parent's. They are dropped unclosed.
            self._inherited = self._open
            self._open, self._process = OrderedDict(), os.getpid()
        dataset = self._open.pop(path, None)
        if dataset is None:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            # Strips of a few lines are decoded faster than they are handed to another thread.
            large = header.block[0] * header.block[1] >= _WORTH_A_THREAD
            dataset = open_image(header, self.threads if large else 1)
        self._open[path] = dataset
        return dataset

    def _read(self, header: Header, function: Callable[[Any], _Read]) -> _Read:
        """Call a function with the open dataset of a file; a remote file is opened anew where that fails.

        Raises:
            GDAL_ERRORS: The file can't be opened or decoded.
        """

        def attempt(again: bool) -> _Read:
            with environment(self._cache, header, again):
                if again and header.path in self._open:
                    self._open.pop(header.path).close()
                return function(self._dataset(header))

        return read_again(header.path, attempt)

    def close(self) -> None:
        """Close this process's files."""
        if self._process == os.getpid():
            for dataset in self._open.values():
                dataset.close()
            self._open.clear()

    def window(
        self, scene: Scene, bands: Sequence[int], row: int, col: int, size: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Read a square window, which may reach beyond the scene on every side.

        Beyond the edge of a block nothing is read, so that a block is the same as a file with its pixels.

        Args:
            scene: Image and label.
            bands: Bands to read, counted from 1.
            row: First row of the window in the scene; may be negative.
            col: First column; may be negative.
            size: Side of the window, pixels.

        Returns:
            Image (size, size, bands), uint8 if the file is uint8, else float32: `fill_value` where invalid, a
            reflection beyond the edge. Label (size, size) uint8: class indices, ignore_index where the image is
            invalid, beyond the edge, or unlabelled. Invalid (size, size) bool; None if all pixels are valid.

        Raises:
            UserError: Pixels can't be decoded, or a label value is no class.
        """
        top, bottom, above, below = _span(row, size, scene.height)
        left, right, before, after = _span(col, size, scene.width)
        image, invalid = self.image(scene, bands, Window(left, top, right - left, bottom - top))
        label = self.label(scene, Window(col + before, row + above, size - before - after, size - above - below))
        if invalid is not None:
            fill(image.transpose(2, 0, 1), invalid, self.fill_value)
        sides = (above, below, before, after)
        if any(sides):
            corner = (row + above - top, col + before - left)
            image = _reflect(image, sides, corner, size)
            # The reflection of an invalid pixel is invalid too.
            invalid = None if invalid is None else _reflect(invalid.view(np.uint8), sides, corner, size)[..., 0] != 0
            label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=self.rule.ignore_index)
        if invalid is not None:
            np.copyto(label, self.rule.ignore_index, where=invalid)
        return image, label, invalid

    def image(self, scene: Scene, bands: Sequence[int], part: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read a part of the image that lies inside the scene, in rows and columns of the scene.

        Returns:
            Image (H, W, bands), uint8 if the file is uint8, else float32; invalid pixels unchanged. Invalid (H, W)
            bool, see `inference.common.validity`; None if all pixels are valid.

        Raises:
            UserError: The part can't be decoded.
        """
        header, part = scene.image, _in_file(part, scene)
        shape = len(bands), int(part.height), int(part.width)
        interleave = header.dtype == "uint8" and 1 < len(bands) <= _INTERLEAVED
        if interleave:
            pixels: NDArray[Any] = np.empty(shape, np.uint8)
        else:
            # GDAL converts each value and writes it to its place, so that nothing is copied.
            dtype = np.uint8 if header.dtype == "uint8" else np.float32
            pixels = np.empty((*shape[1:], shape[0]), dtype).transpose(2, 0, 1)

        def read(src: Any) -> NDArray[np.bool_] | None:
            src.read(list(bands), window=part, out=pixels)
            return read_masked(src, header, bands, part)

        try:
            masked: NDArray[np.bool_] | None = self._read(header, read)
        except GDAL_ERRORS as error:
            raise _undecodable(header.path, part, error) from None
        invalid = invalid_pixels(pixels, header.dtype, header.nodata[bands[0] - 1], masked)
        # Pixel-interleaved, as augmentation and channels-last networks need it.
        return cv2.merge(list(pixels)) if interleave else pixels.transpose(1, 2, 0), invalid

    def label(self, scene: Scene, part: Window) -> NDArray[np.uint8]:
        """Read class indices of a part that lies inside the scene, (H, W) uint8; ignore_index where there is no label.

        Raises:
            UserError: The part can't be decoded, or holds a value that is no class.
        """
        header, rule, part = scene.label, self.rule, _in_file(part, scene)
        band = next(i for i in range(1, header.count + 1) if i not in header.alpha)
        try:
            values, unlabelled = self._read(
                header, lambda src: (src.read(band, window=part), read_masked(src, header, (band,), part))
            )
        except GDAL_ERRORS as error:
            raise _undecodable(header.path, part, error) from None
        label, unknown = map_labels(values, rule, rule.nodata_of(header))
        if unlabelled is not None:
            np.copyto(label, rule.ignore_index, where=unlabelled)
        if unknown is None:
            return label
        unknown = unknown if unlabelled is None else unknown & ~unlabelled
        if unknown.any():
            r, c = np.argwhere(unknown)[0]
            raise UserError(
                f"{header.path}: label value {values[r, c]!s} at row {part.row_off + r}, column {part.col_off + c} is "
                f"no class (allowed: {rule.allowed()}; translate others with data_module.label_map)"
            )
        return label


def _in_file(part: Window, scene: Scene) -> Window:
    """Return a part of a scene as rows and columns of its files."""
    if scene.block is None:
        return part
    return Window(part.col_off + scene.col, part.row_off + scene.row, part.width, part.height)


def _span(first: int, size: int, length: int) -> tuple[int, int, int, int]:
    """Return the part of an image that a window needs along one axis.

    Returns:
        First pixel to read and the pixel after the last, including those that the reflection shows; number of pixels of
        the window that lie before the image, and after it.
    """
    before, after = max(0, -first), max(0, first + size - length)
    return max(0, min(first, length - 1 - after)), min(length, max(first + size, before + 1)), before, after


def _reflect(part: NDArray[Any], sides: tuple[int, int, int, int], corner: tuple[int, int], size: int) -> NDArray[Any]:
    """Extend a part of an image by its reflection, and cut the (size, size, bands) window at `corner` out of it.

    Beyond both ends the whole image is extended, so that its reflection is reflected in turn.
    """
    around = cv2.copyMakeBorder(part, *sides, cv2.BORDER_REFLECT_101)
    row, col = corner
    return np.ascontiguousarray(around[row : row + size, col : col + size]).reshape(size, size, -1)


def _undecodable(path: str, part: Window, error: Exception) -> UserError:
    where = f"row {part.row_off}, column {part.col_off}, {part.width}x{part.height} pixels"
    return UserError(
        f"{path}: can't be read from {where}: {first_line(error)} (the file is damaged or cut short: write it again)"
    )

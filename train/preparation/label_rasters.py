"""Label rasters on any grid and in any CRS, as rows of class indices on the grid of an image."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from inference.common.errors import UserError, first_line
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster, read_header
from inference.common.text import limited
from inference.common.validity import read_masked
from train.data.prepared import IGNORED

_SAME = 1e-6
"""Difference of two grids, pixels, up to which they are the same."""


class LabelRaster:
    """Label raster, read in rows of an image; a context manager.

    Values are taken from the nearest pixel, so that no class is invented between two others.

    Args:
        path: Label raster.
        image: Header of the image.
        values: Class of each value, or IGNORED; empty if the values are the class indices.
        classes: Number of classes.
        others: Class of all values that have none, or IGNORED; None if there must be no such values.

    Attributes:
        warped: True if the raster lies on another grid than the image.

    Raises:
        UserError: The raster can't be read or placed on the image.
    """

    def __init__(
        self, path: Path | str, image: Header, values: Mapping[int, int], classes: int, others: int | None = None
    ) -> None:
        self.path, self._image, self._values, self._classes = path, image, values, classes
        self._others = others
        self._header = read_header(path, "a label raster", "replace it, or take the image out")
        bands = [band for band in range(1, self._header.count + 1) if band not in self._header.alpha]
        if len(bands) != 1:
            raise UserError(
                f"{path}: has {self._header.count} bands (a label raster has one, the class of each pixel; "
                "polygons come in a vector file)"
            )
        if np.dtype(self._header.dtype).kind == "f":
            raise UserError(f"{path}: is {self._header.dtype} (the classes of a label raster are whole numbers)")
        self._band = bands[0]
        self.warped = not _same_grid(self._header, image)
        self._unknown: dict[int, int] = {}
        self._file: Any = None

    def __enter__(self) -> "LabelRaster":
        self._source = open_raster(self.path)
        self._file = self._source
        if self.warped:
            self._file = WarpedVRT(
                self._source,
                crs=self._image.crs,
                transform=self._image.transform,
                width=self._image.width,
                height=self._image.height,
                resampling=Resampling.nearest,
                add_alpha=not self._header.alpha and self._header.nodata[self._band - 1] is None,
                tolerance=1e-3,  # pixels; a coarser approximation picks neighbours
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not self._source:
            self._file.close()
        self._source.close()

    def rows(self, row: int, count: int) -> NDArray[np.uint8]:
        """Return the labels of some rows of the image, (count, width) uint8; IGNORED where there is no label.

        Raises:
            UserError: They can't be decoded.
        """
        window = Window(0, row, self._image.width, count)
        try:
            with environment():
                values = self._file.read(self._band, window=window)
                if self.warped:
                    labelled = self._file.read_masks(self._band, window=window) > 0
                else:
                    masked = read_masked(self._file, self._header, (self._band,), window)
                    labelled = np.ones(values.shape, np.bool_) if masked is None else ~masked
        except GDAL_ERRORS as error:
            raise UserError(
                f"{self.path}: can't be read: {first_line(error)} (the file is damaged or cut short: write it again)"
            ) from None
        nodata = self._header.nodata[self._band - 1]
        known = self._classes_of_values(nodata)
        others = -1 if self._others is None else self._others
        found, inverse, counts = np.unique(values[labelled], return_inverse=True, return_counts=True)
        classes = np.array([known.get(int(value), others) for value in found], np.int64)
        for value, number in zip(found[classes < 0].tolist(), counts[classes < 0].tolist(), strict=True):
            self._unknown[int(value)] = self._unknown.get(int(value), 0) + int(number)
        labels = np.full(values.shape, IGNORED, np.uint8)
        labels[labelled] = np.where(classes < 0, IGNORED, classes)[inverse].astype(np.uint8)
        return labels

    def _classes_of_values(self, nodata: float | None) -> dict[int, int]:
        """Return the class of each value that the raster may hold."""
        known = dict(self._values) if self._values else {value: value for value in range(self._classes)}
        known.setdefault(IGNORED, IGNORED)
        if nodata is not None and nodata == nodata and float(nodata).is_integer():
            # As in training, a nodata value that is a class stays that class.
            known.setdefault(int(nodata), IGNORED)
        return known

    def check(self) -> None:
        """Check the values that were read so far; call it after the last row.

        Raises:
            UserError: Values have no class; all are listed, with their counts.
        """
        if not self._unknown:
            return
        listed = sorted(self._unknown.items(), key=lambda item: -item[1])
        found = limited((f"{value} ({count:,} pixels)" for value, count in listed), 20, len(listed))
        allowed = ", ".join(map(str, self._values)) if self._values else f"0 to {self._classes - 1}, {IGNORED}"
        raise UserError(
            f"{self.path}: has label values without a class: {', '.join(found)} (allowed: {allowed}; name the others "
            "in classes.map, such as 2: ignore)"
        )


def _same_grid(label: Header, image: Header) -> bool:
    """Return True if a label lies on the grid of its image.

    Raises:
        UserError: It doesn't, and can't be placed there.
    """
    same_size = (label.height, label.width) == (image.height, image.width)
    if not label.georeferenced or not image.georeferenced:
        if same_size:
            return True
        without = label.path if not label.georeferenced else image.path
        raise UserError(
            f"{label.path}: is {label.width}x{label.height} pixels, its image {image.width}x{image.height}, and "
            f"{without} isn't georeferenced, so that the label can't be placed on the image (give both their CRS and "
            "transform, or a label with a pixel for each of the image's)"
        )
    if not same_size or label.crs != image.crs:
        return False
    corners = [(col, row) for col in (0, image.width) for row in (0, image.height)]
    moved = [~image.transform @ (label.transform @ corner) for corner in corners]
    return bool(np.abs(np.subtract(moved, corners)).max() < _SAME)

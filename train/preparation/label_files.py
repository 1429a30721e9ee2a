"""Files of class indices on the grid of an image, written row of blocks by row of blocks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.errors import UserError, first_line
from inference.common.files import write_atomically
from inference.common.palette import OVERLAY_COLOURS, class_colours, red_green_blue
from inference.common.progress import Progress
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster
from train.data.prepared import IGNORED

BLOCK = 512
"""Side of the blocks of a file, pixels."""


@dataclass(frozen=True)
class LabelCounts:
    """Pixels of a label file.

    Attributes:
        classes: Pixels of each class, (classes,).
        unlabelled: Pixels without a label.
    """

    classes: NDArray[np.int64]
    unlabelled: int


def write_labels(
    target: Path,
    image: Header,
    rows: Callable[[int, int], NDArray[np.uint8]],
    names: Sequence[str],
    finish: Callable[[], None],
) -> LabelCounts:
    """Write class indices on the grid of an image as a tiled, compressed GeoTIFF; the file is whole or absent.

    Blocks without a label take no room.

    Args:
        target: File to write.
        image: Header of the image.
        rows: Returns the labels of some rows, (count, width) uint8, from the first row and the number of rows.
        names: Names of the classes.
        finish: Called after the last row; if it raises, nothing is written.

    Raises:
        UserError: The file can't be written.
    """
    totals = np.zeros(256, np.int64)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": image.height,
        "width": image.width,
        "count": 1,
        "dtype": "uint8",
        "nodata": IGNORED,
        "crs": image.crs,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "sparse_ok": True,
        "bigtiff": "if_safer",
    }
    if not image.transform.is_identity:
        profile["transform"] = image.transform

    def write(temporary: Path) -> None:
        temporary.unlink(missing_ok=True)  # GDAL would try to open a file that a killed process left
        with environment(), open_raster(temporary, "w", **profile) as file:
            file.update_tags(CLASS_NAMES=json.dumps(dict(enumerate(names)), ensure_ascii=False))
            file.write_colormap(1, _colours(len(names)))
            with Progress(image.height, f"labels of {Path(image.path).name}", "rows") as bar:
                for row in range(0, image.height, BLOCK):
                    count = min(BLOCK, image.height - row)
                    labels = rows(row, count)
                    for part in labels:  # NumPy counts in a copy of 64 bits a pixel
                        totals[:] += np.bincount(part, minlength=256)
                    file.write(labels, 1, window=Window(0, row, image.width, count))
                    bar.show(row + count)
            finish()

    try:
        write_atomically(target, write)
    except GDAL_ERRORS as error:
        raise UserError(f"{target}: can't be written: {first_line(error)} (is the disk full?)") from None
    return LabelCounts(totals[: len(names)], int(totals[IGNORED]))


def _colours(classes: int) -> dict[int, tuple[int, int, int, int]]:
    """Return the colour of each value; background is black, and what has no label is transparent."""
    colours = class_colours(classes, 0, OVERLAY_COLOURS)
    table = {value: (*red_green_blue(colours.get(value, "#000000")), 255) for value in range(classes)}
    return table | {IGNORED: (0, 0, 0, 0)}

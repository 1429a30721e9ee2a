"""Counts of the pixels of rectangles of an image: of each class, without a label, and invalid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from inference.common.progress import Progress
from inference.common.raster import Header, read_header
from train.data.labels import LabelRule
from train.data.pairs import Pair, Scene
from train.data.prepared import IGNORED
from train.data.reader import Reader
from train.preparation.cells import Rectangle

READERS = 8
"""Readers that would share the cache of decoded blocks: each has 64 MiB."""
PART = 1024
"""Side of the parts in which rectangles are read, pixels."""


def label_rule(classes: int) -> LabelRule:
    """Return the rule of the label files of a prepared data set."""
    return LabelRule(classes, IGNORED)


def count_pixels(
    image: Header, labels: Path, classes: int, rectangles: Sequence[Rectangle], threads: int = 1
) -> NDArray[np.int64]:
    """Count the pixels of rectangles of an image.

    Args:
        image: Header of the image.
        labels: Its label file.
        classes: Number of classes.
        rectangles: Rectangles inside the image.
        threads: Threads that GDAL decodes with.

    Returns:
        (n, classes + 2) int64: valid pixels of each class, valid pixels without a label, invalid pixels.

    Raises:
        UserError: A file can't be decoded.
    """
    scene = Scene(Pair(Path(image.path), labels), image, read_header(labels))
    # Each part is read once, so that a large cache of decoded blocks, as training has, would be of no use.
    reader = Reader(label_rule(classes), threads=threads, processes=READERS)
    bands = [band for band in range(1, image.count + 1) if band not in image.alpha]
    counts = np.zeros((len(rectangles), classes + 2), np.int64)
    try:
        with Progress(len(rectangles), f"blocks of {Path(image.path).name}", "blocks") as bar:
            for number, (top, bottom, left, right) in enumerate(rectangles):
                for row in range(top, bottom, PART):
                    for col in range(left, right, PART):
                        part = Window(col, row, min(PART, right - col), min(PART, bottom - row))
                        counts[number] += _of_part(reader, scene, bands, part, classes)
                bar.show(number + 1)
    finally:
        reader.close()
    return counts


def may_be_invalid(image: Header) -> bool:
    """Return True if an image may have invalid pixels; else only its labels need to be read."""
    return (
        any(value is not None for value in image.nodata)
        or bool(image.alpha)
        or image.masked
        or np.dtype(image.dtype).kind not in "iu"
    )


def _of_part(reader: Reader, scene: Scene, bands: Sequence[int], part: Window, classes: int) -> NDArray[np.int64]:
    labels = reader.label(scene, part)
    invalid = reader.image(scene, bands, part)[1] if may_be_invalid(scene.image) else None
    valid = labels.ravel() if invalid is None else labels[~invalid]
    found = np.bincount(valid, minlength=256)
    return np.array([*found[:classes], found[IGNORED], labels.size - len(valid)], np.int64)

"""Range of a mosaic's valid pixels, for networks that were trained on images scaled to 0..1 by their own range.

Scaling each tile by its own range, as habitat-mapper does, gives the same pixel different values in neighbouring tiles,
which shows as seams. Here the whole mosaic is scaled by one range, for which its pixels are read once more.
"""

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.progress import Progress
from inference.tiles.strips import Source


def value_range(source: Source, shown: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read a mosaic and return the smallest and the largest value of each band over its valid pixels.

    Args:
        source: The mosaic.
        shown: True to show progress.

    Returns:
        Two arrays of shape (bands,), in units of the file; 0 and 1 where no pixel is valid.

    Raises:
        UserError: The mosaic can't be read, or holds infinite values.
    """
    lowest, highest = np.full(len(source.bands), np.inf), np.full(len(source.bands), -np.inf)
    with Progress(source.header.height, "measuring the range of values", "rows", shown) as bar:
        for strip in source.strips():
            pixels = strip.pixels.reshape(len(source.bands), -1)
            if strip.invalid is not None:
                pixels = pixels[:, ~strip.invalid.ravel()]
            if pixels.size:
                np.minimum(lowest, pixels.min(axis=1), out=lowest)
                np.maximum(highest, pixels.max(axis=1), out=highest)
            bar.show(strip.stop)
    if (lowest > highest).all():
        return np.zeros_like(lowest), np.ones_like(highest)
    if not (np.isfinite(lowest) & np.isfinite(highest)).all():
        raise UserError(
            f"{source.header.path}: holds infinite values, so its pixels have no range to be scaled by (declare them "
            "invalid: replace them by NaN)"
        )
    return lowest, highest

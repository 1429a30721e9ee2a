"""Memory that mapping needs at least, estimated before any of it is taken."""

import numpy as np

from inference.common.memory import check_memory
from inference.common.raster import Header
from inference.tiles.strips import STRIP

_FLOAT = 4  # bytes


def check_mapping_memory(
    header: Header, *, bands: int, channels: int, tile: int, batch: int, height: int, width: int
) -> None:
    """Check that the arrays of a map fit into the free memory; the network's own memory comes on top.

    Memory grows with the width of the grid that the network reads and with the side of a tile, not with the height.

    Args:
        header: Header of the mosaic.
        bands: Bands that the network reads.
        channels: Channels of a prediction.
        tile: Side of a tile, pixels.
        batch: Tiles in a batch.
        height: Height of the network's grid, pixels.
        width: Width of the network's grid, pixels.

    Raises:
        UserError: They don't.
    """
    resampled = (height, width) != (header.height, header.width)
    pixel = _FLOAT if resampled else min(_FLOAT, np.dtype(header.dtype).itemsize)
    batch = min(batch, max(1, 2 * width // tile))
    # One batch is predicted while the next one is read.
    tiles = 2 * batch * bands * tile**2 * _FLOAT + batch * channels * tile**2 * _FLOAT
    rows = min(tile, height) * width * (bands * pixel + channels * _FLOAT)
    strip = min(STRIP, header.height)
    strips = strip * header.width * bands * pixel
    enlarged = 0.0
    if resampled:  # a strip of the mosaic on the network's grid, with its coverage, while it is divided by it
        enlarged = 2 * strip * max(1, height // header.height) * width * (bands + 1) * _FLOAT
    if enlarged > tiles + rows:
        times = f"{height / header.height:.3g} times"
        fix = f"leave --resample out: the model's pixels are {times} smaller; or use a model of coarser pixels"
    else:
        fix = f"choose a smaller --tile-size; it is {tile:,}"
        if batch > 1:
            fix += f", or a smaller --batch-size; it is {batch:,}"
    check_memory(tiles + rows + strips + enlarged, f"{header.path}: mapping", fix)

"""Checks of what goes into a network and what comes out of it, with the same messages for every back end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError, first_line
from inference.common.text import quoted
from inference.model.signature import RAW_TYPES, Signature

if TYPE_CHECKING:
    from inference.model.backends import Request


def check_signature(signature: Signature, request: "Request") -> None:
    """Check that a network takes the requested tiles."""
    path = request.path
    if signature.bands is not None and signature.bands != request.bands:
        raise UserError(
            f"{path}: takes {signature.bands} bands, but its card names {request.bands} (is it another model's card?)"
        )
    if signature.tile is not None and signature.tile != request.tile:
        raise UserError(
            f"{path}: takes tiles of {signature.tile} pixels only, not of {request.tile} (leave out --tile-size if you "
            f"gave it; the card must say tile_size: {signature.tile}; or export the network with any_size: true, "
            "convert_checkpoint.py --dynamic)"
        )
    if signature.dtype in RAW_TYPES and signature.dtype != request.raw:
        raise UserError(
            f"{path}: takes raw pixels of type {signature.dtype} and normalises them itself, but its card normalises "
            f"them, too, or the mosaic isn't {signature.dtype} (allowed in the card: dtype: {signature.dtype}, mean: "
            "all 0, std: all 1, max_pixel_value: 1)"
        )
    if signature.batch is not None and signature.batch < request.batch:
        raise UserError(
            f"--batch-size {request.batch}: {path.name} takes {signature.batch} tiles at a time (use --batch-size "
            f"{signature.batch})"
        )


def wrong_tile_size(request: "Request") -> UserError:
    """Return the error for a model that is correct at its own tile size only."""
    return UserError(
        f"--tile-size {request.tile}: {request.path.name} was exported for tiles of {request.own_tile} pixels, and its "
        "card says any_size: false (leave out --tile-size; or, if the network takes any size, say any_size: true in a "
        "card given with --card)"
    )


def as_input(pixels: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Return tiles in the type of a network's input; resampled pixels are rounded for an integer type."""
    if dtype == "float32":
        return pixels
    if dtype not in RAW_TYPES:
        return pixels.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(pixels), limits.min, limits.max).astype(dtype)


def as_output(path: Path, name: str, output: Any, count: int) -> NDArray[Any]:
    """Check that a network's output is an array with a row for each tile, and return it."""
    if isinstance(output, np.ndarray) and output.ndim >= 3 and len(output) == count:
        return output
    what = f"shape {output.shape}" if isinstance(output, np.ndarray) else f"type {type(output).__name__}"
    raise UserError(
        f"{path}: its output{f' {quoted(name)}' if name else ''} has {what} for {count} tiles, so it is no map "
        f"(allowed: {count}, classes, rows, columns; name another output of an ONNX model in the card as output_name)"
    )


def failed(path: Path, shape: tuple[int, ...], error: Exception) -> UserError:
    """Return the error for a network that failed on a batch."""
    # A TorchScript error begins with its own traceback; the message is the last line.
    what = str(error).strip().splitlines()[-1] if "TorchScript interpreter" in str(error) else first_line(error)
    return UserError(
        f"{path}: the model failed on tiles of shape {tuple(shape)}: {what} (it may need another --tile-size, or more "
        "memory: try a smaller --batch-size)"
    )

"""Shapes and types of an ONNX model's input and output."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.common.errors import UserError, first_line


@dataclass(frozen=True)
class Signature:
    """Sizes of an ONNX model's input and output; None where the model leaves a size open.

    Attributes:
        batch: Number of tiles in a batch.
        bands: Channels of the input.
        tile: Side of a tile, pixels.
        channels: Channels of the output; None also where the output has no channels.
        class_indices: Whether the output holds integers, which are class indices and not probabilities.
    """

    batch: int | None
    bands: int | None
    tile: int | None
    channels: int | None
    class_indices: bool = False


def read_signature(path: Path) -> Signature:
    """Read the signature of an ONNX file, without optimising the model for running.

    Raises:
        UserError: The file can't be read, or its input isn't a batch of square images.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return session_signature(path, load_session(path, options, ["CPUExecutionProvider"]))


def load_session(path: Path, options: Any, providers: list[Any]) -> Any:
    """Load an ONNX file.

    Args:
        path: Path of the model.
        options: `onnxruntime.SessionOptions`.
        providers: Execution providers, in order of preference.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        UserError: The file can't be loaded.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise UserError(f"{path}: can't be loaded by ONNX Runtime ({first_line(error)})") from None


def session_signature(path: Path, session: Any) -> Signature:
    """Return the signature of a loaded model.

    Args:
        path: Path of the model, for error messages.
        session: An `onnxruntime.InferenceSession`.

    Raises:
        UserError: The input isn't a batch of square images.
    """
    shape, out = session.get_inputs()[0].shape, session.get_outputs()[0].shape
    if len(shape) != 4:
        raise UserError(f"{path}: takes an input of shape {shape} (allowed: batch, bands, rows, columns)")
    batch, bands, rows, cols = (size if isinstance(size, int) and size > 0 else None for size in shape)
    if rows is not None and cols is not None and rows != cols:
        raise UserError(f"{path}: takes tiles of {rows}x{cols} pixels (allowed: square tiles)")
    channels = out[1] if len(out) == 4 and isinstance(out[1], int) and out[1] > 0 else None
    class_indices = "int" in session.get_outputs()[0].type
    return Signature(batch, bands, rows if rows is not None else cols, channels, class_indices)

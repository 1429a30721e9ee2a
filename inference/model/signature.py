"""Names, shapes and types of an ONNX model's input and output."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from inference.common.documents import check_regular_file
from inference.common.errors import UserError, first_line
from inference.common.text import quoted

RAW_TYPES = ("uint8", "uint16", "int16")
"""Integer types of an input that takes raw pixels; the model normalises them itself."""
_INPUT_TYPES = {"float": "float32", "float16": "float16", "double": "float64"} | {name: name for name in RAW_TYPES}
_Read = TypeVar("_Read")
_MOST_BANDS = 16  # more channels in the last place are taken for columns


@dataclass(frozen=True)
class Signature:
    """Names, types and sizes of an ONNX model's input and output; None where the model leaves a size open.

    Attributes:
        batch: Number of tiles in a batch.
        bands: Channels of the input.
        tile: Side of a tile, pixels.
        channels: Channels of the output; None also where the output has no channels.
        class_indices: Whether the output holds integers, which are class indices and not probabilities.
        input: Name of the input.
        dtype: NumPy's name of the input's type.
        output: Name of the output that is the map.
    """

    batch: int | None
    bands: int | None
    tile: int | None
    channels: int | None
    class_indices: bool = False
    input: str = ""
    dtype: str = "float32"
    output: str = ""


def read_signature(path: Path, output_name: str | None = None) -> Signature:
    """Read the signature of an ONNX file, without optimising the model for running.

    Args:
        path: Path of the model.
        output_name: Output that is the map; None for the first one.

    Raises:
        UserError: The file can't be read, its input isn't one batch of square images, or its output is no map.
    """
    return session_signature(path, _inspected(path), output_name)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of an ONNX file.

    Raises:
        UserError: The file can't be read.
    """
    found = _inspected(path).metadata
    if isinstance(found, UnicodeDecodeError):
        raise UserError(f"{path}: its metadata can't be read: {first_line(found)} (export it again)")
    return found


@dataclass(frozen=True)
class _Value:
    """Input or output of a network."""

    name: str
    type: str
    shape: list[Any]


@dataclass(frozen=True)
class _Inspection:
    """Facts about an ONNX file, without the weights; an error in place of what can't be read."""

    metadata: dict[str, str] | UnicodeDecodeError
    inputs: list[_Value] | UnicodeDecodeError
    outputs: list[_Value] | UnicodeDecodeError

    def get_inputs(self) -> list[_Value]:
        """Return the inputs, as an `onnxruntime.InferenceSession` does."""
        return _or_raise(self.inputs)

    def get_outputs(self) -> list[_Value]:
        """Return the outputs, as an `onnxruntime.InferenceSession` does."""
        return _or_raise(self.outputs)


def _inspected(path: Path) -> _Inspection:
    """Inspect an ONNX file, or return what was found before: for a map its card is read, then its signature."""
    check_regular_file(path)
    found = path.stat()
    return _inspect(path, (found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=8)
def _inspect(path: Path, identity: tuple[int, ...]) -> _Inspection:
    session = inspection_session(path)

    def values(read: Callable[[], list[Any]]) -> list[_Value]:
        return [_Value(each.name, each.type, each.shape) for each in read()]

    return _Inspection(
        _or_error(lambda: dict(session.get_modelmeta().custom_metadata_map)),
        _or_error(lambda: values(session.get_inputs)),
        _or_error(lambda: values(session.get_outputs)),
    )


def _or_error(read: Callable[[], _Read]) -> _Read | UnicodeDecodeError:
    try:
        return read()
    except UnicodeDecodeError as error:
        return error


def _or_raise(found: _Read | UnicodeDecodeError) -> _Read:
    if isinstance(found, UnicodeDecodeError):
        raise found
    return found


def inspection_session(path: Path) -> Any:
    """Load an ONNX file for inspection: fast, as nothing is optimised."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return load_session(path, options, ["CPUExecutionProvider"])


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

    check_regular_file(path)
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise UserError(f"{path}: can't be read as an ONNX model ({first_line(error)})") from None


def session_signature(path: Path, session: Any, output_name: str | None = None) -> Signature:
    """Return the signature of a loaded model.

    Args:
        path: Path of the model, for error messages.
        session: An `onnxruntime.InferenceSession`.
        output_name: Output that is the map; None for the first one.

    Raises:
        UserError: The input isn't one batch of square images, bands first, or the output is no map.
    """
    try:
        return _signature(path, session, output_name)
    except UnicodeDecodeError as error:  # ONNX Runtime hands over names as they lie in the file
        raise UserError(f"{path}: a name in it can't be read: {first_line(error)} (the file is damaged)") from None


def _signature(path: Path, session: Any, output_name: str | None) -> Signature:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(quoted(one.name) for one in inputs[:5])
        raise UserError(
            f"{path}: takes {len(inputs)} inputs{f' ({names})' if inputs else ''} (allowed: one, a batch of images; "
            "export the network with the others as constants)"
        )
    given, shape = inputs[0], inputs[0].shape
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _INPUT_TYPES:
        raise UserError(f"{path}: takes an input of type {kind} (allowed: {', '.join(_INPUT_TYPES)})")
    if len(shape) != 4:
        raise UserError(f"{path}: takes an input of shape {shape} (allowed: batch, bands, rows, columns)")
    batch, bands, rows, cols = (size if isinstance(size, int) and size > 0 else None for size in shape)
    if cols is not None and cols <= _MOST_BANDS and (bands is None or bands > _MOST_BANDS):
        raise UserError(
            f"{path}: takes an input of shape {shape}: batch, rows, columns, bands, NHWC (allowed: batch, bands, rows, "
            "columns, NCHW; put a Transpose in front when exporting)"
        )
    if rows is not None and cols is not None and rows != cols:
        raise UserError(f"{path}: takes tiles of {rows}x{cols} pixels (allowed: square tiles)")
    output = _choose_output(path, session.get_outputs(), output_name)
    channels = None
    if len(output.shape) == 4 and isinstance(output.shape[1], int) and output.shape[1] > 0:
        channels = output.shape[1]
    return Signature(
        batch,
        bands,
        rows if rows is not None else cols,
        channels,
        "int" in output.type,
        input=given.name,
        dtype=_INPUT_TYPES[kind],
        output=output.name,
    )


def _choose_output(path: Path, outputs: list[Any], name: str | None) -> Any:
    """Return the output that is the map; raise `UserError` if it can't be one."""
    names = ", ".join(quoted(one.name) for one in outputs[:8])
    found = next((one for one in outputs if name is None or one.name == name), None)
    if found is None:
        raise UserError(f"{path}: has no output {quoted(name)}, which its card names as output_name (allowed: {names})")
    problem = ""
    if not found.type.startswith("tensor("):
        problem = f"is a {found.type.partition('(')[0].replace('seq', 'sequence')} of tensors"
    elif found.shape and len(found.shape) not in {3, 4}:
        problem = f"has shape {found.shape}"
    if problem:
        other = f"; name another in the card as output_name: {names}" if len(outputs) > 1 else ""
        raise UserError(
            f"{path}: its output {quoted(found.name)} {problem}, so it is no map (allowed: a tensor of batch, classes, "
            f"rows, columns{other})"
        )
    return found

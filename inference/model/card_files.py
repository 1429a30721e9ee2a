"""Reading of model cards from exported models, checkpoints, run folders and JSON files."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.card import EXTRA_FILE, METADATA_KEY, CardError, ModelCard


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model.

    Args:
        path: Exported `.onnx` or `.pt`, checkpoint `.ckpt` (needs PyTorch), `.json`, or run folder.

    Raises:
        CardError: The file doesn't exist, carries no card, or carries an invalid one.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "card.json"
    if not path.is_file():
        raise CardError(f"{path}: no such file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CardError(f"{path}: can't carry a model card (allowed: {', '.join(_READERS)}, or a run folder)")
    text = reader(path)
    if text is None:
        raise CardError(
            f"{path}: carries no model card (it wasn't exported by train/convert_checkpoint.py; write the card to a "
            "JSON file beside it)"
        )
    return ModelCard.loads(text, str(path))


def embedded_card(path: str | Path) -> ModelCard | None:
    """Read the card inside an exported `.onnx` or `.pt`; return None if there is none.

    Raises:
        CardError: The file or its card can't be read.
    """
    text = _READERS[Path(path).suffix.lower()](Path(path))
    return None if text is None else ModelCard.loads(text, str(path))


def _read_json(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: can't be read as JSON ({error})") from None
    if isinstance(data, dict) and "model_filename" in data:
        raise CardError(
            f"{path}: is a habitat-mapper configuration (the model card is inside {data['model_filename']})"
        )
    return text


def _read_onnx(path: Path) -> str | None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise CardError(f"{path}: can't be read as an ONNX model ({str(error).splitlines()[0]})") from None
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return found.get(METADATA_KEY)


def _read_torchscript(path: Path) -> bytes | None:
    """Read the card without PyTorch: the archive is a zip file with extra files in its folder `extra`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.partition("/")[2] == f"extra/{EXTRA_FILE}"]
            return archive.read(names[0]) if names else None
    except (OSError, zipfile.BadZipFile) as error:
        raise CardError(f"{path}: can't be read as a TorchScript archive ({error})") from None


def _read_checkpoint(path: Path) -> str | None:
    try:
        import torch
    except ImportError:
        raise CardError(f"{path}: reading a checkpoint needs PyTorch (pip install torch)") from None
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zip, key or runtime error, depending on the damage
        raise CardError(f"{path}: can't be read as a checkpoint ({str(error).splitlines()[0]})") from None
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    card = parameters.get("card") if isinstance(parameters, dict) else None
    return None if card is None else json.dumps(card)


_READERS: dict[str, Callable[[Path], str | bytes | None]] = {
    ".onnx": _read_onnx,
    ".pt": _read_torchscript,
    ".ckpt": _read_checkpoint,
    ".json": _read_json,
}

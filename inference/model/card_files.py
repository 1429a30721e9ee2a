"""Finding the card in whatever holds one: exported models, checkpoints, run folders, JSON."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.card import EXTRA_FILE, METADATA_KEY, CardError, ModelCard


def read_card(path: str | Path) -> ModelCard:
    """The card that a file or a run folder carries.

    Args:
        path: `.onnx` or `.pt` as exported, `.ckpt` as trained (needs PyTorch), `.json`, or a run folder.

    Raises:
        CardError: There is no such file, it carries no card, or one that can't be read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "card.json"
    if not path.is_file():
        raise CardError(f"{path}: no such file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CardError(f"{path}: is no file that carries a card (allowed: {', '.join(_READERS)}, or a run folder)")
    text = reader(path)
    if text is None:
        raise CardError(
            f"{path}: carries no model card (it wasn't exported by train/convert_checkpoint.py; write one beside it as "
            "JSON)"
        )
    return ModelCard.loads(text, str(path))


def embedded_card(path: str | Path) -> ModelCard | None:
    """The card within an exported `.onnx` or `.pt`; None where there is none.

    Raises:
        CardError: The file can't be read, or its card can't.
    """
    text = _READERS[Path(path).suffix.lower()](Path(path))
    return None if text is None else ModelCard.loads(text, str(path))


def _of_json(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: can't be read as JSON ({error})") from None
    if isinstance(data, dict) and "model_filename" in data:
        raise CardError(f"{path}: is habitat-mapper's configuration; our card is inside {data['model_filename']}")
    return text


def _of_onnx(path: Path) -> str | None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise CardError(f"{path}: is no ONNX model that can be read ({str(error).splitlines()[0]})") from None
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return found.get(METADATA_KEY)


def _of_torchscript(path: Path) -> bytes | None:
    """No PyTorch is needed: the archive is a zip file, extra files lie in its folder `extra`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.partition("/")[2] == f"extra/{EXTRA_FILE}"]
            return archive.read(names[0]) if names else None
    except (OSError, zipfile.BadZipFile) as error:
        raise CardError(f"{path}: is no TorchScript archive, or one that is cut short ({error})") from None


def _of_checkpoint(path: Path) -> str | None:
    try:
        import torch
    except ImportError:
        raise CardError(f"{path}: reading a checkpoint needs PyTorch (pip install torch)") from None
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zip, key and runtime errors, by what is wrong with the file
        raise CardError(f"{path}: is no checkpoint that can be read ({str(error).splitlines()[0]})") from None
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    card = parameters.get("card") if isinstance(parameters, dict) else None
    return None if card is None else json.dumps(card)


_READERS: dict[str, Callable[[Path], str | bytes | None]] = {
    ".onnx": _of_onnx,
    ".pt": _of_torchscript,
    ".ckpt": _of_checkpoint,
    ".json": _of_json,
}

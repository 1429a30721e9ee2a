"""Reading of model cards from exported models, checkpoints, run folders and JSON files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.card import EXTRA_FILE, METADATA_KEY, CardError, ModelCard
from inference.common.documents import check_regular_file, parse_json, read_json, read_zip_entry
from inference.common.errors import UserError
from inference.common.paths import user_path
from inference.common.text import quoted
from inference.common.torch_files import read_torch_file
from inference.model.signature import read_metadata


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model.

    Args:
        path: Exported `.onnx` or `.pt`, checkpoint `.ckpt` (needs PyTorch), `.json`, or run folder.

    Raises:
        CardError: The file doesn't exist, carries no card, or carries an invalid one.
    """
    path = user_path(path, "FILE")
    if path.is_dir():
        path = path / "card.json"
        if not path.exists():
            raise CardError(
                f"{path.parent}: is a folder without a card.json (give a run folder, or a model file in it)"
            )
    try:
        check_regular_file(path)
    except UserError as error:
        raise CardError(str(error)) from None
    if path.suffix.lower() not in _READERS:
        raise CardError(f"{path}: can't carry a model card (allowed: {', '.join(_READERS)}, or a run folder)")
    found = embedded_card(path)
    if found is None:
        raise CardError(
            f"{path}: carries no model card (it wasn't exported by train/convert_checkpoint.py; write the card to a "
            f"JSON file: python -m inference.card --template {path})"
        )
    return found


def embedded_card(path: str | Path) -> ModelCard | None:
    """Read the card inside a file; return None if there is none.

    Raises:
        CardError: The file or its card can't be read.
    """
    path = Path(path)
    try:
        data = _READERS[path.suffix.lower()](path)
    except CardError:
        raise
    except UserError as error:
        raise CardError(str(error)) from None
    return None if data is None else ModelCard.parse(data, str(path))


def is_habitat_mapper_config(data: object) -> bool:
    """Return True for the parsed JSON of a habitat-mapper configuration."""
    return isinstance(data, dict) and "model_filename" in data


def _read_json(path: Path) -> Any:
    data = read_json(path)
    if is_habitat_mapper_config(data):
        raise CardError(
            f"{path}: is a habitat-mapper configuration (the model card is inside {quoted(data['model_filename'])})"
        )
    return data


def _read_onnx(path: Path) -> Any:
    text = read_metadata(path).get(METADATA_KEY)
    return None if text is None else parse_json(text, f"{path}: its model card")


def _read_torchscript(path: Path) -> Any:
    """Read the card without PyTorch: the archive is a zip file with extra files in its folder `extra`."""
    content = read_zip_entry(path, f"extra/{EXTRA_FILE}", "a TorchScript archive")
    return None if content is None else parse_json(content, f"{path}: its model card")


def _read_checkpoint(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise CardError(f"{path}: reading a checkpoint needs PyTorch (pip install torch)") from None
    content = read_torch_file(path, torch, lazy=True)
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    return parameters.get("card") if isinstance(parameters, dict) else None


_READERS: dict[str, Callable[[Path], Any]] = {
    ".onnx": _read_onnx,
    ".pt": _read_torchscript,
    ".ckpt": _read_checkpoint,
    ".json": _read_json,
}

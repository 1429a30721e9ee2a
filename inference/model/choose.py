"""Choice of the model to run, and of its card."""

import json
import re
from pathlib import Path

from inference.card import ModelCard
from inference.common.errors import UserError
from inference.model.card_files import embedded_card

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the converted models."""
_CONVERT = "python train/convert_checkpoint.py ARTIFACT CONFIG.yml --model_name NAME --task TASK"


def choose_model(folder: Path = WEIGHTS, backend: str = "auto") -> Path:
    """Return the only model in a folder; of a model's ONNX and TorchScript files, the one for the back end.

    Args:
        folder: Folder to search.
        backend: Back end that is to run the model: `torchscript` prefers the .pt file, all others the .onnx file.

    Raises:
        UserError: There is no model, or there are several different ones: a mussel model must not map kelp.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".onnx", ".pt"})
    if not found:
        raise UserError(f"--model: found no model in {folder} (convert one with {_CONVERT}, or give a file)")
    models: dict[str, list[Path]] = {}
    for path in found:
        models.setdefault(model_stem(path), []).append(path)
    if len(models) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"--model: found several different models in {folder} (give one of them: {names})")
    first, last = (".pt", ".onnx") if backend == "torchscript" else (".onnx", ".pt")
    return min(found, key=lambda path: (path.suffix.lower() != first, path.suffix.lower() != last, path.name))


def model_stem(path: Path) -> str:
    """Return the name that the files of one model share: NAME_TASK_jit_dice=S.pt and NAME_TASK_dice=S.onnx are one."""
    return re.sub(r"_jit(?=_[^_]*$|$)", "", path.stem)


def card_for(model: Path, given: Path | None, dtype: str) -> ModelCard:
    """Return the card of a model.

    Args:
        model: Path of an .onnx or .pt file.
        given: Path of a JSON file to use in place of the embedded card: a model card or a habitat-mapper configuration.
        dtype: Data type of the mosaic, which a habitat-mapper configuration doesn't state.

    Raises:
        UserError: There is no card, or it is invalid.
    """
    if not model.is_file():
        raise UserError(f"{model}: no such file (--model takes an .onnx or .pt file)")
    card = embedded_card(model) if given is None else _given(model, given, dtype)
    if card is None:
        raise UserError(
            f"{model}: carries no model card, which describes the input it needs (give one with --card FILE.json: a "
            "model card or a habitat-mapper configuration)"
        )
    return card


def _given(model: Path, path: Path, dtype: str) -> ModelCard:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read as JSON ({error})") from None
    if isinstance(data, dict) and "model_filename" in data:
        from inference.model.habitat_mapper_config import card_from_config  # rarely needed

        return card_from_config(data, path, model, dtype)
    return ModelCard.loads(text, str(path))

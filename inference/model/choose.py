"""Which model to run, and its card."""

import json
import re
from pathlib import Path

from inference.card import CardError, ModelCard
from inference.common.errors import UserError
from inference.model.card_files import embedded_card

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Where converted models land."""
_CONVERT = "python train/convert_checkpoint.py ARTIFACT CONFIG.yml --model_name NAME --task TASK"


def choose_model(folder: Path = WEIGHTS, backend: str = "auto") -> Path:
    """The one model in a folder; where it lies there both as ONNX and as TorchScript, the ONNX file.

    Args:
        folder: Where to look.
        backend: What is to run it; TorchScript takes the TorchScript file.

    Raises:
        UserError: There is none, or several different ones: a mussel model must not map kelp.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".onnx", ".pt"})
    if not found:
        raise UserError(f"--model: there is no model in {folder} (convert one with {_CONVERT}, or name a file)")
    models: dict[str, list[Path]] = {}
    for path in found:
        models.setdefault(model_stem(path), []).append(path)
    if len(models) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"--model: there are several different models in {folder} (name one of them: {names})")
    first, last = (".pt", ".onnx") if backend == "torchscript" else (".onnx", ".pt")
    return min(found, key=lambda path: (path.suffix.lower() != first, path.suffix.lower() != last, path.name))


def model_stem(path: Path) -> str:
    """The name that the files of one model share: NAME_TASK_jit_dice=S.pt is the twin of NAME_TASK_dice=S.onnx."""
    return re.sub(r"_jit(?=_[^_]*$|$)", "", path.stem)


def card_for(model: Path, given: Path | None, dtype: str) -> ModelCard:
    """The card of a model.

    Args:
        model: An .onnx or .pt file.
        given: A card's JSON, ours or habitat-mapper's, in place of the one that the model carries.
        dtype: Type of the mosaic; habitat-mapper's configurations don't say which one they are for.

    Raises:
        UserError: There is none, or none that can be read.
    """
    if not model.is_file():
        raise UserError(f"{model}: no such file (--model takes an .onnx or .pt file)")
    try:
        card = embedded_card(model) if given is None else _given(model, given, dtype)
    except CardError as error:
        raise UserError(str(error)) from None
    if card is None:
        raise UserError(
            f"{model}: carries no model card, so how to feed it isn't known (give one with --card FILE.json, ours or "
            "habitat-mapper's)"
        )
    return card


def _given(model: Path, path: Path, dtype: str) -> ModelCard:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read as JSON ({error})") from None
    if isinstance(data, dict) and "model_filename" in data:
        from inference.model.habitat_mapper_config import card_from_config  # seldom needed

        return card_from_config(data, path, model, dtype)
    return ModelCard.loads(text, str(path))

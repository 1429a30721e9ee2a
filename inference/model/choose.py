"""Choice of the model to run, and of its card."""

import re
from pathlib import Path

from inference.card import CardError, ModelCard
from inference.common.documents import check_regular_file, read_json
from inference.common.errors import UserError
from inference.model.card_files import embedded_card, is_habitat_mapper_config
from inference.model.registry import BACKENDS, SUFFIXES

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the converted models."""
_VARIANT = r"_(?:jit|int8)(?=_[^_]*$|$)"
_CONVERT = "python train/convert_checkpoint.py ARTIFACT CONFIG.yml --model_name NAME --task TASK"


def choose_model(folder: Path = WEIGHTS, backend: str = "auto") -> Path:
    """Return the only model in a folder; of a model's ONNX and TorchScript files, the one for the back end.

    A file in int8 is chosen only where no other file of the model runs on the back end.

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
    first = ".pt" if backend == "torchscript" else ".onnx"

    def rank(path: Path) -> tuple[bool, bool, bool, str]:
        runs = backend == "auto" or path.suffix.lower() in BACKENDS[backend].suffixes
        return not runs, "_int8" in _variants(path), path.suffix.lower() != first, path.name

    return min(found, key=rank)


def model_stem(path: Path) -> str:
    """Return the name that the files of one model share: those with _jit or _int8 before _dice=S are the same model."""
    return re.sub(_VARIANT, "", path.stem)


def _variants(path: Path) -> list[str]:
    """Return the parts of a file's name that tell the files of one model apart."""
    return re.findall(_VARIANT, path.stem)


def card_for(model: Path, given: Path | None, dtype: str) -> ModelCard:
    """Return the card of a model.

    Args:
        model: Path of an .onnx or .pt file.
        given: Path of a JSON file to use in place of the embedded card: a model card or a habitat-mapper configuration.
        dtype: Data type of the mosaic, which a habitat-mapper configuration doesn't state.

    Raises:
        UserError: There is no card, or it is invalid.
    """
    check_model_file(model)
    if given is not None:
        return _given(model, given, dtype)
    card = embedded_card(model)
    if card is None:
        raise UserError(
            f"{model}: carries no model card, which describes the input it needs (give one with --card FILE.json: a "
            f"model card or a habitat-mapper configuration; python -m inference.card --template {model} writes one to "
            "fill in)"
        )
    return card


def check_model_file(model: Path) -> None:
    """Check that a model is an ordinary file.

    Raises:
        UserError: It is a folder, a device or a pipe, or it doesn't exist.
    """
    if model.is_dir():
        inside = sorted(path.name for path in model.iterdir() if path.suffix.lower() in SUFFIXES)
        what = f"; it holds {', '.join(inside[:5])}" if inside else ""
        run = (
            "; a run folder is converted first: train/convert_checkpoint.py" if (model / "config.yml").is_file() else ""
        )
        raise UserError(f"{model}: is a folder (--model takes an .onnx or .pt file{what}{run})")
    if not model.exists():
        raise UserError(f"{model}: no such file (--model takes an .onnx or .pt file)")
    check_regular_file(model)


def _given(model: Path, path: Path, dtype: str) -> ModelCard:
    data = read_json(path)
    if is_habitat_mapper_config(data):
        from inference.model.habitat_mapper_config import card_from_config  # rarely needed

        card, key = card_from_config(data, path, model, dtype), "activation"
    else:
        card, key = ModelCard.parse(data, str(path)), "output"
    _check_unit(card, path, model, key)
    return card


def _check_unit(card: ModelCard, path: Path, model: Path, key: str) -> None:
    """Check that a card that is given doesn't contradict the card inside the model about the unit of the output."""
    try:
        inside = embedded_card(model)
    except CardError:  # the given card stands in for a damaged one
        return
    if inside is None or inside.output == card.output or card.output_name != inside.output_name:
        return
    right = "null" if inside.output == "probabilities" else inside.activation
    raise UserError(
        f"{path}: {key}: declares that {model.name} returns {card.output}, but the card inside the model says "
        f"{inside.output} (allowed: {key}: {right if key == 'activation' else inside.output})"
    )

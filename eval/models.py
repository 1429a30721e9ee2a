"""Models to evaluate: exported files, or checkpoints converted to TorchScript.

A checkpoint is traced to TorchScript in a temporary file with its card, and then evaluated like an exported file, so
that every model is evaluated with the code that maps mosaics. The trace is first compared with the network.
"""

from dataclasses import dataclass, field
from pathlib import Path

from inference.card import ModelCard
from inference.common.errors import CheckFailed, UserError
from inference.common.paths import user_source
from inference.model.choose import card_for, choose_model
from train.configs.config import Config
from train.configs.loader import load_config

_TOLERANCE = 1e-5
"""Largest allowed difference in probability between a trace and its network."""


@dataclass(frozen=True)
class Model:
    """Model that inference can run.

    Attributes:
        name: Name to show to the user.
        path: Path of the .onnx or .pt file.
        card: Model card.
        card_file: JSON file used in place of the embedded card.
        config: Training config, if known.
        run: Run folder of the model, if it was given as one.
        notices: Notices for the user, one line each.
    """

    name: str
    path: Path
    card: ModelCard
    card_file: Path | None = None
    config: Config | None = None
    run: Path | None = None
    notices: list[str] = field(default_factory=list)


def open_model(
    text: str | None, config: str | None, overrides: tuple[str, ...], card_file: Path | None, folder: Path
) -> Model:
    """Open a model.

    Args:
        text: W&B artifact, .ckpt, run folder, .onnx or .pt; None: the model in inference/weights.
        config: YAML that the model was trained with; it tells where the data are and how to read labels.
        overrides: KEY=VALUE overrides of the YAML.
        card_file: JSON file to use in place of the card embedded in an exported file.
        folder: Folder for the trace of a checkpoint.

    Raises:
        UserError: The model does not exist or can't be read.
        CheckFailed: The trace of a checkpoint differs from the checkpoint.
    """
    given = None if config is None else load_config(config, overrides)
    path = choose_model() if text is None else Path(user_source(text, "MODEL"))
    if path.suffix.lower() in {".onnx", ".pt"}:
        card = card_for(path, card_file, "uint8")
        name = path.name if text is not None else str(path)
        return Model(
            name, path, card, card_file, None if given is None else given.config, notices=range_notices(name, card)
        )
    if card_file is not None:
        raise UserError(f"--card: only for .onnx and .pt files; {text} has its own card (omit --card)")
    assert text is not None
    from inference.common.imports import large_imports
    from train.models import import_timm

    with large_imports():
        import_timm()
        from train.export.config_comparison import UserConfig
        from train.export.source import find_source
        from train.export.trained_model import load_trained_model

    source = find_source(text)
    rebuilt = load_trained_model(
        source.checkpoint, None if config is None or given is None else UserConfig(config, given, overrides)
    )
    used = rebuilt.config if given is None else given.config
    scores = {**rebuilt.card.scores, **source.test_scores}
    traced, card = _trace(rebuilt.model, rebuilt.card.model_copy(update={"scores": scores}), folder)
    run = path if source.config is not None else None
    return Model(source.name, traced, card, None, used, run, list(rebuilt.notices))


def range_notices(name: str, card: ModelCard) -> list[str]:
    """Return a notice for a model whose pixels are scaled by the range of each image; no notice for other models."""
    if card.normalization == "standard":
        return []
    return [
        f"{name}: normalization: {card.normalization}: each image is scaled by the range of its own valid pixels, as "
        "inference.py does for a mosaic; habitat-mapper scales each tile by itself"
    ]


def class_name_notice(first: list[str], second: list[str], name: str) -> str:
    """Compare the class names of two models that are to be compared.

    Args:
        first: Class names of the first model.
        second: Class names of the second model.
        name: Name of the second model.

    Returns:
        Notice for the user if the names differ; empty if they are equal.

    Raises:
        UserError: The names are the same in another order, so that the same index means different classes.
    """
    if first == second:
        return ""
    if sorted(first) == sorted(second):
        raise UserError(
            f"{name} has the classes {', '.join(second)}, the other model has them in the order {', '.join(first)}: "
            "they can't be compared"
        )
    return f"the classes of {name} are called {', '.join(second)}; they are taken for {', '.join(first)}"


def _trace(model: object, card: ModelCard, folder: Path) -> tuple[Path, ModelCard]:
    """Write the network of a checkpoint as TorchScript; return the file and its card."""
    import torch

    from train.export.export_wrapper import ExportWrapper
    from train.export.formats import FORMATS
    from train.model import SegmentationModel

    assert isinstance(model, SegmentationModel)
    network = ExportWrapper(model, "probabilities").eval()
    card = card.model_copy(update={"output": "probabilities", "any_size": False})
    path = folder / f"{len(list(folder.iterdir()))}.pt"
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, len(card.bands), card.tile_size, card.tile_size), generator=generator)
    chosen = FORMATS["torchscript"]
    chosen.write(network, card, example, path)
    with torch.inference_mode():
        difference = float((chosen.load(path, torch.device("cpu"))(example) - network(example)).abs().max())
    if not difference <= _TOLERANCE:
        raise CheckFailed(
            f"the TorchScript trace differs from the checkpoint by {difference:.2g} in probability (allowed: "
            f"{_TOLERANCE:g}), so the checkpoint can't be evaluated"
        )
    return path, card

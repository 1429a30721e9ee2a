"""What is judged: an exported file as it is, or a checkpoint as the code that maps mosaics would run it.

A checkpoint is traced to TorchScript into a temporary file, with its card, and then judged like any exported file. So
what is judged is what runs. The trace is held against the network itself before it is used.
"""

from dataclasses import dataclass, field
from pathlib import Path

from inference.card import ModelCard
from inference.common.errors import CheckFailed, UserError
from inference.model.choose import card_for, choose_model
from train.configs.config import Config
from train.configs.loader import load_config

_TOLERANCE = 1e-5
"""Of a probability: how far a trace may be off its network."""


@dataclass(frozen=True)
class Model:
    """A model that can map.

    Attributes:
        name: As the user knows it.
        path: The .onnx or .pt file.
        card: What it needs and gives.
        card_file: JSON in place of the card that the file carries.
        config: What it was trained with, where that is known.
        run: Its run folder, where it came from one.
        notices: What the user may not expect, a line each.
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
    """Finds a model.

    Args:
        text: A W&B artifact, a .ckpt, a run folder, an .onnx or a .pt; None: the model in inference/weights.
        config: The YAML it was trained with; where to find data and how to read labels.
        overrides: KEY=VALUE for the YAML.
        card_file: JSON in place of the card that an exported file carries.
        folder: Where a checkpoint's trace goes.

    Raises:
        UserError: There is no such model, or it can't be read.
        CheckFailed: A checkpoint's trace doesn't give its answers.
    """
    given = None if config is None else load_config(config, overrides)
    path = choose_model() if text is None else Path(text).expanduser()
    if path.suffix.lower() in {".onnx", ".pt"}:
        card = card_for(path, card_file, "uint8")
        name = path.name if text is not None else str(path)
        return Model(name, path, card, card_file, None if given is None else given.config)
    if card_file is not None:
        raise UserError(f"--card: is for .onnx and .pt files, {text} has its own (leave it out)")
    assert text is not None
    from train.models.import_timm import import_timm

    import_timm()
    from train.export.rebuild import Given, rebuild
    from train.export.source import find_source

    source = find_source(text)
    rebuilt = rebuild(source.checkpoint, None if config is None or given is None else Given(config, given))
    used = rebuilt.config if given is None else given.config
    traced, card = _trace(rebuilt.model, rebuilt.card, folder)
    run = Path(text) if source.config is not None else None
    return Model(source.name, traced, card, None, used, run, list(rebuilt.notices))


def misnamed(ours: list[str], theirs: list[str], name: str) -> str:
    """What to say of the classes of a second model; empty where they are called the same.

    Raises:
        UserError: They are the same in another order: the same number means two things.
    """
    if ours == theirs:
        return ""
    if sorted(ours) == sorted(theirs):
        raise UserError(
            f"{name} has the classes {', '.join(theirs)}, the other model has them in the order {', '.join(ours)}: "
            "they can't be compared"
        )
    return f"the classes of {name} are called {', '.join(theirs)}; they are taken for {', '.join(ours)}"


def _trace(model: object, card: ModelCard, folder: Path) -> tuple[Path, ModelCard]:
    """Writes a checkpoint's network as TorchScript; returns the file and the card that it carries."""
    import torch

    from train.export.formats import FORMATS
    from train.export.network import ExportedNetwork
    from train.model import SegmentationModel

    assert isinstance(model, SegmentationModel)
    network = ExportedNetwork(model, "probabilities").eval()
    card = card.model_copy(update={"output": "probabilities", "any_size": False})
    path = folder / f"{len(list(folder.iterdir()))}.pt"
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, len(card.bands), card.tile_size, card.tile_size), generator=generator)
    chosen = FORMATS["torchscript"]
    chosen.write(network, card, example, path)
    with torch.inference_mode():
        off = float((chosen.load(path, torch.device("cpu"))(example) - network(example)).abs().max())
    if not off <= _TOLERANCE:
        raise CheckFailed(
            f"the checkpoint's trace differs from it by {off:.2g} of a probability, so it can't be judged"
        )
    return path, card

"""A checkpoint and a config to the model that was trained, and its card."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from inference.card import CardError, ModelCard
from inference.common.errors import UserError
from train.configs import document
from train.configs.config import Config
from train.configs.loader import Loaded
from train.data.normalization import given_normalization
from train.model import MODELS, SegmentationModel
from train.run.checkpoints import read_checkpoint

# What PyTorch's compiler and Lightning's wrappers put before a parameter's name.
_WRAPPERS = ("_orig_mod.", "module.")
# What a checkpoint of the earlier tool may hold besides the network: weights of its loss.
_NOT_THE_NETWORK = ("loss_fn.", "loss.")


@dataclass(frozen=True)
class Rebuilt:
    """A trained model in evaluation mode, on the CPU."""

    model: SegmentationModel
    card: ModelCard
    config: Config
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Given:
    """A config as the user gave it, and the file that it came from."""

    path: str
    loaded: Loaded


def rebuild(checkpoint: Path, given: Given | None) -> Rebuilt:
    """Builds the network that a checkpoint holds the weights of, and loads them.

    Args:
        checkpoint: Written by us, or by the earlier tool: then the YAML says what network it is.
        given: The user's config. It must agree with the checkpoint's own where both speak.

    Raises:
        UserError: It can't be read, isn't this network, or the config contradicts it.
    """
    content = read_checkpoint(checkpoint)
    own = content.get("hyper_parameters")
    notices: list[str] = []
    if isinstance(own, dict) and {"config", "card"} <= own.keys():
        config, card = _own(checkpoint, own)
        if given is not None:
            notices += _agree(checkpoint, config, card, given)
    elif given is None:
        raise UserError(f"{checkpoint}: doesn't say what network it is (give the YAML that it was trained with)")
    else:
        config = given.loaded.config
        card = card_of_yaml(config, given.path)
        notices.append(f"{checkpoint}: has no model card; what it needs is taken from {given.path}")
    model = MODELS[config.segmentation_model_cls](config.plain(), card.model_dump(mode="json"))
    weights = network_weights(content["state_dict"])
    _check_keys(checkpoint, weights, model, config)
    model.load_state_dict(weights)
    return Rebuilt(model.eval().requires_grad_(False), card, config, notices)


def _own(checkpoint: Path, own: Mapping[str, Any]) -> tuple[Config, ModelCard]:
    """The config and the card that a checkpoint of ours carries."""
    try:
        config = Config.model_validate(own["config"])
        return config, ModelCard.model_validate(own["card"])
    except (ValidationError, CardError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        at = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{checkpoint}: carries a config or card that this version doesn't understand: {at}: {first['msg']} (made "
            "by another version of this tool?)"
        ) from None


def network_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights by their plain names, `model.*`, without what a compiler or a wrapper put in them."""
    plain = {}
    for name, value in state.items():
        for wrapper in _WRAPPERS:
            name = name.replace(wrapper, "") if wrapper != "module." else name.removeprefix(wrapper)
        if isinstance(value, Tensor) and not name.startswith(_NOT_THE_NETWORK):
            plain[name] = value
    return plain


def _check_keys(checkpoint: Path, weights: Mapping[str, Tensor], model: SegmentationModel, config: Config) -> None:
    """Refuses weights that are not those of the network, in one line."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in weights]
    unexpected = [name for name in weights if name not in wanted]
    other = [name for name in weights if name in wanted and weights[name].shape != wanted[name].shape]
    settings = config.segmentation_config
    network = f"{settings.architecture} with {settings.backbone}"
    parts = []
    if missing:
        parts.append(f"{len(missing)} weights are missing, first {missing[0]}")
    if unexpected:
        parts.append(f"{len(unexpected)} are unexpected, first {unexpected[0]}")
    if other and not parts:
        found, expected = list(weights[other[0]].shape), list(wanted[other[0]].shape)
        parts.append(f"{other[0]} has shape {found}, {expected} was expected")
    if parts:
        raise UserError(f"{checkpoint}: is no {network}: {'; '.join(parts)} (give the YAML that it was trained with)")


def card_of_yaml(config: Config, path: str) -> ModelCard:
    """The card of a model that has none, from its YAML; images are taken to be bytes, as the earlier tool had them.

    Raises:
        UserError: The YAML doesn't say how pixels are normalised.
    """
    data = config.data_module
    bands = tuple(data.bands) if data.bands else tuple(range(1, config.num_bands + 1))
    try:
        normalization = given_normalization(data, bands, "uint8")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if normalization is None:
        raise UserError(
            f"{path}: data_module.mean: auto was measured in training, and this checkpoint doesn't say what came out "
            "(give the numbers)"
        )
    return ModelCard(
        name=config.logging.name or "model",
        task=config.logging.project,
        bands=list(bands),
        dtype="uint8",
        tile_size=config.tile_size,
        mean=list(normalization.mean),
        std=list(normalization.std),
        max_pixel_value=normalization.max_pixel_value,
        fill_value=data.fill_value,
        class_names=config.class_names,
        background_index=config.background_index,
        activation="sigmoid" if config.num_classes == 1 else "softmax",
        ignore_index=config.ignore_index,
        label_map=data.label_map or {},
        label_nodata=data.label_nodata,
    )


def _agree(checkpoint: Path, own: Config, card: ModelCard, given: Given) -> list[str]:
    """Compares the user's config with the one that a checkpoint was trained with.

    Returns:
        Differences that are no contradiction, a line each.

    Raises:
        UserError: A difference changes the network or the normalisation.
    """
    config = given.loaded.config
    problems = []
    said = document.read(given.path)
    for key, theirs, ours in (*_network(config, own), *_normalization(config, card)):
        if not _same(theirs, ours):
            mark = said.mark(tuple(key.split(".")))
            problems.append(
                f"{given.path}:{mark.line}:{mark.column}: {key}: is {theirs}, but {checkpoint} was trained with {ours} "
                "(give the YAML that it was trained with, or leave it out)"
            )
    if problems:
        raise UserError("\n".join(problems))
    notices = []
    if config.tile_size != card.tile_size:
        notices.append(
            f"{given.path}: tile_size is {config.tile_size}, the model was trained with {card.tile_size}, which holds"
        )
    return notices


def _network(config: Config, own: Config) -> Iterator[tuple[str, Any, Any]]:
    """Keys that decide what the network is: (key, in the user's config, in the checkpoint's)."""
    yield "segmentation_model_cls", config.segmentation_model_cls, own.segmentation_model_cls
    yield "num_classes", config.num_classes, own.num_classes
    yield "num_bands", config.num_bands, own.num_bands
    theirs, ours = config.segmentation_config, own.segmentation_config
    yield "segmentation_config.architecture", theirs.architecture, ours.architecture
    yield "segmentation_config.backbone", theirs.backbone, ours.backbone
    left, right = theirs.opts.model_dump(exclude_none=True), ours.opts.model_dump(exclude_none=True)
    for name in sorted({*left, *right} - {"encoder_weights"}):
        yield f"segmentation_config.opts.{name}", left.get(name), right.get(name)


def _normalization(config: Config, card: ModelCard) -> Iterator[tuple[str, Any, Any]]:
    """Keys that decide how pixels are normalised, where the user's config spells them out."""
    data = config.data_module
    if isinstance(data.mean, list):
        yield "data_module.mean", data.mean, card.mean
    if isinstance(data.std, list):
        yield "data_module.std", data.std, card.std
    if isinstance(data.max_pixel_value, int | float):
        yield "data_module.max_pixel_value", data.max_pixel_value, card.max_pixel_value
    if data.bands is not None:
        yield "data_module.bands", list(data.bands), card.bands


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
    return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9) if numbers else bool(left == right)


def revision(created: str, weights: Mapping[str, Tensor]) -> str:
    """Which of all models this is: `YYYYMMDD-HASH`, the day it was made and the start of its weights' SHA-256.

    The same weights always have the same hash, whatever files they travel in.

    Args:
        created: ISO 8601 day or time.
        weights: A state dict.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.view(-1).numpy().tobytes())
    return f"{created[:10].replace('-', '')}-{digest.hexdigest()[:8]}"

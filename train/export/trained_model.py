"""Trained model and its card, restored from a checkpoint and an optional config."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from inference.card import CardError, ModelCard
from inference.common.errors import UserError
from train.configs.config import Config
from train.data.normalization import Normalization
from train.export.config_comparison import UserConfig, compare_configs
from train.export.earlier_tool import OTHER_AERIALFORMER, earlier_normalization, given_by_config
from train.export.network_weights import choose_weights
from train.model import MODELS, SegmentationModel
from train.run.checkpoints import read_checkpoint


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its card and config.

    Attributes:
        model: Model in evaluation mode, on the CPU, without gradients.
        card: Model card.
        config: Config that the model was built from.
        notices: Lines for the user.
    """

    model: SegmentationModel
    card: ModelCard
    config: Config
    notices: list[str] = field(default_factory=list)


def load_trained_model(checkpoint: Path, given: UserConfig | None, chosen_weights: str | None = None) -> TrainedModel:
    """Build the network of a checkpoint and load its weights.

    Args:
        checkpoint: Path of a checkpoint of this tool, or of the earlier one, which does not contain its config.
        given: The user's config; required for a checkpoint of the earlier tool. It must not contradict the config in
            the checkpoint.
        chosen_weights: Set of weights to load, where the checkpoint holds several; see `choose_weights`.

    Raises:
        UserError: The checkpoint can't be read or has the weights of another network, or the config contradicts it.
    """
    content = read_checkpoint(checkpoint, bare=True)
    own = content.get("hyper_parameters")
    notices: list[str] = []
    embedded = isinstance(own, dict) and {"config", "card"} <= own.keys()
    if isinstance(own, dict) and embedded:
        config, card = _embedded(checkpoint, own)
        if given is not None:
            notices += compare_configs(checkpoint, config, card, given)
    elif given is None:
        raise UserError(f"{checkpoint}: contains no config (give the YAML that it was trained with)")
    else:
        config = given.loaded.config
        find = given_by_config if content.get("bare") else earlier_normalization
        normalization = find(checkpoint, given, config.num_bands)
        card = card_of_yaml(config, normalization)
        notices.append(
            f"{checkpoint}: has no model card; the card is made from {given.path}, with mean "
            f"{_numbers(normalization.mean)}, std {_numbers(normalization.std)} and max_pixel_value "
            f"{normalization.max_pixel_value:g}"
        )
    model = MODELS[config.segmentation_model_cls](config.plain(), card.model_dump(mode="json"))
    weights = choose_weights(checkpoint, content, chosen_weights)
    _check_keys(checkpoint, weights, model, config, embedded)
    model.load_state_dict(weights)
    return TrainedModel(model.eval().requires_grad_(False), card, config, notices)


def _embedded(checkpoint: Path, own: Mapping[str, Any]) -> tuple[Config, ModelCard]:
    """Return the config and card in a checkpoint of this tool."""
    try:
        config = Config.model_validate(own["config"])
        return config, ModelCard.model_validate(own["card"])
    except (ValidationError, CardError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        at = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{checkpoint}: contains a config or card that this version can't read: {at}: {first['msg']} (was it "
            "written by another version of this tool?)"
        ) from None


def _check_keys(
    checkpoint: Path, weights: Mapping[str, Tensor], model: SegmentationModel, config: Config, embedded: bool
) -> None:
    """Check names and shapes of the weights; raise a UserError of one line if they belong to another network."""
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
        another = config.segmentation_model_cls == "AerialFormer" and not embedded
        fix = OTHER_AERIALFORMER if another else "give the YAML that it was trained with"
        raise UserError(f"{checkpoint}: not the weights of {network}: {'; '.join(parts)} ({fix})")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def card_of_yaml(config: Config, normalization: Normalization) -> ModelCard:
    """Make the card of a checkpoint that has none, for uint8 images as in the earlier tool.

    Args:
        config: Validated config.
        normalization: Normalisation that the checkpoint was trained with.
    """
    data = config.data_module
    bands = tuple(data.bands) if data.bands else tuple(range(1, config.num_bands + 1))
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
        nodata=None if isinstance(data.nodata, str) else data.nodata,
    )


def weights_revision(created: str, weights: Mapping[str, Tensor]) -> str:
    """Return the revision of a model: `YYYYMMDD-HASH`, its day and the first eight digits of its weights' SHA-256.

    The hash depends on the weights alone, not on the format of their file.

    Args:
        created: ISO 8601 day or time.
        weights: State dict.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.view(-1).numpy().tobytes())
    return f"{created[:10].replace('-', '')}-{digest.hexdigest()[:8]}"

"""Conversion of a habitat-mapper model configuration (JSON) to a model card.

The configuration states the normalisation and the activation; the tile size and the number of classes come from the
network. Where habitat-mapper scales each tile by its own range of values, the range of the whole mosaic is used, which
makes no seams. A configuration that can't be applied without seams, or that is incomplete, is refused.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.card import CardError, Finite, ModelCard, validation_lines
from inference.common.text import limited, quoted
from inference.model.signature import read_signature

DEFAULT_TILE = 1024
"""Tile size that habitat-mapper uses where a network takes any size."""
_MODEL_CLASS = "habitat_mapper.model.ONNXModel"
# Kelp models whose first channels decide whether there is kelp, and the others which species. They apply their own
# activations.
_PRESENCE_CHANNELS = {
    "habitat_mapper.model.LegacyKelpRGBModel": 1,
    "habitat_mapper.model.LegacyKelpRGBIModel": 2,
}
_SPECIES = ["background", "Macrocystis", "Nereocystis"]
_BY_RANGE = {"min_max", "min_max_per_channel"}


class _Config(BaseModel):
    """Keys that describe a model's input and output, with the defaults of habitat-mapper 0.16."""

    model_config = ConfigDict(extra="ignore")

    name: str
    revision: Annotated[str, Field(pattern=r"^\d{8}(-\S+)?$")]
    model_cls: str = _MODEL_CLASS
    model_filename: str
    input_channels: Annotated[int, Field(ge=1)] = 3
    activation: Literal["sigmoid", "softmax"] | None = None
    normalization: Literal["standard", "image", "image_per_channel", "min_max", "min_max_per_channel"] | None = (
        "standard"
    )
    mean: list[Finite] | None = [0.485, 0.456, 0.406]
    std: list[Annotated[Finite, Field(gt=0)]] | None = [0.229, 0.224, 0.225]
    max_pixel_value: Annotated[Finite, Field(gt=0)] | Literal["auto"] = "auto"


def card_from_config(data: dict[str, Any], source: Path, model: Path, dtype: str) -> ModelCard:
    """Return the model card that is equivalent to a configuration.

    Args:
        data: Parsed configuration.
        source: Path of the configuration; error messages begin with it.
        model: Path of the ONNX file it is used with.
        dtype: Data type of the mosaic, which the configuration doesn't state.

    Raises:
        CardError: The configuration is invalid or can't be applied.
        UserError: The model can't be read.
    """
    try:
        config = _Config.model_validate(data)
    except ValidationError as error:
        raise CardError("\n".join(limited(validation_lines(error, str(source))))) from None
    if model.suffix.lower() != ".onnx":
        raise CardError(f"{source}: is a configuration for ONNX files, not for {model.name} (allowed: .onnx)")
    signature = read_signature(model)
    bands = config.input_channels
    mean, std = ([0.0] * bands, [1.0] * bands) if config.normalization is None else (config.mean, config.std)
    presence = _PRESENCE_CHANNELS.get(config.model_cls, 0)
    channels = signature.channels or (1 if config.activation == "sigmoid" else None)
    if presence and channels is None:
        channels = presence + len(_SPECIES) - 1
    if config.normalization in _BY_RANGE:
        mean, std = [0.0] * bands, [1.0] * bands
    _check(config, source, model, channels)
    assert channels is not None
    classes = len(_SPECIES) if presence else max(2, channels)
    return ModelCard(
        name=config.name,
        task=config.name,
        revision=config.revision,
        bands=list(range(1, bands + 1)),
        dtype=dtype,
        tile_size=signature.tile or DEFAULT_TILE,
        mean=list(mean or []),
        std=list(std or []),
        normalization="standard" if config.normalization is None else config.normalization,
        max_pixel_value=config.max_pixel_value,
        class_names=_class_names(classes, presence),
        presence_channels=presence,
        background_index=0,
        activation="sigmoid" if channels == 1 else "softmax",
        output="probabilities" if config.activation is None and not presence else "logits",
        any_size=signature.tile is None,
    )


def _class_names(classes: int, presence: int) -> list[str]:
    if presence:
        return list(_SPECIES)
    return ["background", "target"] if classes == 2 else ["background", *(f"class {i}" for i in range(1, classes))]


def _check(config: _Config, source: Path, model: Path, channels: int | None) -> None:
    """Raise `CardError`, with a line for each reason, if a configuration can't be applied."""
    problems = []
    presence = _PRESENCE_CHANNELS.get(config.model_cls, 0)
    if config.model_cls != _MODEL_CLASS and not presence:
        problems.append(
            f"model_cls: {quoted(config.model_cls)} may process the output in its own way (allowed: {_MODEL_CLASS}, "
            f"{', '.join(_PRESENCE_CHANNELS)})"
        )
    if presence:
        if channels != presence + len(_SPECIES) - 1:
            problems.append(
                f"model_cls: {config.model_cls} takes {presence + len(_SPECIES) - 1} channels, {model.name} returns "
                f"{channels}"
            )
        if config.activation is not None:
            problems.append(f"activation: {config.activation}, but {config.model_cls} applies its own (allowed: null)")
    if config.normalization in _BY_RANGE:
        pass  # the range of the whole mosaic is used, not of each tile
    elif config.normalization not in {None, "standard"}:
        problems.append(
            f"normalization: {config.normalization} depends on the other pixels of a tile, so neighbouring tiles "
            "differ and seams appear (allowed: standard, min_max, min_max_per_channel, null)"
        )
    elif config.normalization is not None:
        lengths = len(config.mean or []), len(config.std or [])
        if lengths != (config.input_channels, config.input_channels):
            problems.append(
                f"mean and std: {lengths[0]} and {lengths[1]} values for {config.input_channels} input_channels"
            )
    if presence:
        pass  # checked above
    elif channels is None:
        problems.append(f"{model.name} doesn't state its number of classes (write a model card for it)")
    elif config.activation == "sigmoid" and channels > 1:
        problems.append(f"activation: sigmoid of {channels} channels gives classes that can overlap (allowed: softmax)")
    elif config.activation == "softmax" and channels == 1:
        problems.append("activation: softmax of one channel is always 1 (allowed: sigmoid, null)")
    if problems:
        raise CardError("\n".join(f"{source}: {problem}" for problem in problems))

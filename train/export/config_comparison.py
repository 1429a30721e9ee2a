"""Comparison of a user's config with the config that a checkpoint was trained with."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.card import ModelCard
from inference.common.errors import UserError
from train.configs import document
from train.configs.config import Config
from train.configs.loader import Loaded


@dataclass(frozen=True)
class UserConfig:
    """A config given by the user.

    Attributes:
        path: Path of the YAML file.
        loaded: Validated content, overrides included.
        overrides: KEY=VALUE pairs of the command line.
    """

    path: str
    loaded: Loaded
    overrides: Sequence[str] = ()


def compare_configs(checkpoint: Path, trained: Config, card: ModelCard, given: UserConfig) -> list[str]:
    """Check that the user's config describes the network and normalisation of a checkpoint.

    Args:
        checkpoint: Path of the checkpoint, for messages.
        trained: Config in the checkpoint.
        card: Card in the checkpoint.
        given: Config of the user.

    Returns:
        Notices about differences that are allowed.

    Raises:
        UserError: A difference changes the network or the normalisation.
    """
    config = given.loaded.config
    problems = []
    yaml = document.read(given.path)
    for key, value, trained_value in (*_network_keys(config, trained), *_normalization_keys(config, card)):
        if not equal(value, trained_value):
            mark = yaml.mark(tuple(key.split(".")))
            problems.append(
                f"{given.path}:{mark.line}:{mark.column}: {key}: is {value}, but {checkpoint} was trained with "
                f"{trained_value} (give the YAML that it was trained with, or leave it out)"
            )
    if problems:
        raise UserError("\n".join(problems))
    notices = []
    if config.tile_size != card.tile_size:
        notices.append(
            f"{given.path}: tile_size is {config.tile_size}, the model was trained with {card.tile_size}; "
            f"{card.tile_size} is used"
        )
    return notices


def _network_keys(config: Config, trained: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, value in the user's config, value in the checkpoint's) of the keys that define the network."""
    yield "segmentation_model_cls", config.segmentation_model_cls, trained.segmentation_model_cls
    yield "num_classes", config.num_classes, trained.num_classes
    yield "num_bands", config.num_bands, trained.num_bands
    left, right = config.segmentation_config, trained.segmentation_config
    yield "segmentation_config.architecture", left.architecture, right.architecture
    yield "segmentation_config.backbone", left.backbone, right.backbone
    opts, trained_opts = left.opts.model_dump(exclude_none=True), right.opts.model_dump(exclude_none=True)
    for name in sorted({*opts, *trained_opts} - {"encoder_weights"}):
        yield f"segmentation_config.opts.{name}", opts.get(name), trained_opts.get(name)


def _normalization_keys(config: Config, card: ModelCard) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, value in the user's config, value in the card) of the normalisation keys that the user has set."""
    data = config.data_module
    if isinstance(data.mean, list):
        yield "data_module.mean", data.mean, card.mean
    if isinstance(data.std, list):
        yield "data_module.std", data.std, card.std
    if isinstance(data.max_pixel_value, int | float):
        yield "data_module.max_pixel_value", data.max_pixel_value, card.max_pixel_value
    if data.bands is not None:
        yield "data_module.bands", list(data.bands), card.bands


def equal(left: Any, right: Any) -> bool:
    """Compare two values, numbers within rounding."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
    return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9) if numbers else bool(left == right)

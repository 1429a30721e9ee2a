"""Checkpoints of the earlier hakai-ml-train, which contain neither a config nor a model card."""

from collections.abc import Iterator
from pathlib import Path

from inference.common.errors import UserError
from train.configs import document
from train.configs.data import DataModuleConfig
from train.data.normalization import IMAGENET_MEAN, IMAGENET_STD, Normalization, given_normalization
from train.export.config_comparison import UserConfig, equal

NORMALIZATION = Normalization(IMAGENET_MEAN, IMAGENET_STD, 255.0)
"""Normalisation of every model that it trained: the defaults of Albumentations' Normalize. It had no keys for them."""
_KEYS = ("mean", "std", "max_pixel_value")
OTHER_AERIALFORMER = (
    "the earlier hakai-ml-train used the name AerialFormer for another network, a plain vision transformer with two "
    "convolutions, which this tool can't build (train AerialFormer anew, or map with the files exported by that tool)"
)


def earlier_normalization(checkpoint: Path, given: UserConfig, bands: int) -> Normalization:
    """Return the normalisation that a checkpoint was trained with.

    It is that of the earlier tool. Values on the command line count as the user's decision; those of the YAML may be
    meant for networks that this tool trains, and a wrong normalisation makes every map wrong without an error, so a
    YAML that differs is refused.

    Args:
        checkpoint: Path of the checkpoint.
        given: Config of the user.
        bands: Bands of the network. Only for three bands the earlier tool could normalise without changes of its code;
            for others the user's config decides.

    Raises:
        UserError: The YAML gives another normalisation and the command line doesn't decide, or there is none.
    """
    data = given.loaded.config.data_module
    if bands == len(NORMALIZATION.mean):
        values = {key: getattr(data, key) if key in _decided(given) else getattr(NORMALIZATION, key) for key in _KEYS}
        if problems := list(_contradictions(checkpoint, given)):
            raise UserError("\n".join(problems))
        data = data.model_copy(update={key: list(v) if isinstance(v, tuple) else v for key, v in values.items()})
    return _normalization(checkpoint, given.path, data, bands)


def given_by_config(checkpoint: Path, given: UserConfig, bands: int) -> Normalization:
    """Return the normalisation of the user's config, for weights of other tools, which say nothing of theirs.

    Args:
        checkpoint: Path of the weights.
        given: Config of the user.
        bands: Bands of the network.

    Raises:
        UserError: The config gives none.
    """
    return _normalization(checkpoint, given.path, given.loaded.config.data_module, bands)


def _normalization(checkpoint: Path, path: str, data: DataModuleConfig, bands: int) -> Normalization:
    try:
        normalization = given_normalization(data, range(1, bands + 1), "uint8")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if normalization is None:
        said = "auto is" if data.mean == "auto" else f"isn't given, so for {bands} bands it was"
        raise UserError(
            f"{path}: data_module.mean: {said} measured in training, and {checkpoint} does not contain the "
            "result (give the numbers of data_module.mean and data_module.std)"
        )
    return normalization


def _contradictions(checkpoint: Path, given: UserConfig) -> Iterator[str]:
    """Yield a line for each key of the YAML that differs from the earlier tool and isn't given on the command line."""
    data, yaml = given.loaded.config.data_module, document.read(given.path)
    for key in _KEYS:
        value, used = getattr(data, key), getattr(NORMALIZATION, key)
        if key in _decided(given) or value is None or (key == "max_pixel_value" and value == "auto"):
            continue  # auto is the largest value of uint8, 255
        if not equal(value, used):
            mark = yaml.mark(("data_module", key))
            yield (
                f"{given.path}:{mark.line}:{mark.column}: data_module.{key}: is {_shown(value)}, but {checkpoint} has "
                f"no model card, and the earlier hakai-ml-train normalised all images with {_shown(used)} (decide on "
                f"the command line: data_module.{key}={_shown(used)} for that value, or data_module.{key}="
                f"{_shown(value)})"
            )


def _decided(given: UserConfig) -> set[str]:
    """Return the keys of the normalisation that the command line gives."""
    names = {override.partition("=")[0].strip() for override in given.overrides}
    return {key for key in _KEYS if f"data_module.{key}" in names}


def _shown(value: object) -> str:
    """Return a value as an override writes it, without spaces."""
    if isinstance(value, list | tuple):
        return f"[{','.join(f'{number:g}' for number in value)}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)

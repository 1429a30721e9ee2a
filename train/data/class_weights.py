"""Class weights that follow from how often each class occurs."""

from collections.abc import Sequence
from typing import Any

from inference.common.cpu import cores
from inference.common.errors import UserError
from train.configs.config import Config
from train.data.reader import Reader
from train.data.statistics import survey, together
from train.datamodule import DataModule


def wants_class_weights(config: Config) -> bool:
    """Whether a loss leaves its class weights to the data."""
    return any(opts.class_weights == "auto" for opts in _options(config))


def with_class_weights(config: Config, data: DataModule) -> tuple[Config, str]:
    """Puts numbers in the place of `class_weights: auto`.

    The weight of class c is N / (K n_c), with n_c of N labelled pixels of the train split and K classes, so that every
    class counts as much as any other (King and Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868; scikit-learn's
    "balanced").

    Args:
        config: See `wants_class_weights`.
        data: Prepared.

    Returns:
        The config, with numbers, and a line for the user.

    Raises:
        UserError: A class doesn't occur, or labels can't be read.
    """
    reader = Reader(data.rule, config.data_module.fill_value, cores())
    found, problems = survey(data.scenes["train"], data.bands, reader, "counting the pixels of each class")
    reader.close()
    if problems:
        raise UserError("\n".join(problems))
    counts = [int(n) for n in together(found, len(data.bands), data.rule.classes).classes]
    names = config.class_names
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        raise UserError(
            f"class_weights: auto finds no pixel of {', '.join(absent)} in the train split (give numbers, or leave the "
            "class out)"
        )
    weights = balanced(counts)
    config = config.model_copy(deep=True)
    for opts in _options(config):
        if opts.class_weights == "auto":
            opts.class_weights = list(weights)
    shown = ", ".join(f"{name} {weight:.4g}" for name, weight in zip(names, weights, strict=True))
    return config, f"class weights from the train split: {shown}"


def balanced(counts: Sequence[int]) -> list[float]:
    """N / (K n_c) for pixels n_c of each of K classes."""
    return [sum(counts) / (len(counts) * count) for count in counts]


def _options(config: Config) -> list[Any]:
    """Return the options of every term of the loss, nested ones included."""
    return [opts for term in config.segmentation_config.terms for opts in term.options]

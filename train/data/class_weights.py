"""Class weights of the loss from the class frequencies of the train split (`class_weights: auto`)."""

from collections.abc import Sequence
from typing import Any

from inference.common.cpu import cores
from inference.common.errors import UserError
from inference.common.text import limited
from train.configs.config import Config
from train.data.labelled_images import LabelledImages
from train.data.prepared_statistics import class_counts
from train.data.reader import Reader
from train.data.statistics import measure, merge


def with_class_weights(config: Config, data: LabelledImages) -> tuple[Config, list[str]]:
    """Replace `class_weights: auto` by numbers.

    The weight of class c is N / (K n_c), with n_c of N labelled pixels of the train split and K classes, so that all
    classes have the same total weight (King and Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868; scikit-learn's
    "balanced").

    Args:
        config: Resolved config.
        data: Prepared images.

    Returns:
        A copy of the config with the numbers, and a line for the user; the config itself if no loss has
        `class_weights: auto`.

    Raises:
        UserError: A class does not occur in the train split, or a file can't be read.
    """
    if all(opts.class_weights != "auto" for opts in _options(config)):
        return config, []
    counts = data.class_counts or _counts(data)
    names = config.class_names
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        raise UserError(
            f"class_weights: auto found no pixel of {', '.join(absent)} in the train split (give numbers, or leave the "
            "class out)"
        )
    weights = balanced(counts)
    config = config.model_copy(deep=True)
    for opts in _options(config):
        if opts.class_weights == "auto":
            opts.class_weights = list(weights)
    shown = ", ".join(f"{name} {weight:.4g}" for name, weight in zip(names, weights, strict=True))
    return config, [f"class weights from the train split: {shown}"]


def _counts(data: LabelledImages) -> list[int]:
    """Return the pixels of each class in the train split: by the table of a prepared data set, or by reading all."""
    train, settings = data.scenes["train"], data.settings
    if data.prepared is not None and settings.nodata is None and not settings.label_map:
        return [int(n) for n in class_counts(scene.block for scene in train if scene.block is not None)]
    reader = Reader(data.rule, settings.fill_value, cores())
    found, problems = measure(train, data.bands, reader, "counting the pixels of each class")
    reader.close()
    if problems:
        raise UserError("\n".join(limited(problems)))
    return [int(n) for n in merge(found, len(data.bands), data.rule.classes).class_counts]


def balanced(counts: Sequence[int]) -> list[float]:
    """Return the weights N / (K n_c) for the pixel counts n_c of K classes, with N their sum."""
    return [sum(counts) / (len(counts) * count) for count in counts]


def _options(config: Config) -> list[Any]:
    """Return the options of every term of the loss, nested ones included."""
    return [opts for term in config.segmentation_config.terms for opts in term.options]

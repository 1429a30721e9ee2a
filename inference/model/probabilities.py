"""Conversion of a network's output to probabilities, and of probabilities to classes.

For two classes one channel is kept, the probability of class 1; that of class 0 is its complement. Two classes thus
cost one exponential and one blend, whether the network has one channel or two. For more classes there is a channel for
each class.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.card import ModelCard
from inference.common.errors import UserError


def probability_channels(card: ModelCard) -> int:
    """Return the number of channels of a model's probabilities: 1 for two classes, otherwise one for each class."""
    return 1 if len(card.class_names) == 2 else len(card.class_names)


def probabilities(output: NDArray[Any], card: ModelCard, tile: int) -> NDArray[np.float32]:
    """Convert a network's output to probabilities.

    Args:
        output: (N, C, tile, tile) logits or probabilities, depending on the card; or integer class indices of shape
            (N, tile, tile) or (N, 1, tile, tile), which get probability one. May be modified in place; do not reuse.
        card: Card of the model.
        tile: Side of a tile, pixels.

    Returns:
        (N, probability_channels(card), tile, tile) float32.

    Raises:
        UserError: The output doesn't match the card, or isn't finite.
    """
    found = _probabilities(output, card, tile)
    # A NaN or an infinity propagates through the sum, and probabilities can't overflow it.
    if not np.isfinite(found.sum()):
        raise UserError(
            f"the model's output is NaN or infinite at {np.count_nonzero(~np.isfinite(found)):,} of {found.size:,} "
            "values of a batch, so there is no map (fp16 may overflow: use --precision fp32; otherwise the weights are "
            "damaged)"
        )
    return found


def _probabilities(output: NDArray[Any], card: ModelCard, tile: int) -> NDArray[np.float32]:
    classes = len(card.class_names)
    if np.issubdtype(output.dtype, np.integer) and output.size == len(output) * tile * tile:
        return _one_hot(output.reshape(len(output), tile, tile), classes)
    expected = (len(output), card.channels, tile, tile)
    if output.shape != expected:
        raise UserError(
            f"the model's output has shape {output.shape}, but its card promises {expected} ({card.channels} "
            f"channels with {card.activation}, {classes} classes; tiles of {tile} pixels)"
        )
    values: NDArray[np.float32] = output.astype(np.float32, copy=not output.flags.writeable)
    if card.presence_channels:
        return _presence_then_class(values, card.presence_channels)
    if card.channels == 1:
        return _sigmoid(values) if card.output == "logits" else values
    if classes == 2:
        if card.output == "probabilities":
            return values[:, 1:]
        difference = values[:, 1:]
        difference -= values[:, :1]
        return _sigmoid(difference)
    return _softmax(values) if card.output == "logits" else values


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute 1 / (1 + exp(-x)) in place."""
    np.negative(x, out=x)
    with np.errstate(over="ignore"):  # exp(89) is infinite in float32; its reciprocal is the correct result, zero
        np.exp(x, out=x)
    x += 1
    np.reciprocal(x, out=x)
    return x


def _softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the softmax over the channels in place."""
    x -= x.max(axis=1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=1, keepdims=True)
    return x


def _presence_then_class(x: NDArray[np.float32], leading: int) -> NDArray[np.float32]:
    """Return the probability of the background, and of each other class: that of any of them times its share."""
    presence = x[:, :1] if leading == 1 else x[:, 1:2] - x[:, :1]
    presence = _sigmoid(presence.copy())
    return np.concatenate([1 - presence, presence * _softmax(x[:, leading:].copy())], axis=1)


def _one_hot(numbers: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Return probabilities of zero and one from class indices, (N, tile, tile)."""
    if numbers.size and (numbers.min() < 0 or numbers.max() >= classes):
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise UserError(
            f"the model's output has class {wrong}, but its card names {classes} classes (0 to {classes - 1})"
        )
    if classes == 2:
        return numbers[:, None].astype(np.float32)
    one_hot: NDArray[np.float32] = (numbers[:, None] == np.arange(classes)[None, :, None, None]).astype(np.float32)
    return one_hot


def classify(
    probability: NDArray[np.float32], threshold: float, out: NDArray[np.uint8], presence_first: bool = False
) -> None:
    """Write the class of each pixel.

    Args:
        probability: (C, H, W) float32 as `probabilities` returns them.
        threshold: For two classes, a pixel is of class 1 if its probability is above this. Not used for more classes:
            there the class of the highest probability is chosen, the first one of equals.
        out: (H, W) uint8, overwritten.
        presence_first: With more classes, True to decide first whether a pixel is of class 0 (if its probability is at
            least one half), then among the others.
    """
    if len(probability) == 1:
        np.greater(probability[0], np.float32(threshold), out=out.view(np.bool_))
        return
    best = np.where(probability[0] >= 0.5, np.float32(2), np.float32(-1)) if presence_first else probability[0].copy()
    out[:] = 0
    for number in range(1, len(probability)):
        better = probability[number] > best
        np.copyto(best, probability[number], where=better)
        np.copyto(out, np.uint8(number), where=better)


def class_probabilities(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a band for each class, (classes, H, W), from (C, H, W) as `probabilities` returns them."""
    return np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability


def of_class(bands: NDArray[np.float32], values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probability of each pixel's class.

    Args:
        bands: A band for each class, (classes, H, W).
        values: Class of each pixel, (H, W).
    """
    found = np.full(values.shape, np.nan, np.float32)
    for number, band in enumerate(bands):
        np.copyto(found, band, where=values == number)
    return found

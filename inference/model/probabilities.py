"""From what a network gives to probabilities, and from probabilities to classes.

A map of two classes needs one channel, the probability of class 1: that of class 0 is the rest. Maps of more have a
channel for each class. So two classes cost one exponential and one blend, whether the network has one channel or two.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.card import ModelCard
from inference.common.errors import UserError


def probability_channels(card: ModelCard) -> int:
    """Channels of the probabilities of a card's model: 1 for two classes, else one for each."""
    return 1 if len(card.class_names) == 2 else len(card.class_names)


def probabilities(output: NDArray[Any], card: ModelCard, tile: int) -> NDArray[np.float32]:
    """Probabilities from a network's output.

    Args:
        output: (N, C, tile, tile) logits or probabilities as the card says; or class numbers, integers of shape
            (N, tile, tile) or (N, 1, tile, tile), each of which counts as a probability of one. It may be overwritten.
        card: The model's card.
        tile: Side of a tile, pixels.

    Returns:
        (N, probability_channels(card), tile, tile) float32.

    Raises:
        UserError: The output isn't what the card says, or isn't a number somewhere.
    """
    found = _probabilities(output, card, tile)
    # A NaN goes through any sum; probabilities are too small to overflow one.
    if not np.isfinite(found.sum()):
        raise UserError(
            f"the model's output is NaN or infinite at {np.count_nonzero(~np.isfinite(found)):,} of {found.size:,} "
            "pixels of a batch, so it can't be mapped (in fp16 a number may overflow: use fp32; else the weights are "
            "broken)"
        )
    return found


def _probabilities(output: NDArray[Any], card: ModelCard, tile: int) -> NDArray[np.float32]:
    classes = len(card.class_names)
    if np.issubdtype(output.dtype, np.integer) and output.size == len(output) * tile * tile:
        return _one_hot(output.reshape(len(output), tile, tile), classes)
    expected = (len(output), card.channels, tile, tile)
    if output.shape != expected:
        raise UserError(
            f"the model gives an output of shape {output.shape}, its card promises {expected} ({card.channels} "
            f"channels with {card.activation}, {classes} classes; tiles of {tile} pixels)"
        )
    values: NDArray[np.float32] = output.astype(np.float32, copy=not output.flags.writeable)
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
    """1 / (1 + exp(-x)), in place."""
    np.negative(x, out=x)
    with np.errstate(over="ignore"):  # exp(89) is infinite in float32, and its reciprocal zero, as it should be
        np.exp(x, out=x)
    x += 1
    np.reciprocal(x, out=x)
    return x


def _softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the channels, in place."""
    x -= x.max(axis=1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=1, keepdims=True)
    return x


def _one_hot(numbers: NDArray[Any], classes: int) -> NDArray[np.float32]:
    if numbers.size and (numbers.min() < 0 or numbers.max() >= classes):
        raise UserError(f"the model gives class {numbers.max()}, its card names {classes} classes (0 to {classes - 1})")
    if classes == 2:
        return numbers[:, None].astype(np.float32)
    shares: NDArray[np.float32] = (numbers[:, None] == np.arange(classes)[None, :, None, None]).astype(np.float32)
    return shares


def classify(probability: NDArray[np.float32], threshold: float, out: NDArray[np.uint8]) -> None:
    """The class at each pixel.

    Args:
        probability: (C, H, W) as `probabilities` gives them.
        threshold: For two classes: class 1 is where its probability is above this. For more it isn't used; the most
            probable class wins, of equals the first.
        out: (H, W) uint8, written to.
    """
    if len(probability) == 1:
        np.greater(probability[0], np.float32(threshold), out=out.view(np.bool_))
        return
    best = probability[0].copy()
    out[:] = 0
    for number in range(1, len(probability)):
        better = probability[number] > best
        np.copyto(best, probability[number], where=better)
        np.copyto(out, np.uint8(number), where=better)


def class_probabilities(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """A band for each class, (classes, H, W), from (C, H, W) as `probabilities` gives them."""
    return np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability

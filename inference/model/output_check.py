"""Check of a network's output against the unit that its card declares: logits or probabilities.

A wrong declaration yields a plausible but wrong map. Two facts are certain: probabilities lie in 0..1, and those of
all classes add up to one. The reverse, logits that are probabilities already, is decided over many tiles: logits of a
trained network leave 0..1 wherever it is sure of a class.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.card import ModelCard
from inference.common.errors import UserError

RANGE_ROUNDING = 2e-3
"""Distance from 0..1 that float16 and an interpolation of probabilities explain."""
SUM_ROUNDING = 2e-2
"""Distance from one of the sum over the classes that bfloat16 explains."""
_EXACT_SUM = 1e-3  # logits never add up to one in all pixels as closely as this
_NEAR_END = 0.05  # distance from 0 or 1 that probabilities of a trained network reach in some pixel
_SPREAD = 0.1  # smaller differences between all outputs, as of an image of one colour, are no evidence
_ENOUGH = 64  # tiles after which a map that can't be right is stopped


@dataclass(frozen=True)
class OutputRange:
    """Range of the logits of a batch of tiles.

    Attributes:
        tiles: Number of tiles.
        lowest: Smallest value.
        highest: Largest value.
        sums_to_one: True if the values of the classes of each pixel add up to one.
    """

    tiles: int
    lowest: float
    highest: float
    sums_to_one: bool


class OutputCheck:
    """Check of all outputs for one map.

    Args:
        card: Card of the model.
        name: Model, for error messages.
        declared: What declares the unit: "its card" or the path of a card file.
        part: True for outputs of a part of the map that isn't its beginning. Its logits can't be judged alone; the
            check of the whole map counts the ranges of all parts in order.

    Attributes:
        ranges: Ranges of the batches, up to the first one that leaves 0..1.
    """

    def __init__(self, card: ModelCard, name: str, declared: str = "its card", part: bool = False) -> None:
        self._card, self._name, self._declared, self._part = card, name, declared, part
        self.ranges: list[OutputRange] = []
        self._lowest, self._highest = np.inf, -np.inf
        self._sums_to_one = card.channels > 1
        self._tiles = 0

    def add(self, output: NDArray[Any]) -> None:
        """Check a batch of outputs, before it is converted to probabilities.

        Args:
            output: (N, C, tile, tile); class indices (integers) are not checked.

        Raises:
            UserError: The values aren't what the card declares.
        """
        if output.ndim != 4 or not np.issubdtype(output.dtype, np.floating) or not output.size:
            return
        declared = self._card.output == "probabilities"
        if not declared and (self._lowest < 0 or self._highest > 1):
            return  # they are logits
        lowest, highest = float(output.min()), float(output.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            return  # `probabilities` reports it
        if declared:
            self._check_probabilities(output, lowest, highest)
            return
        inside = lowest >= 0 and highest <= 1
        sums_to_one = self._sums_to_one and inside and _distance_from_one(output) <= _EXACT_SUM
        self.count(OutputRange(len(output), lowest, highest, sums_to_one))

    def count(self, found: OutputRange) -> None:
        """Count the range of a batch.

        Raises:
            UserError: The card declares logits, and many tiles hold probabilities alone.
        """
        self.ranges.append(found)
        self._lowest, self._highest = min(self._lowest, found.lowest), max(self._highest, found.highest)
        if self._lowest < 0 or self._highest > 1:
            return
        self._sums_to_one = self._sums_to_one and found.sums_to_one
        before = self._tiles
        self._tiles += found.tiles
        if before < _ENOUGH <= self._tiles and not self._part:
            self.finish()

    def finish(self) -> None:
        """Check the outputs as a whole.

        Raises:
            UserError: The card declares logits, and all values are probabilities.
        """
        if self._card.output == "probabilities" or not self._tiles:
            return
        low, high = self._lowest, self._highest
        inside = 0 <= low < high <= 1
        near_end = low <= _NEAR_END or high >= 1 - _NEAR_END
        # Our exporter, which records its software, applies no activation to logits: there, a network may be unsure.
        varied = high - low >= _SPREAD and not self._card.software
        if inside and (self._sums_to_one or near_end or varied):
            raise UserError(
                f"{self._name}: all outputs lie between {low:.3g} and {high:.3g}"
                f"{', and those of the classes add up to 1' if self._sums_to_one else ''}: they are probabilities "
                f"already, but {self._declared} says logits, to which {self._card.activation} would be applied once "
                "more (set output: probabilities in the card; in a habitat-mapper configuration activation: null)"
            )

    def _check_probabilities(self, output: NDArray[Any], lowest: float, highest: float) -> None:
        if lowest < -RANGE_ROUNDING or highest > 1 + RANGE_ROUNDING:
            raise UserError(
                f"{self._name}: its outputs reach from {lowest:.4g} to {highest:.4g}, but {self._declared} says "
                f"probabilities (allowed: 0 to 1; for logits set output: logits in the card; in a habitat-mapper "
                f"configuration activation: {self._card.activation})"
            )
        if self._card.channels > 1 and (distance := _distance_from_one(output)) > SUM_ROUNDING:
            raise UserError(
                f"{self._name}: its outputs for the {self._card.channels} classes of a pixel add up to 1 only within "
                f"{distance:.2g}, but {self._declared} says probabilities of classes that exclude each other (allowed: "
                "a sum of 1; are they independent sigmoids? Export the network with softmax, or its logits)"
            )


def _distance_from_one(output: NDArray[Any]) -> float:
    """Return the largest distance from one of the sum over the channels."""
    total = output[:, 0].astype(np.float32)
    for channel in range(1, output.shape[1]):  # several times as fast as a sum over an inner axis
        total += output[:, channel]
    return max(float(total.max()) - 1, 1 - float(total.min()))

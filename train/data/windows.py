"""Positions of the windows of an epoch: pure functions of image sizes, seed, epoch and index.

A window is a square of `tile` pixels. Validation and test windows form a grid, so that every pixel is in exactly one.
Training windows are drawn at random from (seed, epoch, index) alone, so that they don't depend on the number of workers
or devices, nor on a resumed run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.data.foreground import BlockForeground, Foreground


@dataclass(frozen=True)
class WindowPosition:
    """Position of a window.

    Attributes:
        scene: Scene number.
        row: Row of its first pixel in the image; may be negative.
        col: Column of its first pixel in the image; may be negative.
    """

    scene: int
    row: int
    col: int


def grid(sizes: Sequence[tuple[int, int]], tile: int) -> list[WindowPosition]:
    """Return windows that cover every pixel of every image exactly once.

    Args:
        sizes: (height, width) of each image, pixels.
        tile: Side of a window, pixels.
    """
    return [
        WindowPosition(scene, row, col)
        for scene, (height, width) in enumerate(sizes)
        for row in range(0, height, tile)
        for col in range(0, width, tile)
    ]


def quotas(sizes: Sequence[tuple[int, int]], tile: int) -> list[int]:
    """Return the number of training windows of each image in an epoch, ceil(area / tile²): one for a chip of one tile.

    Args:
        sizes: (height, width) of each image, pixels.
        tile: Side of a window, pixels.
    """
    return [math.ceil(height * width / tile**2) for height, width in sizes]


class TrainingWindows:
    """Random training windows of every epoch.

    Args:
        sizes: (height, width) of each image, pixels.
        tile: Side of a window, pixels.
        seed: Seed of all random numbers.
        samples_per_epoch: Windows in an epoch; None for the sum of the quotas.
        foreground: Foreground pixels of the images.
        foreground_share: Share of the windows that are placed on a foreground pixel, 0 to 1.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        tile: int,
        seed: int,
        samples_per_epoch: int | None = None,
        foreground: Foreground | BlockForeground | None = None,
        foreground_share: float = 0.0,
    ) -> None:
        self.sizes = list(sizes)
        self.tile = tile
        self.seed = seed
        self._scene_of = np.repeat(np.arange(len(self.sizes)), quotas(sizes, tile))
        self.per_epoch = samples_per_epoch or len(self._scene_of)
        self.foreground = foreground
        self.foreground_share = foreground_share if foreground is not None and len(foreground) else 0.0

    def __len__(self) -> int:
        return self.per_epoch

    def scenes(self, epoch: int) -> NDArray[np.int64]:
        """Return the scene number of each window of an epoch in training order, (len(self),).

        The numbers are dealt from shuffled decks, in which each image occurs as often as its quota; a new deck is
        shuffled when one is used up. With the default number of windows an epoch is exactly one deck.
        """
        deck = len(self._scene_of)
        first = epoch * self.per_epoch
        decks = range(first // deck, (first + self.per_epoch - 1) // deck + 1)
        dealt = np.concatenate([np.random.default_rng([self.seed, 0, d]).permutation(self._scene_of) for d in decks])
        return dealt[first - decks[0] * deck :][: self.per_epoch]

    def draw_position(self, scene: int, rng: np.random.Generator) -> WindowPosition:
        """Draw the position of a window in a scene, or, for a foreground window, in the scene of its pixel."""
        wanted = None
        if self.foreground is not None and rng.random() < self.foreground_share:
            scene, wanted = self.foreground.draw(rng)
        corner = []
        for axis, length in enumerate(self.sizes[scene]):
            spare = length - self.tile
            low, high = min(0, spare), max(0, spare)
            if wanted is None:
                corner.append(int(rng.integers(low, high + 1)))
            else:
                # Uniform over the positions that contain the pixel, then clipped to stay inside the image.
                corner.append(int(np.clip(rng.integers(wanted[axis] - self.tile + 1, wanted[axis] + 1), low, high)))
        return WindowPosition(scene, corner[0], corner[1])


def batches(count: int, batch_size: int, world: int = 1) -> list[list[NDArray[np.int64]]]:
    """Divide the indices 0..count-1 into batches: one list per rank, each with the same number of batches.

    No window is dropped. The sizes of all batches differ by at most one, so that the last batch is not a single window,
    on which batch normalisation fails.

    Args:
        count: Windows in an epoch.
        batch_size: Largest number of windows in a batch.
        world: Number of ranks.
    """
    steps = math.ceil(count / (batch_size * world))
    parts = np.array_split(np.arange(count), steps * world) if count >= steps * world else None
    if parts is None:
        # Fewer windows than ranks: some occur twice, because every rank must take part in every step.
        parts = np.array_split(np.resize(np.arange(count), steps * world), steps * world)
    return [parts[rank::world] for rank in range(world)]

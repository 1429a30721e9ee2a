"""Which windows of which images an epoch is made of: pure functions of sizes, seed, epoch and index.

A window is a square of `tile` pixels. Validation and test windows are a grid, so that every pixel is in exactly one.
Training windows are drawn, and nothing but (seed, epoch, index) decides where they lie: any number of workers, any
number of devices and any interruption give the same ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowAt:
    """The window of scene number `scene` whose first pixel is at (row, col); that may lie outside the image."""

    scene: int
    row: int
    col: int


@dataclass(frozen=True)
class Foreground:
    """Where the pixels are that are neither background nor ignored, as small groups of neighbours.

    Attributes:
        scenes: (groups,) number of the scene that each lies in.
        cumulative: (groups,) running sum of their pixels.
        points: (groups, k, 2) row and column of k pixels of each, drawn with replacement.
    """

    scenes: NDArray[np.int64]
    cumulative: NDArray[np.int64]
    points: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.scenes)

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """A scene, and (row, column) of one of its foreground pixels: more often where there are more."""
        group = int(np.searchsorted(self.cumulative, rng.integers(self.cumulative[-1]), side="right"))
        row, col = self.points[group, rng.integers(self.points.shape[1])]
        return int(self.scenes[group]), (int(row), int(col))


def grid(sizes: Sequence[tuple[int, int]], tile: int) -> list[WindowAt]:
    """Windows that cover every pixel of images of these (height, width) exactly once."""
    return [
        WindowAt(scene, row, col)
        for scene, (height, width) in enumerate(sizes)
        for row in range(0, height, tile)
        for col in range(0, width, tile)
    ]


def quotas(sizes: Sequence[tuple[int, int]], tile: int) -> list[int]:
    """How many training windows each image gets in an epoch: ceil(area / tile²), so that a one-tile chip gets one."""
    return [math.ceil(height * width / tile**2) for height, width in sizes]


class TrainingWindows:
    """The training windows of every epoch.

    Args:
        sizes: (height, width) of each image, pixels.
        tile: Side of a window, pixels.
        seed: Everything drawn follows from it.
        samples_per_epoch: Windows in an epoch; None: the sum of the quotas.
        foreground: Where windows with foreground are found.
        foreground_share: Share of windows that are placed on a pixel of it.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        tile: int,
        seed: int,
        samples_per_epoch: int | None = None,
        foreground: Foreground | None = None,
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
        """Scene number of each window of an epoch, in the order of training, shape (len(self),).

        Images are dealt out like cards: a new deck, each image as often as its quota, is shuffled when the last one is
        used up. With the default number of windows an epoch is one deck.
        """
        deck = len(self._scene_of)
        first = epoch * self.per_epoch
        decks = range(first // deck, (first + self.per_epoch - 1) // deck + 1)
        dealt = np.concatenate([np.random.default_rng([self.seed, 0, d]).permutation(self._scene_of) for d in decks])
        return dealt[first - decks[0] * deck :][: self.per_epoch]

    def place(self, scene: int, rng: np.random.Generator) -> WindowAt:
        """Where a window lies, drawn with this generator."""
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
                # Anywhere that has the wanted pixel inside and as little as possible beyond the image.
                corner.append(int(np.clip(rng.integers(wanted[axis] - self.tile + 1, wanted[axis] + 1), low, high)))
        return WindowAt(scene, corner[0], corner[1])


def batches(count: int, batch_size: int, world: int = 1) -> list[list[NDArray[np.int64]]]:
    """Indices 0..count-1 dealt into batches: one list for each rank, each with the same number of batches.

    An epoch leaves no window out. So that the last batch isn't a rest of one window (with which batch normalisation
    can't work), all batches are nearly equal, none larger than `batch_size`.
    """
    steps = math.ceil(count / (batch_size * world))
    parts = np.array_split(np.arange(count), steps * world) if count >= steps * world else None
    if parts is None:
        # Fewer windows than devices: some are seen twice, because every device must take part in every step.
        parts = np.array_split(np.resize(np.arange(count), steps * world), steps * world)
    return [parts[rank::world] for rank in range(world)]

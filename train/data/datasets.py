"""Datasets of windows, and samplers that group them into batches; `train/datamodule.py` describes a batch."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from inference.common.signals import leave_signals_to_parent
from train.data.pairs import Scene
from train.data.reader import Reader
from train.data.windows import TrainingWindows, WindowPosition, batches, grid
from train.transforms import Augmentation, UserAugmentation

Sample = tuple[NDArray[Any], NDArray[np.uint8], tuple[int, int, int]]
Batch = dict[str, torch.Tensor]

# Index of a padding window: it fills up a rank's last batches in validation, and all of its labels are ignored.
PADDING = -1


class TrainDataset(Dataset[Sample]):
    """Augmented training windows, by (epoch, index).

    Args:
        scenes: Scenes of the train split.
        bands: Bands to read, from 1.
        reader: Reader of the windows.
        windows: Positions of the windows.
        augment: Augmentation.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        bands: Sequence[int],
        reader: Reader,
        windows: TrainingWindows,
        augment: Augmentation | UserAugmentation,
    ) -> None:
        self.scenes, self.bands, self.reader, self.windows, self.augment = scenes, bands, reader, windows, augment
        self._scene_numbers = lru_cache(maxsize=2)(windows.scenes)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_scene_numbers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._scene_numbers = lru_cache(maxsize=2)(self.windows.scenes)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        rng = np.random.default_rng([self.windows.seed, 1, epoch, index])
        at = self.windows.draw_position(int(self._scene_numbers(epoch)[index]), rng)
        image, label, invalid = self.reader.window(self.scenes[at.scene], self.bands, at.row, at.col, self.windows.tile)
        image, label = self.augment(image, label, invalid, int(rng.integers(2**31)))
        return image, label, (at.scene, at.row, at.col)


class GridDataset(Dataset[Sample]):
    """Windows that cover every pixel of every scene exactly once, by index; `PADDING` is a window that is all ignored.

    Args:
        scenes: Scenes of the split.
        bands: Bands to read, from 1.
        reader: Reader of the windows.
        tile: Side of a window, pixels.
    """

    def __init__(self, scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, tile: int) -> None:
        self.scenes, self.bands, self.reader, self.tile = scenes, bands, reader, tile
        self.windows: list[WindowPosition] = grid([(s.height, s.width) for s in scenes], tile)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        at = self.windows[max(index, 0)]
        image, label, _ = self.reader.window(self.scenes[at.scene], self.bands, at.row, at.col, self.tile)
        if index == PADDING:
            label = np.full_like(label, self.reader.rule.ignore_index)
        return image, label, (at.scene, at.row, at.col)


class TrainBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys for one rank; can start within an epoch when a run is resumed.

    Args:
        count: Windows in an epoch.
        batch_size: Largest number of windows in a batch.
        rank: Rank of this process.
        world: Number of ranks.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self._batches = batches(count, batch_size, world)[rank]
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "TrainBatchSampler":
        """This sampler: Lightning calls `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch; Lightning calls it before each one."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # Evaluated here and not in a generator: Lightning creates the iterator before it calls set_epoch.
        epoch, rest = self.epoch, self._batches[self.start :]
        return ([(epoch, int(i)) for i in batch] for batch in rest)


class GridBatchSampler(Sampler[list[int]]):
    """Batches of consecutive windows, distributed over the ranks batch by batch.

    A batch is the same on one device and on several. Ranks with one batch less get a padding batch, because in a
    distributed run every rank must take every step.

    Args:
        count: Windows in the split.
        batch_size: Largest number of windows in a batch.
        rank: Rank of this process.
        world: Number of ranks.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        whole = [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
        whole += [[PADDING]] * (-len(whole) % world)
        self._batches = whole[rank::world]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack windows to a batch; the image stays pixel-interleaved in memory, PyTorch's channels-last format."""
    images, labels, at = zip(*samples, strict=True)
    return {
        "image": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        "label": torch.from_numpy(np.stack(labels)),
        "at": torch.tensor(at),
    }


def init_worker(_: int) -> None:
    """Prepare a worker process: one OpenCV thread, and signals left to the main process."""
    cv2.setNumThreads(0)
    leave_signals_to_parent()

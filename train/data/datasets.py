"""Windows as samples, and the batches that they come in; see `train/datamodule.py` for what a batch holds."""

import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from train.data.pairs import Scene
from train.data.reader import Reader
from train.data.windows import TrainingWindows, WindowAt, batches, grid
from train.transforms import Augmentation, UserAugmentation

Sample = tuple[NDArray[Any], NDArray[np.uint8], tuple[int, int, int]]
Batch = dict[str, torch.Tensor]

# A window that is nowhere: it fills up a device's last batches in validation, and all of it is ignored.
NOWHERE = -1


class TrainDataset(Dataset[Sample]):
    """Augmented training windows, by (epoch, index)."""

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
        at = self.windows.place(int(self._scene_numbers(epoch)[index]), rng)
        image, label, invalid = self.reader.window(self.scenes[at.scene], self.bands, at.row, at.col, self.windows.tile)
        image, label = self.augment(image, label, invalid, int(rng.integers(2**31)))
        return image, label, (at.scene, at.row, at.col)


class GridDataset(Dataset[Sample]):
    """Every pixel of every scene exactly once, by number of the window; `NOWHERE` is a window that is all ignored."""

    def __init__(self, scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, tile: int) -> None:
        self.scenes, self.bands, self.reader, self.tile = scenes, bands, reader, tile
        self.windows: list[WindowAt] = grid([(s.height, s.width) for s in scenes], tile)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        at = self.windows[max(index, 0)]
        image, label, _ = self.reader.window(self.scenes[at.scene], self.bands, at.row, at.col, self.tile)
        if index == NOWHERE:
            label = np.full_like(label, self.reader.rule.ignore_index)
        return image, label, (at.scene, at.row, at.col)


class TrainBatches(Sampler[list[tuple[int, int]]]):
    """The batches of an epoch as (epoch, index) keys, for one rank; starts inside an epoch after a resume."""

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self._batches = batches(count, batch_size, world)[rank]
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "TrainBatches":
        """Where Lightning looks for the `set_epoch` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # Read now, not when the first batch is asked for: Lightning makes the iterator, then calls set_epoch.
        epoch, rest = self.epoch, self._batches[self.start :]
        return ([(epoch, int(i)) for i in batch] for batch in rest)


class GridBatches(Sampler[list[int]]):
    """Windows in their order, dealt out to the ranks batch by batch.

    Whole batches are dealt out, so that a batch is the same on one device and on many, and ranks with one batch less
    get one that is all ignored: in a distributed run every rank must take every step.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        whole = [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
        whole += [[NOWHERE]] * (-len(whole) % world)
        self._batches = whole[rank::world]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


def collate(samples: Sequence[Sample]) -> Batch:
    """Windows to a batch; the image keeps its pixel-interleaved memory, which is PyTorch's channels-last."""
    images, labels, at = zip(*samples, strict=True)
    return {
        "image": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        "label": torch.from_numpy(np.stack(labels)),
        "at": torch.tensor(at),
    }


def init_worker(_: int) -> None:
    """Readies a worker process: one thread each, and Ctrl-C is the main process's to handle."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""GeoTIFF pairs to batches: the LightningDataModule.

A batch is a dict: `image` (N, bands, H, W) in units of the file (uint8 where the files are uint8, else float32: the network
normalises on the device), `label` (N, H, W) uint8 with ignore_index where a pixel counts nowhere, `at` (N, 3) int64 with
the scene's number, row and column of each window.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from train.configs.config import Config, DataModuleConfig
from train.errors import UserError
from train.geotiff import LabelRule, Reader
from train.normalization import Normalization, normalization
from train.scenes import SPLITS, Scene, choose_bands, find_pairs, read_scenes
from train.survey import foreground
from train.transforms import Augmentation
from train.windows import TrainingWindows, WindowAt, batches, grid

Sample = tuple[NDArray[Any], NDArray[np.uint8], tuple[int, int, int]]
Batch = dict[str, torch.Tensor]

# A window that is nowhere: it fills up a device's last batches in validation, and all of it is ignored.
NOWHERE = -1


class TrainDataset(Dataset[Sample]):
    """Augmented training windows, by (epoch, index)."""

    def __init__(
        self, scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, windows: TrainingWindows, augment: Augmentation
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

    Whole batches are dealt out, so that a batch is the same on one device and on many, and ranks with one batch less get
    one that is all ignored: in a distributed run every rank must take every step.
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


def _worker(_: int) -> None:
    # One process a core is enough; Ctrl-C is the main process's to handle.
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class DataModule(L.LightningDataModule):
    """Windows of the GeoTIFFs in `data_dir`, as the config has it.

    After `prepare`, `scenes` has the images of each split, and `bands`, `dtype`, `rule` and `normalization` say how they
    are read. `notices` is what the user should know.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.settings: DataModuleConfig = config.data_module
        self.scenes: dict[str, list[Scene]] = {}
        self.bands: tuple[int, ...] = ()
        self.dtype = ""
        self.notices: list[str] = []
        self.normalization: Normalization | None = None
        self.rule = label_rule(config)
        self._resume: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Finds the files, reads their headers and settles how pixels are normalised; once.

        Raises:
            UserError: The data set doesn't fit the config.
        """
        if self.normalization is not None:
            return
        self.data_dir = data_dir(self.settings.data_dir)
        for split in SPLITS:
            if split == "test" and not (self.data_dir / split).is_dir():
                self.notices.append(f"{self.data_dir}: has no test/, so there will be no test scores")
                continue
            self.scenes[split] = read_scenes(find_pairs(self.data_dir, split))
        self.bands, self.dtype = self._one_kind()
        self.notices += self._label_notices()
        rule = self.rule
        self.normalization, notice = normalization(
            self.settings, self.scenes["train"], self.bands, Reader(rule, self.settings.fill_value, cores()), self.dtype
        )
        self.notices += [notice] if notice else []
        self._check_fill_value()

    def _one_kind(self) -> tuple[tuple[int, ...], str]:
        """Bands to read and data type, which must be the same in all files."""
        first: Scene | None = None
        bands: tuple[int, ...] = ()
        problems = []
        for scene in (s for scenes in self.scenes.values() for s in scenes):
            try:
                chosen = choose_bands(scene, self.settings.bands, self.config.num_bands)
            except UserError as error:
                problems.append(str(error))
                continue
            if first is None:
                first, bands = scene, chosen
            elif scene.image.dtype != first.image.dtype:
                problems.append(
                    f"{scene.pair.image}: is {scene.image.dtype}, {first.pair.image.name} is {first.image.dtype} "
                    "(all images must be of one type)"
                )
            elif chosen != bands:
                problems.append(f"{scene.pair.image}: has its alpha band elsewhere (choose with data_module.bands)")
        if problems or first is None:
            more = [f"... and {len(problems) - 10} more"] if len(problems) > 10 else []
            raise UserError("\n".join([*problems[:10], *more]))
        return bands, first.image.dtype

    def _check_fill_value(self) -> None:
        info = np.iinfo(self.dtype) if np.dtype(self.dtype).kind in "iu" else np.finfo(np.float32)
        if not info.min <= self.settings.fill_value <= info.max:
            raise UserError(f"data_module.fill_value: {self.settings.fill_value:g} is no value of {self.dtype}")
        if np.dtype(self.dtype).kind in "iu" and not float(self.settings.fill_value).is_integer():
            raise UserError(f"data_module.fill_value: {self.settings.fill_value:g} is no whole number ({self.dtype})")

    def _label_notices(self) -> list[str]:
        """Label files whose nodata value is a class: it stays that class, which should not come as a surprise."""
        if self.rule.nodata is not None:
            return []
        kept: dict[float, int] = {}
        for scene in (s for scenes in self.scenes.values() for s in scenes):
            nodata = scene.label.nodata
            if nodata is not None and float(nodata).is_integer() and self.rule.class_of(int(nodata)) is not None:
                kept[nodata] = kept.get(nodata, 0) + 1
        return [
            f"{count} label files have nodata {value:g}, which is a class: it stays that class "
            f"(to ignore those pixels: data_module.label_nodata: {value:g})"
            for value, count in kept.items()
        ]

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook; the same as `prepare`."""
        self.prepare()

    def train_dataset(self) -> TrainDataset:
        """Windows of the train split."""
        scenes = self.scenes["train"]
        settings = self.settings
        where = None
        if settings.foreground_share:
            reader = Reader(self.rule, settings.fill_value, cores())
            where = foreground(scenes, reader, background_index(self.config), "looking for foreground")
            if not len(where.cells):
                raise UserError(
                    "data_module.foreground_share: the train split has no pixel of any class but the background"
                )
        windows = TrainingWindows(
            [(s.height, s.width) for s in scenes],
            self.config.tile_size,
            self.config.seed,
            settings.samples_per_epoch,
            where,
            settings.foreground_share or 0.0,
        )
        augment = Augmentation(
            settings.augmentation, len(self.bands), self.dtype, self.rule.ignore_index, settings.fill_value
        )
        return TrainDataset(scenes, self.bands, self._reader(), windows, augment)

    def grid_dataset(self, split: str) -> GridDataset:
        """Windows of the val or test split."""
        return GridDataset(self.scenes[split], self.bands, self._reader(), self.config.tile_size)

    def _reader(self) -> Reader:
        # With workers every core is busy anyway.
        return Reader(self.rule, self.settings.fill_value, threads=1 if self.workers else cores())

    @property
    def workers(self) -> int:
        """Processes that read and augment."""
        return default_workers() if self.settings.num_workers is None else self.settings.num_workers

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(self, dataset: Dataset[Sample], sampler: Sampler[Any]) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=self.settings.pin_memory and torch.cuda.is_available(),
            persistent_workers=self.settings.persistent_workers and self.workers > 0,
            worker_init_fn=_worker,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches of training windows."""
        dataset = self.train_dataset()
        sampler = TrainBatches(len(dataset.windows), self.config.batch_size, *self._rank())
        if self._resume is not None:
            sampler.epoch, sampler.start = self._resume
            if sampler.start >= len(sampler):
                sampler.epoch, sampler.start = sampler.epoch + 1, 0
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Batches of validation windows."""
        dataset = self.grid_dataset("val")
        return self._loader(dataset, GridBatches(len(dataset), self.config.batch_size, *self._rank()))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Batches of test windows."""
        dataset = self.grid_dataset("test")
        return self._loader(dataset, GridBatches(len(dataset), self.config.batch_size, *self._rank()))

    def state_dict(self) -> dict[str, Any]:
        """Where training stands: the epoch, and how many of its batches are done."""
        if self.trainer is None:
            return {}
        done: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {
            # Of the epoch in progress: `current_epoch` is one ahead while an epoch's last hooks run.
            "epoch": self.trainer.fit_loop.epoch_progress.current.completed,
            "batches": done.processed,
            "of": int(self.trainer.num_training_batches),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where training stood."""
        self._resume = (state_dict["epoch"], state_dict["batches"])


def data_dir(name: str) -> Path:
    """The folder that `data_dir` names; draws the demo data set where it is asked for."""
    if "://" in name:
        from train.demo import demo_data_dir

        return demo_data_dir(name)
    return Path(name).expanduser()


def label_rule(config: Config) -> LabelRule:
    """How this config reads label files."""
    mapping = config.data_module.label_map or {}
    return LabelRule(config.labels, config.ignore_index, tuple(mapping.items()), config.data_module.label_nodata)


def background_index(config: Config) -> int | None:
    """The class that is background, None where there is none."""
    index = config.data_module.background_index
    if index == "none":
        return None
    return 0 if index is None else index


def class_names(config: Config) -> list[str]:
    """A name for each class."""
    given = config.data_module.class_names
    if given is not None:
        return list(given)
    if config.num_classes == 1:
        return ["background", "target"]
    background = background_index(config)
    return ["background" if i == background else f"class_{i}" for i in range(config.num_classes)]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Worker processes where the config doesn't say: a core is left for the training itself."""
    return max(0, min(8, cores() - 1))

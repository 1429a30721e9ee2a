"""LightningDataModule that reads batches of windows from pairs of GeoTIFFs.

A batch is a dict: `image` (N, bands, H, W) in units of the file, uint8 where the files are uint8, else float32 (the
network normalises on the device); `label` (N, H, W) uint8, with ignore_index at ignored pixels; `at` (N, 3) int64, the
scene number, row and column of each window.
"""

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from inference.common.cpu import cores
from train.configs.config import Config, DataModuleConfig
from train.data.datasets import (
    GridBatchSampler,
    GridDataset,
    Sample,
    TrainBatchSampler,
    TrainDataset,
    collate,
    init_worker,
)
from train.data.find_scenes import with_class_names
from train.data.labelled_images import LabelledImages
from train.data.labels import LabelRule
from train.data.pairs import Scene
from train.data.reader import Reader
from train.data.windows import TrainingWindows, quotas
from train.transforms import Augmentation, UserAugmentation


class DataModule(L.LightningDataModule):
    """Windows of the GeoTIFFs in the config's `data_dir`.

    Args:
        config: Resolved config.
        images: Labelled images of the config, if they have been looked at already.

    Attributes:
        images: Files, bands, data type and normalisation of the data set.
    """

    def __init__(self, config: Config, images: LabelledImages | None = None) -> None:
        super().__init__()
        self.config = config
        self.settings: DataModuleConfig = config.data_module
        self.images = LabelledImages(config) if images is None else images
        self._omissions: list[str] | None = None
        self._resume: tuple[int, int] | None = None

    @property
    def scenes(self) -> dict[str, list[Scene]]:
        """Images of each split, or blocks of images; empty before `prepare`."""
        return self.images.scenes

    @property
    def bands(self) -> tuple[int, ...]:
        """Bands to read, from 1."""
        return self.images.bands

    @property
    def rule(self) -> LabelRule:
        """Label rule: classes, ignored values."""
        return self.images.rule

    @property
    def workers(self) -> int:
        """Number of worker processes that read and augment."""
        return self.images.workers

    @property
    def notices(self) -> list[str]:
        """Lines for the user."""
        return [*self.images.notices, *(self._omissions or [])]

    def prepare(self) -> None:
        """Prepare the images unless that is done, and check that the augmentation fits them; later calls do nothing.

        Raises:
            UserError: The data set or the augmentation does not fit the config.
        """
        self.images.prepare()
        self.replace_config(with_class_names(self.config, self.images.prepared))
        if self._omissions is None:
            self._omissions = self._augmentation_notices()

    def _augmentation_notices(self) -> list[str]:
        omitted = self._augmentation().omitted
        if not omitted:
            return []
        why = f"defined for three bands, the images have {len(self.bands)}"
        if self.images.dtype != "uint8":
            why = f"defined for uint8, the images are {self.images.dtype}"
        return [f"augmentation {self.settings.augmentation} omits {', '.join(omitted)}: {why}"]

    def _augmentation(self) -> Augmentation | UserAugmentation:
        wanted, fill_value = self.settings.augmentation, self.settings.fill_value
        bands, ignore_index = len(self.bands), self.rule.ignore_index
        if isinstance(wanted, dict):
            return UserAugmentation(wanted, bands, self.images.dtype, ignore_index, fill_value, self.config.tile_size)
        return Augmentation(wanted, bands, self.images.dtype, ignore_index, fill_value)

    def setup(self, stage: str | None = None) -> None:
        """Call `prepare`; Lightning's hook."""
        self.prepare()

    def train_dataset(self) -> TrainDataset:
        """Return the dataset of the train split.

        Raises:
            UserError: `foreground_share` is set and the split has no foreground.
        """
        scenes = self.scenes["train"]
        settings = self.settings
        reader = self.reader()
        foreground = self.images.foreground(reader) if settings.foreground_share else None
        windows = TrainingWindows(
            [(s.height, s.width) for s in scenes],
            self.config.tile_size,
            self.config.seed,
            settings.samples_per_epoch,
            foreground,
            settings.foreground_share or 0.0,
        )
        return TrainDataset(scenes, self.bands, reader, windows, self._augmentation())

    def grid_dataset(self, split: str) -> GridDataset:
        """Return the dataset of the val or test split."""
        return GridDataset(self.scenes[split], self.bands, self.reader(), self.config.tile_size)

    def reader(self) -> Reader:
        """Return a reader with the label rule and fill value of this data set."""
        # With worker processes all cores are busy already.
        threads = 1 if self.workers else cores()
        return Reader(self.rule, self.settings.fill_value, threads, processes=self.workers)

    def replace_config(self, config: Config) -> None:
        """Replace the config by one with the same settings of files and pixels (another batch size, for instance)."""
        self.config, self.settings = config, config.data_module

    @property
    def windows_per_epoch(self) -> int:
        """Number of training windows in an epoch, over all devices."""
        sizes = [(s.height, s.width) for s in self.scenes["train"]]
        return self.settings.samples_per_epoch or sum(quotas(sizes, self.config.tile_size))

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
            worker_init_fn=init_worker,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of training windows."""
        dataset = self.train_dataset()
        sampler = TrainBatchSampler(len(dataset.windows), self.config.batch, *self._rank())
        if self._resume is not None:
            sampler.epoch, sampler.start = self._resume
            if sampler.start >= len(sampler):
                sampler.epoch, sampler.start = sampler.epoch + 1, 0
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of validation windows."""
        dataset = self.grid_dataset("val")
        return self._loader(dataset, GridBatchSampler(len(dataset), self.config.batch, *self._rank()))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of test windows."""
        dataset = self.grid_dataset("test")
        return self._loader(dataset, GridBatchSampler(len(dataset), self.config.batch, *self._rank()))

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training: the epoch, its finished batches, and its number of batches."""
        if self.trainer is None:
            return {}
        done: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {
            # Not `current_epoch`, which is one ahead while the last hooks of an epoch run.
            "epoch": self.trainer.fit_loop.epoch_progress.current.completed,
            "batches": done.processed,
            "of": int(self.trainer.num_training_batches),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the position that `state_dict` returned."""
        self._resume = (state_dict["epoch"], state_dict["batches"])

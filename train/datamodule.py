"""LightningDataModule that reads batches of windows from pairs of GeoTIFFs.

A batch is a dict: `image` (N, bands, H, W) in units of the file, uint8 where the files are uint8, else float32 (the
network normalises on the device); `label` (N, H, W) uint8, with ignore_index at ignored pixels; `at` (N, 3) int64, the
scene number, row and column of each window.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from inference.common.cpu import cores, default_workers, most_workers
from inference.common.errors import UserError
from inference.common.raster import Header
from inference.common.validity import check_nodata
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
from train.data.foreground import find_foreground
from train.data.labels import label_rule
from train.data.normalization import Normalization, given_normalization, measured_normalization
from train.data.pairs import SPLITS, Scene, choose_bands, data_dir, find_pairs, join_some, read_scenes
from train.data.placement import georeference_notices, label_notices, oblong_notices
from train.data.reader import Reader
from train.data.stated_bands import alpha_lines, contradiction_lines, data_in_alpha, most_stated
from train.data.statistics import Statistics, measure, merge
from train.data.undeclared import (
    Suspects,
    auto_notices,
    detector_for,
    search,
    suspect_notices,
    with_nodata,
)
from train.data.windows import TrainingWindows, quotas
from train.transforms import Augmentation, UserAugmentation


class DataModule(L.LightningDataModule):
    """Windows of the GeoTIFFs in the config's `data_dir`.

    Attributes:
        scenes: Images of each split; empty before `prepare`.
        bands: Bands to read, from 1.
        dtype: Data type of the images.
        rule: Label rule: classes, ignored values.
        normalization: Normalisation of pixels; None before `prepare`.
        band_colours: Colour that each band states in most images; None if none states any.
        band_descriptions: Description of each band in most images; None if none has any.
        nodata: Value of invalid pixels in files that declare none; None for no value.
        notices: Lines for the user.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.settings: DataModuleConfig = config.data_module
        self.scenes: dict[str, list[Scene]] = {}
        self.bands: tuple[int, ...] = ()
        self.dtype = ""
        self.band_colours: list[str | None] | None = None
        self.band_descriptions: list[str | None] | None = None
        self.nodata: float | None = None
        self._measured_suspects: Suspects | None = None
        self.notices: list[str] = []
        self.normalization: Normalization | None = None
        self.rule = label_rule(config)
        self._resume: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Find the files, read their headers and determine the normalisation; later calls do nothing.

        Raises:
            UserError: The data set does not fit the config.
        """
        if self.normalization is not None:
            return
        if problems := self.find():
            raise UserError("\n".join(problems))
        self.normalize()
        self.notices += self._undeclared_notices() + self.alpha_notices()

    def find(self) -> list[str]:
        """Find the files and read their headers, but no pixels.

        Returns:
            Problems, one line each. If there are any, `scenes` contains the valid images.
        """
        try:
            self.data_dir = data_dir(self.settings.data_dir)
        except UserError as error:
            return [str(error)]
        problems = []
        if self.workers > most_workers():
            problems.append(
                f"data_module.num_workers: {self.workers} workers need more open files than this process may have "
                f"(allowed: 0 to {most_workers()}, or raise the limit with ulimit -n)"
            )
        for split in SPLITS:
            if split == "test" and not (self.data_dir / split).exists():
                self.notices.append(f"{self.data_dir}: has no test/, so there will be no test scores")
                continue
            found = find_pairs(self.data_dir, split)
            self.scenes[split], invalid = read_scenes(found.pairs)
            self.notices += found.notices
            problems += found.problems + invalid
        problems += self._settle_bands_and_dtype()
        scenes = [scene for found in self.scenes.values() for scene in found]
        headers = [scene.image for scene in scenes]
        self.notices += label_notices(scenes, self.rule) + georeference_notices(headers) + oblong_notices(headers)
        several = [s.image.path for scenes in self.scenes.values() for s in scenes if s.image.pages > 1]
        if several:
            self.notices.append(f"of files with several images the first is used: {join_some(several)}")
        try:
            self.notices += self._augmentation_notices()
            self._replace_nodata(sound=not problems)
        except UserError as error:
            problems.append(str(error))
        return problems

    def _replace_nodata(self, sound: bool) -> None:
        """Give the images the nodata value that the config asks for.

        Args:
            sound: False if other problems were found; then no image is searched for a value.
        """
        wanted = self.settings.nodata
        if wanted is None or not self.dtype:
            return
        if wanted == "auto":
            if not sound:
                return
            reader = Reader(self.rule, self.settings.fill_value, cores())
            suspects = search(
                {name: [s for s in scenes if _declares_none(s)] for name, scenes in self.scenes.items()},
                self.bands,
                reader,
                every=True,
            )
            reader.close()
            largest: dict[str, float] = {}
            for scene, suspect in suspects:  # the largest share of an image comes first
                largest.setdefault(scene.image.path, suspect.value)
            self.nodata = next(iter(largest.values())) if len(set(largest.values())) == 1 else None
            self.notices += auto_notices([(s, found) for s, found in suspects if found.value == largest[s.image.path]])
            for name, scenes in self.scenes.items():
                self.scenes[name] = [
                    with_nodata(s, largest[s.image.path]) if s.image.path in largest else s for s in scenes
                ]
            return
        if not isinstance(wanted, str):
            check_nodata("data_module.nodata", wanted, self.dtype)
            self.nodata = None if np.isnan(wanted) else float(wanted)  # NaN is invalid in any case
        for name, scenes in self.scenes.items():
            self.scenes[name] = [with_nodata(scene, self.nodata) for scene in scenes]

    def _undeclared_notices(self) -> list[str]:
        """Return notices about nodata that the images don't declare, from a sample of them if none was measured."""
        if self.settings.nodata == "none":
            return []
        suspects = self._measured_suspects
        if suspects is None:
            reader = Reader(self.rule, self.settings.fill_value, cores())
            suspects = search(self.scenes, self.bands, reader)
            reader.close()
        return suspect_notices(suspects)

    def alpha_notices(self) -> list[str]:
        """Return notices about alpha bands that hold data, from a sample of the images."""
        reader = Reader(self.rule, self.settings.fill_value, cores())
        found = data_in_alpha(self.scenes, self.bands, reader)
        reader.close()
        return alpha_lines(found, self.bands)

    def normalize(self, measured: Statistics | None = None) -> None:
        """Determine the normalisation, by measuring the train split where the config asks for it.

        Args:
            measured: Statistics of the train split; None to measure them if needed.

        Raises:
            UserError: The config does not determine the normalisation, or it can't be measured.
        """
        self.normalization = given_normalization(self.settings, self.bands, self.dtype)
        if self.normalization is not None:
            return
        if measured is None:
            reader = Reader(self.rule, self.settings.fill_value, cores())
            train = self.scenes["train"]
            found = [detector_for(scene) for scene in train]
            parts, problems = measure(train, self.bands, reader, "measuring mean and std", False, found)
            reader.close()
            self._measured_suspects = [(s, each) for s, d in zip(train, found, strict=True) for each in d.suspects()]
            if problems:
                raise UserError("\n".join(problems))
            measured = merge(parts, len(self.bands), self.rule.classes)
        self.normalization = result = measured_normalization(self.settings, self.bands, self.dtype, measured)
        shown = ", ".join(f"{m:.4g}±{s:.4g}" for m, s in zip(result.mean, result.std, strict=True))
        self.notices.append(f"normalisation measured on the train split: {shown} of {result.max_pixel_value:g}")

    def _settle_bands_and_dtype(self) -> list[str]:
        """Determine bands and data type, which must be the same in all files; return problems, one line each."""
        problems, chosen = [], []
        for scene in (s for scenes in self.scenes.values() for s in scenes):
            try:
                chosen.append((scene, choose_bands(scene, self.settings.bands, self.config.num_bands)))
            except UserError as error:
                problems.append(str(error))
        if not chosen:
            return problems
        # The majority decides; the other files are reported.
        self.dtype, _ = Counter(scene.image.dtype for scene, _ in chosen).most_common(1)[0]
        self.bands, _ = Counter(bands for _, bands in chosen).most_common(1)[0]
        for scene, bands in chosen:
            if scene.image.dtype != self.dtype:
                problems.append(
                    f"{scene.pair.image}: is {scene.image.dtype}, most images are {self.dtype} (all must be the same)"
                )
            elif bands != self.bands:
                problems.append(
                    f"{scene.pair.image}: its alpha band has another number than in most images (set data_module.bands)"
                )
        problems += self._colour_problems([scene.image for scene, bands in chosen if bands == self.bands])
        try:
            self._check_fill_value()
            given_normalization(self.settings, self.bands, self.dtype)
        except UserError as error:
            problems.append(str(error))
        return problems

    def _colour_problems(self, headers: Sequence[Header]) -> list[str]:
        """Determine what the bands state of themselves; return images that contradict the others, one line each."""
        self.band_colours = most_stated(headers, self.bands, lambda header: header.colours)
        self.band_descriptions = most_stated(headers, self.bands, lambda header: header.descriptions)
        lines = contradiction_lines(headers, self.bands, self.band_colours, chosen=self.settings.bands is not None)
        if self.settings.bands is None:
            return lines
        self.notices += lines
        return []

    def _check_fill_value(self) -> None:
        value, integer = self.settings.fill_value, np.dtype(self.dtype).kind in "iu"
        info = np.iinfo(self.dtype) if integer else np.finfo(np.float32)
        with np.errstate(over="ignore"):  # NumPy compares as float32, in which a value beyond the range is infinite
            inside = info.min <= value <= info.max
        if not inside:
            raise UserError(
                f"data_module.fill_value: {value:g} is not a value of {self.dtype} "
                f"(allowed: {info.min:g} to {info.max:g})"
            )
        if integer and not float(value).is_integer():
            raise UserError(
                f"data_module.fill_value: {value:g} is not a whole number (allowed: whole numbers, for {self.dtype})"
            )

    def _augmentation_notices(self) -> list[str]:
        omitted = self._augmentation().omitted if self.dtype else []
        if not omitted:
            return []
        why = f"defined for three bands, the images have {len(self.bands)}"
        if self.dtype != "uint8":
            why = f"defined for uint8, the images are {self.dtype}"
        return [f"augmentation {self.settings.augmentation} omits {', '.join(omitted)}: {why}"]

    def _augmentation(self) -> Augmentation | UserAugmentation:
        wanted, fill_value = self.settings.augmentation, self.settings.fill_value
        bands, ignore_index = len(self.bands), self.rule.ignore_index
        if isinstance(wanted, dict):
            return UserAugmentation(wanted, bands, self.dtype, ignore_index, fill_value, self.config.tile_size)
        return Augmentation(wanted, bands, self.dtype, ignore_index, fill_value)

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
        foreground = None
        if settings.foreground_share:
            reader = Reader(self.rule, settings.fill_value, cores())
            foreground = find_foreground(scenes, reader, self.config.background_index, "looking for foreground")
            reader.close()
            if not len(foreground):
                raise UserError(
                    "data_module.foreground_share: the train split has no pixel of any class but the background "
                    "(leave foreground_share out)"
                )
        windows = TrainingWindows(
            [(s.height, s.width) for s in scenes],
            self.config.tile_size,
            self.config.seed,
            settings.samples_per_epoch,
            foreground,
            settings.foreground_share or 0.0,
        )
        return TrainDataset(scenes, self.bands, self.reader(), windows, self._augmentation())

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

    @property
    def workers(self) -> int:
        """Number of worker processes that read and augment."""
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


def _declares_none(scene: Scene) -> bool:
    return all(value is None for value in scene.image.nodata)

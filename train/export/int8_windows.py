"""Windows of a data set for a file in int8: of the train split for calibration, of the val split for the check."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.card import ModelCard
from inference.common.cpu import cores
from inference.common.errors import UserError, first_line
from inference.common.progress import progress
from train.configs.config import Config
from train.data.datasets import GridDataset
from train.data.labelled_images import LabelledImages
from train.data.reader import Reader
from train.model import SegmentationModel

CALIBRATION_WINDOWS = 128
CHECKED_WINDOWS = 512
CHECKED_PIXELS = 2**28
"""Upper bound on the pixels of the checked windows, whose float masks are kept in memory, one byte each."""
_SEED = 0


@dataclass(frozen=True)
class Int8Windows:
    """Windows of the data set for calibration and check.

    Attributes:
        calibration: Normalised windows of the train split, each (bands, H, W) float32.
        val: Windows of the val split.
        normalize: Function that normalises (N, bands, H, W) pixels.
        ignore_index: Label of pixels that don't count.
        folder: Folder or address of the data set.
    """

    calibration: Sequence[Tensor]
    val: GridDataset
    normalize: Callable[[Tensor], Tensor]
    ignore_index: int
    folder: str

    def checked(self, what: str) -> Iterator[tuple[Tensor, NDArray[np.bool_]]]:
        """Yield normalised windows of the val split, evenly spread, and which of their pixels count.

        Args:
            what: Title of the progress.

        Returns:
            (1, bands, H, W) float32 and (H, W) bool; windows without a pixel that counts are left out.
        """
        with closing(self.val.reader):
            for number in progress(range(self._count), self._count, what):
                image, label, _ = self.val[number * len(self.val) // self._count]
                counted = label != self.ignore_index
                if counted.any():
                    yield self.normalize(_tensor(image)), counted

    @property
    def _count(self) -> int:
        return max(1, min(len(self.val), CHECKED_WINDOWS, CHECKED_PIXELS // self.val.tile**2))


def int8_windows(config: Config, model: SegmentationModel, card: ModelCard) -> Int8Windows:
    """Read calibration windows of the train split and find those of the val split.

    Args:
        config: Config that names the data set.
        model: Model, for the normalisation.
        card: Card of the model.

    Raises:
        UserError: The data set lacks a split, or isn't the model's.
    """
    try:
        return _windows(config, model, card)
    except UserError as error:
        raise UserError(
            f"--formats int8: needs the train and val splits of the model's data set: {first_line(error)} (give "
            "CONFIG.yml and data_module.data_dir=FOLDER, or leave int8 out)"
        ) from None


def _windows(config: Config, model: SegmentationModel, card: ModelCard) -> Int8Windows:
    images = LabelledImages(config)
    if problems := images.find():
        raise UserError(problems[0])
    if list(images.bands) != card.bands or images.dtype != card.dtype:
        raise UserError(f"{config.data_module.data_dir}: its bands or dtype differ from those of the model")
    if missing := [split for split in ("train", "val") if not images.scenes.get(split)]:
        raise UserError(f"{config.data_module.data_dir}: has no {missing[0]} split")
    fill = config.data_module.fill_value
    with closing(Reader(images.rule, fill, cores())) as reader:
        train = GridDataset(images.scenes["train"], images.bands, reader, card.tile_size)
        order = np.random.default_rng(_SEED).permutation(len(train))
        calibration: list[Tensor] = []
        chosen = order[:CALIBRATION_WINDOWS].tolist()
        for index in progress(chosen, len(chosen), "reading calibration windows"):
            image, label, _ = train[index]
            if (label != config.ignore_index).any():
                calibration.append(model.normalize(_tensor(image))[0])
    if not calibration:
        raise UserError(f"{config.data_module.data_dir}: the windows of its train split hold no labelled pixel")
    val = GridDataset(images.scenes["val"], images.bands, Reader(images.rule, fill, cores()), card.tile_size)
    return Int8Windows(calibration, val, model.normalize, config.ignore_index, str(config.data_module.data_dir))


def _tensor(image: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None].contiguous()

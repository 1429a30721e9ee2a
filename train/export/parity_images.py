"""Real images on which an exported file is compared with its checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.card import ModelCard
from inference.common.cpu import cores
from inference.common.errors import UserError, first_line
from inference.common.progress import progress
from train.configs.config import Config
from train.data.datasets import GridDataset
from train.data.labelled_images import LabelledImages
from train.data.reader import Reader

_MAX_WINDOWS = 48  # windows that are searched for two with both background and target
_DEMO = "demo://kelp"


@dataclass(frozen=True)
class ParityImages:
    """Two windows of real images.

    Attributes:
        image: Pixels in units of the file, (2, bands, H, W) float32.
        source: Data set of the windows, for a message.
    """

    image: Tensor
    source: str


def parity_images(configs: Sequence[Config], card: ModelCard, size: tuple[int, int]) -> ParityImages:
    """Read two windows of the test split (or the val split) of the first available data set.

    Args:
        configs: Configs whose data sets are tried, in this order; if none can be read, the demo data set is used.
        card: Card of the model, with the bands and dtype of its images.
        size: Height and width of a window, pixels.
    """
    reasons = []
    for config in configs:
        try:
            return _windows(config, card, size)
        except UserError as error:
            reasons.append(first_line(error))
    demo = configs[0].model_copy(
        update={
            "data_module": configs[0].data_module.model_copy(
                update={"data_dir": _DEMO, "bands": None, "mean": None, "std": None, "max_pixel_value": None}
            ),
            "num_bands": 3,
        }
    )
    demo_card = card.model_copy(update={"bands": [1, 2, 3], "dtype": "uint8"})
    found = _windows(demo, demo_card, size).image
    # For other bands and dtypes: the same images, repeated over the bands and scaled to the range of the dtype.
    order = [band % 3 for band in range(len(card.bands))]
    image = found[:, order] * (card.divisor(card.dtype) / 255)
    return ParityImages(image, f"the demo data set, because {reasons[0]}")


def _windows(config: Config, card: ModelCard, size: tuple[int, int]) -> ParityImages:
    images = LabelledImages(config)
    problems = images.find()
    if problems:
        raise UserError(problems[0])
    if list(images.bands) != card.bands or images.dtype != card.dtype:
        raise UserError(f"{config.data_module.data_dir}: its bands or dtype differ from those of the model")
    split = "test" if images.scenes.get("test") else "val"
    reader = Reader(images.rule, config.data_module.fill_value, cores())
    dataset = GridDataset(images.scenes[split], images.bands, reader, max(size))
    count = min(len(dataset), _MAX_WINDOWS)
    chosen: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for index in progress(range(count), count, "looking for a window with target and background"):
        image, label, _ = dataset[index * len(dataset) // count]
        present = np.unique(label[: size[0], : size[1]])
        shows_both = (present != config.ignore_index).sum() > 1
        (chosen if shows_both else others).append(image[: size[0], : size[1]])
        if len(chosen) == 2:
            break
    reader.close()
    two = [*chosen, *others][:2]
    # If there is only one window, its mirror image is the second.
    two += [two[0][:, ::-1]] * (2 - len(two))
    pair = torch.from_numpy(np.stack(two).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    return ParityImages(pair, f"the {split} split of {config.data_module.data_dir}")

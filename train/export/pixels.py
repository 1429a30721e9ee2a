"""Real pixels to compare an exported file with its checkpoint on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.card import ModelCard
from inference.common.errors import UserError
from inference.common.progress import progress
from train.configs.config import Config
from train.data.datasets import GridDataset
from train.datamodule import DataModule

_LOOKED_AT = 48  # windows among which two that show both background and target are sought
_DEMO = "demo://kelp"


@dataclass(frozen=True)
class Pixels:
    """Two windows of real images.

    Attributes:
        image: (2, bands, H, W) float32, in units of the file.
        source: Where they are from, in words.
    """

    image: Tensor
    source: str


def real_pixels(configs: Sequence[Config], card: ModelCard, size: tuple[int, int]) -> Pixels:
    """Two windows of the test split (val where there is none) of the first data set that is at hand.

    Args:
        configs: Whose data are tried, in this order; the demo data set stands in where none can be read.
        card: Bands and type of the images that the model takes.
        size: Height and width.
    """
    reasons = []
    for config in configs:
        try:
            return _windows(config, card, size)
        except UserError as error:
            reasons.append(str(error).splitlines()[0])
    demo = configs[0].model_copy(
        update={
            "data_module": configs[0].data_module.model_copy(
                update={"data_dir": _DEMO, "bands": None, "mean": None, "std": None, "max_pixel_value": None}
            ),
            "num_bands": 3,
        }
    )
    stand_in = card.model_copy(update={"bands": [1, 2, 3], "dtype": "uint8"})
    found = _windows(demo, stand_in, size).image
    # Other bands and types: the same pictures in the range that the model expects.
    order = [band % 3 for band in range(len(card.bands))]
    image = found[:, order] * (card.divisor(card.dtype) / 255)
    return Pixels(image, f"the demo data set, because {reasons[0]}")


def _windows(config: Config, card: ModelCard, size: tuple[int, int]) -> Pixels:
    data = DataModule(config)
    problems = data.find()
    if problems:
        raise UserError(problems[0])
    if list(data.bands) != card.bands or data.dtype != card.dtype:
        raise UserError(f"{config.data_module.data_dir}: has other bands or another type than the model takes")
    split = "test" if data.scenes.get("test") else "val"
    dataset = GridDataset(data.scenes[split], data.bands, data.reader(), max(size))
    count = min(len(dataset), _LOOKED_AT)
    chosen: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for index in progress(range(count), count, "looking for a window with target and background"):
        image, label, _ = dataset[index * len(dataset) // count]
        present = np.unique(label[: size[0], : size[1]])
        shows_both = (present != config.ignore_index).sum() > 1
        (chosen if shows_both else others).append(image[: size[0], : size[1]])
        if len(chosen) == 2:
            break
    dataset.reader.close()
    two = [*chosen, *others][:2]
    # Of a single window, its mirror image is the second.
    two += [two[0][:, ::-1]] * (2 - len(two))
    pair = torch.from_numpy(np.stack(two).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    return Pixels(pair, f"the {split} split of {config.data_module.data_dir}")

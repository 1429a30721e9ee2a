"""Training images whose bands state what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from inference.common.errors import UserError
from tests.conftest import write_dataset
from train.run.card import model_card

from .windows import module

SPLITS = ("train", "val", "test")
BGR = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", {"train": [(30, 30)] * 3, "val": [(30, 30)], "test": [(30, 30)]})


def retag(path: Path, colours: Any = None, names: Any = None) -> None:
    with rasterio.open(path, "r+") as file:
        if colours is not None:
            file.colorinterp = colours
        if names is not None:
            file.descriptions = names


def test_the_card_says_what_the_bands_are(data: Path) -> None:
    made = module(data)
    card = model_card(made.config, made.images)
    assert (card.band_colours, card.band_descriptions) == (["red", "green", "blue"], None)
    for path in data.glob("*/x/*.tif"):
        retag(path, names=("Blue", "Green", "Red"))
    made = module(data)
    card = model_card(made.config, made.images)
    assert card.band_colours == ["blue", "green", "red"]
    assert card.band_descriptions == ["Blue", "Green", "Red"]


def test_images_that_contradict_each_other_are_refused(data: Path) -> None:
    odd = sorted(data.glob("train/x/*.tif"))[1]
    retag(odd, BGR)
    with pytest.raises(UserError) as caught:
        module(data)
    assert str(caught.value) == (
        f"{odd}: bands 1, 2, 3 are blue, green, red, in most images they are red, green, blue (write them in that "
        "order; to use them as they lie: data_module.bands: [1, 2, 3])"
    )
    assert module(data, bands=[1, 2, 3]).notices == [
        f"data_module.bands is given, so images are used whose bands aren't red, green, blue: {odd}"
    ]


def test_an_alpha_band_that_holds_data_is_reported(tmp_path: Path) -> None:
    def infrared(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image[3] = np.arange(image[3].size).reshape(image[3].shape) % 251
        return image, label

    data = write_dataset(tmp_path / "nir", {s: [(30, 30)] for s in SPLITS}, bands=4, change=infrared)
    (notice,) = module(data).notices
    assert notice.startswith(f"band 4 of {data / 'train' / 'x' / 's0.tif'}, ")
    assert "data_module.bands: [1, 2, 3, 4] and num_bands: 4" in notice
    settings: dict[str, Any] = {"bands": [1, 2, 3, 4], "num_bands": 4, "mean": [0.5] * 4, "std": [0.2] * 4}
    assert not any("marked as alpha" in line for line in module(data, **settings).notices)

    def mask(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image[3] = 255
        image[3, :5] = 0
        return image, label

    data = write_dataset(tmp_path / "mask", {s: [(30, 30)] for s in SPLITS}, bands=4, change=mask)
    assert module(data).notices == []


def test_a_colour_table_is_refused(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {s: [(30, 30)] for s in SPLITS}, bands=1)
    settings: dict[str, Any] = {"num_bands": 1, "mean": [0.5], "std": [0.2], "augmentation": "none"}
    assert module(data, **settings).bands == (1,)
    for path in data.glob("*/x/*.tif"):
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})
    with pytest.raises(
        UserError, match=r"s0.tif: its values are indices into a colour table, .*data_module.bands: \[1\]"
    ):
        module(data, **settings)
    assert module(data, bands=[1], **settings).bands == (1,)

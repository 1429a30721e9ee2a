"""Training images that don't declare their nodata: notices, data_module.nodata, and what the card says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.common.errors import UserError
from tests.conftest import write_dataset
from train.data.reader import Reader
from train.data.undeclared import sample_suspects
from train.run.card import model_card

from .windows import module

SPLITS = ("train", "val", "test")


def collared(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = image.copy()
    image[:, :, :20] = 255
    return image, label


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", {s: [(60, 50)] for s in SPLITS}, change=collared)


def notices(data: Path, **settings: Any) -> list[str]:
    made = module(data, **settings)
    made.prepare()
    return made.notices


def test_suspects_are_reported_before_training(data: Path) -> None:
    images = [data / split / "x" / "s0.tif" for split in SPLITS]
    (line,) = notices(data)
    assert line == (
        f"{max(images)}: all bands are 255 in 40.0 % of the pixels (2 more images likewise), which is probably nodata "
        "that the file doesn't declare, and counts as image (data_module.nodata: 255 makes these pixels invalid, auto "
        "decides for each file, none keeps them)"
    )
    measured = notices(data, mean="auto", std="auto")
    assert len(measured) == 2
    assert any(f"{images[0]}: all bands are 255 in 40.0 % of the pixels, which" in each for each in measured)


def test_given_nodata(data: Path) -> None:
    assert notices(data, nodata="none") == []
    for value in (255, "auto"):
        made = module(data, nodata=value)
        made.prepare()
        image, label, invalid = made.reader().window(made.scenes["train"][0], made.bands, 0, 0, 50)
        assert invalid is not None
        assert invalid[:, :20].all()
        assert not invalid[:, 20:].any()
        assert (label[:, :20] == made.rule.ignore_index).all()
        assert not image[:, :20].any()
        assert model_card(made.config, made.images).nodata == 255
        assert len(made.notices) == (value == "auto")
    assert "auto: 255 is nodata in " in made.notices[0]


def test_auto_keeps_what_a_file_declares(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {s: [(60, 50)] for s in SPLITS}, change=collared, nodata=7)
    made = module(data, nodata="auto")
    made.prepare()
    assert made.scenes["train"][0].image.nodata == (7, 7, 7)
    assert made.notices[0] == "data_module.nodata: auto: no image has nodata that it doesn't declare"
    assert model_card(made.config, made.images).nodata is None


@pytest.mark.parametrize("value", [256, -1, 0.5])
def test_a_value_that_the_type_cannot_hold_is_refused(data: Path, value: float) -> None:
    with pytest.raises(UserError) as caught:
        module(data, nodata=value).prepare()
    assert f"data_module.nodata: {value:g} is not a value of uint8, the image's type" in str(caught.value)


def test_large_images_are_sampled(tmp_path: Path) -> None:
    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = image.clip(1, 254)
        image[:, :, :500] = 0
        image[:, 600:800, 700:900] = 255
        return image, label

    data = write_dataset(tmp_path, {s: [(1100, 1300) if s == "train" else (20, 20)] for s in SPLITS}, change=change)
    made = module(data)
    (found,) = sample_suspects(made.scenes["train"][0], (1, 2, 3), Reader(made.rule))
    assert found.value == 0
    assert found.share == pytest.approx(500 / 1300, abs=0.05)


def test_declared_nodata_is_not_reported(data: Path) -> None:
    for path in data.glob("*/x/*.tif"):
        with rasterio.open(path, "r+") as file:
            file.nodata = 255
    assert notices(data) == []

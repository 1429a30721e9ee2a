"""Notices and errors of the data module."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from inference.common.errors import UserError
from tests.conftest import write_dataset, write_raster
from train.data.pairs import data_dir

from .windows import module


def only(notices: list[str]) -> str:
    (notice,) = notices
    return notice


def test_a_missing_test_split_is_a_notice(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {"train": [(20, 20)], "val": [(20, 20)]})
    made = module(data)
    assert only(made.notices) == f"{data}: has no test/, so there will be no test scores"
    made.prepare()
    assert len(made.notices) == 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_train_or_val_split_is_an_error(tmp_path: Path, split: str) -> None:
    data = write_dataset(tmp_path)
    (data / split).rename(data / "other")
    with pytest.raises(UserError, match=f"{split}: no such folder .*found other, test, "):
        module(data)


def test_augmentations_that_are_left_out_are_told(tmp_path: Path, odd: Path) -> None:
    assert module(odd).notices == []
    wide = write_dataset(tmp_path / "wide", {s: [(20, 20)] for s in ("train", "val", "test")}, bands=5)
    settings: dict[str, Any] = {"num_bands": 5, "mean": [0.5] * 5, "std": [0.2] * 5}
    assert only(module(wide, **settings).notices) == (
        "augmentation drone omits hue and saturation: defined for three bands, the images have 5"
    )
    assert module(wide, augmentation="light", **settings).notices == []
    deep = write_dataset(
        tmp_path / "deep",
        {s: [(20, 20)] for s in ("train", "val", "test")},
        change=lambda image, label: (image.astype(np.uint16), label),
    )
    assert only(module(deep, augmentation="strong", mean=[0.1] * 3, std=[0.1] * 3).notices) == (
        "augmentation strong omits brightness and contrast, gamma, hue and saturation, noise, blur: "
        "defined for uint8, the images are uint16"
    )


def test_label_nodata_that_is_a_class_is_told(tmp_path: Path) -> None:
    data = write_dataset(tmp_path)
    for name in ("train/y/s0_label.tif", "val/y/s1_label.tif"):
        with rasterio.open(data / name, "r+") as file:
            file.nodata = 0
    assert "2 label files have nodata 0, which is a class: it stays that class" in only(module(data).notices)
    assert "data_module.label_nodata: 0" in only(module(data).notices)
    assert module(data, label_nodata="none").notices == []


def test_labels_that_lie_elsewhere_are_told(tmp_path: Path) -> None:
    data = write_dataset(tmp_path)
    write_raster(data / "train/y/s1_label.tif", np.zeros((64, 64), np.uint8), origin=(5e5 + 100 + 1.2, 5.8e6))
    notice = only(module(data).notices)
    assert "a label file lies off the image by the georeference (s1_label.tif by 12 pixels)" in notice


def test_measured_normalization_is_told(odd: Path) -> None:
    assert only(module(odd, mean="auto", std="auto").notices).startswith(
        "normalisation measured on the train split: 0."
    )


def test_four_bands_are_measured(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, bands=4, photometric="MINISBLACK")
    made = module(data, num_bands=4, augmentation="none")
    line = only(made.notices)
    assert line.startswith(
        "data_module.mean and data_module.std aren't given for 4 bands of uint8, so they are measured"
    )
    given = yaml.safe_load(
        "{" + line.split("keep these values: ")[1].removesuffix(")").replace("data_module.", "") + "}"
    )
    assert made.images.measures
    assert made.images.normalization is not None
    assert given["mean"] == pytest.approx(made.images.normalization.mean, rel=1e-5)
    again = module(data, num_bands=4, augmentation="none", **given)
    assert again.notices == []
    assert not again.images.measures


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    data = write_dataset(tmp_path)
    (data / "train/y/s0_label.tif").unlink()
    (data / "train/x/s1.tif").write_text("no image")
    write_raster(data / "train/x/s2.tif", np.zeros((3, 64, 64), np.uint16))
    write_raster(data / "train/x/s3.tif", np.zeros((2, 64, 64), np.uint8))
    write_raster(data / "val/y/s0_label.tif", np.zeros((64, 60), np.uint8))
    (data / "test/x/s0.tif").unlink()
    with pytest.raises(UserError) as caught:
        module(data, fill_value=300.0)
    lines = str(caught.value).splitlines()
    expected = [
        "train/x/s0.tif: has no label",
        "train/x/s1.tif: can't be read",
        "val/y/s0_label.tif: is 60x64 pixels",
        "test/x: no GeoTIFF in it",
        "train/x/s2.tif: is uint16, most images are uint8",
        "train/x/s3.tif: has 2 bands",
        "data_module.fill_value: 300 is not a value of uint8 (allowed: 0 to 255)",
    ]
    assert len(lines) == len(expected)
    assert all(any(part in line for line in lines) for part in expected), lines


def test_what_cannot_be_decoded_is_told_when_it_is_measured(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, compress="deflate")
    for name in ("train/x/s0.tif", "train/x/s3.tif"):
        (data / name).write_bytes((data / name).read_bytes()[:2000])
    with pytest.raises(UserError) as caught:
        module(data, mean="auto", std="auto")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        str(data / "train/x/s0.tif"), str(data / "train/x/s3.tif")
    ]  # fmt: skip


def test_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_dataset(tmp_path / "kelp data")
    assert data_dir("~/kelp data/") == tmp_path / "kelp data"
    monkeypatch.chdir(tmp_path)
    assert len(module("kelp data//").scenes["train"]) == 5
    (tmp_path / "file").write_text("")
    for name, what in (("file", "is no folder"), ("nowhere", "no such folder")):
        with pytest.raises(UserError, match=f"{name}: .*{what}.*a folder with train/, val/ and test/"):
            module(name)
    with pytest.raises(UserError, match=r"data_module\.data_dir: ~nobody-at-all/x: there is no user nobody-at-all"):
        module("~nobody-at-all/x")


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("uint8", -1.0, "-1 is not a value of uint8"),
        ("uint8", 0.5, "0.5 is not a whole number"),
        ("float32", 1e39, "1e"),
    ],
)
def test_fill_value_must_be_one_of_the_images(tmp_path: Path, dtype: str, value: float, expected: str) -> None:
    data = write_dataset(tmp_path, change=lambda image, label: (image.astype(dtype), label))
    with pytest.raises(UserError, match=f"data_module.fill_value: {expected}"):
        module(data, fill_value=value, mean=[0.5] * 3, std=[0.2] * 3)


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {s: [(20, 20)] for s in ("train", "val", "test")})
    assert module(data).notices == []
    for path in data.glob("train/x/*.tif"):
        with rasterio.open(path, "r+") as file:
            file.transform = from_origin(5e5, 5.8e6, 0.1, 0.2)
    assert any(
        f"aren't square on the ground: {data / 'train' / 'x' / 's0.tif'} (0.2001 m high, 0.1 m wide) " in line
        for line in module(data).notices
    )

"""`--check`: correct numbers, all problems at once, and no files left behind."""

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import segmentation_models_pytorch as smp
import torch

from inference.common.raster import open_raster
from tests.conftest import write_dataset, write_raster
from train.__main__ import main
from train.configs.loader import load_config
from train.data.reader import Reader
from train.datamodule import DataModule
from train.run import memory
from train.run.fit import build_model
from train.run.memory import estimate_memory, probe_step

Write = Callable[..., Path]


def section(printed: str, title: str) -> dict[str, list[str]]:
    """Return the rows of a table by their names; cells are separated by two spaces or more."""
    lines = (
        printed[printed.index(f"\n{title}") + 1 if not printed.startswith(title) else 0 :].split("\n\n")[0].splitlines()
    )
    rows = [re.split(r" {2,}", line.strip()) for line in lines[1:]]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture
def checked(write_config: Write, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that checks a config: exit code, stdout, and stderr without the line that PyTorch is loaded."""

    def run(**sections: Any) -> tuple[int, str, str]:
        code = main([str(write_config(**sections)), "--check"])
        out, err = capfd.readouterr()
        assert code != 0 or err.startswith("loading ...\n")
        return code, out, err.removeprefix("loading ...\n")

    return run


def test_numbers_are_those_of_the_files(checked: Callable[..., Any], tmp_path: Path) -> None:
    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image[:, :5] = 0
        label = label.copy()
        label[-3:] = 255
        return np.maximum(image, 1) * (image > 0), label

    data = write_dataset(tmp_path / "data", change=change, nodata=0)
    code, out, err = checked(
        num_classes=3,
        data_module={"data_dir": str(data), "num_workers": 0, "class_names": ["sea", "kelp", "eel grass"]},
        max_epoch=1,
    )
    assert (code, err) == (0, "")
    table = section(out, "data ")
    for column, split in enumerate(("train", "val", "test")):
        images, labels = [], []
        for path in sorted((data / split / "x").iterdir()):
            images.append(rasterio.open(path).read().reshape(3, -1))
            labels.append(rasterio.open(data / split / "y" / f"{path.stem}_label.tif").read(1).ravel())
        pixels, label = np.concatenate(images, axis=1), np.concatenate(labels)
        valid = (pixels != 0).any(axis=0)
        shares = {
            "sea": valid & (label == 0),
            "kelp": valid & (label == 1),
            "eel grass": valid & (label == 2),
            "unlabelled": valid & (label == 255),
            "nodata": ~valid,
        }
        for name, where in shares.items():
            assert table[name][column] == f"{where.mean():.1%}", (split, name)
        assert table["images"][column] == str(len(images))
        assert float(table["megapixels"][column]) == pytest.approx(label.size / 1e6, rel=0.005)
        assert table["values"][column] == f"{pixels[:, valid].min()} to {pixels[:, valid].max()}"
    assert (table["smallest, pixels"], table["largest, pixels"]) == (
        ["64x64", "70x50", "64x70"], ["75x90", "64x64", "64x70"]
    )  # fmt: skip
    assert table["bands used"] == ["3 of 3"] * 3
    assert table["type"] == ["uint8"] * 3
    assert table["CRS"] == ["EPSG:32609"] * 3
    assert table["pixel on the ground, m"] == ["0.1"] * 3
    assert "warning: train has no pixel of eel grass\n" in out
    assert out.endswith("ready to train (read the warnings first)\n")
    # 64 px chips have one window, 90x75 px two.
    assert section(out, "model")["an epoch"] == ["6 windows of 64 px in 3 optimiser steps"]


def test_it_reads_well(checked: Callable[..., Any]) -> None:
    code, out, err = checked()
    assert (code, err) == (0, "")
    assert out.endswith("ready to train\n")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    head, rows = lines[1], lines[2:]
    assert head.split() == ["train", "val", "test"]
    ends = [re.search(rf"{name}\b", head).end() for name in head.split()]  # type: ignore[union-attr]
    for line in rows[: rows.index("")]:
        if not line.endswith(":"):
            assert line[ends[0] - 1] != " ", line  # columns stand below their heads
            assert len(line) == ends[2], line


def test_it_trains_nothing_and_leaves_nothing(
    checked: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Path
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    taken = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a, **k: [taken.append(1), step(*a, **k)][1])
    assert checked()[0] == 0
    assert len(taken) == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"cwd", "tiny.yml"}
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_parameters_are_those_of_the_network(checked: Callable[..., Any]) -> None:
    code, out, _ = checked(segmentation_config={"freeze_encoder": True})
    assert code == 0
    network = smp.Unet(
        "tu-mobilenetv3_small_050", encoder_weights=None, encoder_depth=3, decoder_channels=[16, 8, 8], classes=1
    )
    total = sum(p.numel() for p in network.parameters())
    trained = total - sum(p.numel() for p in network.encoder.parameters())
    (row,) = section(out, "model")["parameters"]
    assert row == f"{total / 1e6:.2f} million, {trained / 1e6:.2f} million trained"


@pytest.mark.parametrize("tile", [64, 300])
def test_one_step_is_small(checked: Callable[..., Any], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    collate = memory.collate
    monkeypatch.setattr(memory, "collate", lambda samples: [seen.append(len(samples)), collate(samples)][1])
    code, out, _ = checked(tile_size=tile)
    assert code == 0
    assert seen == [1]
    assert f"1 of {min(tile, 256)} px: loss 0." in out


def prepared(path: Path) -> tuple[Any, DataModule, Any]:
    config = load_config(path).config
    data = DataModule(config)
    data.prepare()
    return config, data, build_model(config, data, pretrained=False)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak of resident memory")
@pytest.mark.parametrize(("tile", "batch"), [(512, 1), (192, 6)])
def test_memory_is_what_a_step_takes(write_config: Write, tile: int, batch: int) -> None:
    """Compare the estimate from a step of one window of at most 256 px with the peak of a whole batch."""
    config, data, model = prepared(write_config(tile_size=tile, batch_size=batch))
    estimate = estimate_memory(config, model, probe_step(config, data, model), batch)
    model.zero_grad(set_to_none=True)

    def status(key: str) -> int:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) * 1024

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that earlier tests freed would be reused
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS") - sum(4 * p.numel() for p in model.parameters())
    image = torch.randint(0, 255, (batch, 3, tile, tile), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    loss = model.loss(model(model.normalize(image)), torch.zeros(batch, tile, tile, dtype=torch.uint8))
    loss.backward()
    optimizer.step()
    taken = status("VmHWM") - before
    assert 0.5 < estimate / taken < 2, (estimate / 2**20, taken / 2**20)


def test_copies_of_weights_do_not_grow_with_the_image(write_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 16 bits a layer saves its weights too; with four times the pixels only the activations grow, fourfold."""
    monkeypatch.setattr(memory, "native_precision", lambda *_: ("bf16-mixed", None))
    network = {"architecture": "Unet", "backbone": "resnet18", "opts": {"encoder_weights": None}}
    kept = []
    for tile in (64, 128):
        config, data, model = prepared(write_config(tile_size=tile, segmentation_config=network))
        kept.append(probe_step(config, data, model).activations)
    assert kept[1] / kept[0] == pytest.approx(4, rel=0.1)


def test_a_network_that_needs_two_windows_gets_them(checked: Callable[..., Any]) -> None:
    network = {
        "architecture": "DeepLabV3Plus",
        "backbone": "tu-mobilenetv3_small_050",
        "opts": {"encoder_weights": None, "decoder_channels": 16},
    }
    code, out, _ = checked(segmentation_config=network)
    assert code == 0
    assert "  2 of 64 px: " in out
    code, _, err = checked(segmentation_config=network, batch_size=1)
    assert code == 2
    assert err.startswith("batch_size: this network normalises over a single pixel, which needs batches of 2 or more")


def test_everything_that_is_wrong_with_the_files_is_named_at_once(checked: Callable[..., Any], tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", {"train": [(64, 64)] * 12, "val": [(64, 64)] * 12}, compress="deflate")
    expected = {}
    for split in ("train", "val"):
        for number in range(12):
            image, label = data / split / "x" / f"s{number}.tif", data / split / "y" / f"s{number}_label.tif"
            if number < 6:
                image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
                expected[str(image)] = "can't be read from row 0"
            if 3 <= number < 11:
                with rasterio.open(label, "r+") as file:
                    pixels = file.read(1)
                    pixels[number, 2 * number] = 100 + number
                    file.write(pixels, 1)
                expected[str(label)] = f"label value {100 + number} at row {number}, column {2 * number} is no class"
    (data / "train/x/s0.tif").write_text("no image")
    expected[str(data / "train/x/s0.tif")] = "can't be read as a GeoTIFF"
    write_raster(data / "val/x/s11.tif", np.zeros((5, 64, 64), np.uint8), photometric="MINISBLACK")
    expected[str(data / "val/x/s11.tif")] = "has 5 bands, num_bands is 3"
    code, out, err = checked(data_module={"data_dir": str(data), "num_workers": 0})
    assert (code, out) == (2, "")
    said = {line.split(": ")[0]: line for line in err.splitlines()}
    assert len(said) == len(err.splitlines())
    assert said.keys() == expected.keys()
    for path, what in expected.items():
        assert what in said[path]


def test_measuring_reads_the_images_once(
    checked: Callable[..., Any], dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    image = Reader.image
    monkeypatch.setattr(
        Reader, "image", lambda self, scene, *a: [read.append(scene.pair.image.name), image(self, scene, *a)][1]
    )
    code, _, err = checked(data_module={"data_dir": str(dataset), "num_workers": 0, "mean": "auto", "std": "auto"})
    assert code == 0
    pixels = np.concatenate(
        [rasterio.open(path).read().reshape(3, -1) for path in (dataset / "train/x").iterdir()], axis=1
    )
    mean, std = pixels.mean(axis=1) / 255, pixels.std(axis=1) / 255
    shown = ", ".join(f"{m:.4g}±{s:.4g}" for m, s in zip(mean, std, strict=True))
    assert err == f"note: normalisation measured on the train split: {shown} of 255\n"
    assert len(read) == 5 + 2 + 1 + 1  # all images of the splits, and the window of the step


def test_overlaps_and_labels_that_are_missing_are_warnings(checked: Callable[..., Any], tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    with rasterio.open(data / "train/x/s0.tif") as file:
        write_raster(data / "val/x/s1.tif", file.read()[:, :50], origin=(5e5, 5.8e6 - 1))
    write_raster(data / "val/y/s1_label.tif", np.full((50, 64), 2, np.uint8), origin=(5e5, 5.8e6 - 1))
    write_raster(data / "test/y/s0_label.tif", np.full((70, 64), 2, np.uint8), origin=(5e5 + 700, 5.8e6))
    code, out, err = checked(data_module={"data_dir": str(data), "num_workers": 0})
    assert (code, err) == (0, "")
    warned = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert warned == [
        "warning: an image of train and one of val show the same ground (s0 and s1): the scores will be too good",
        "warning: test has no pixel with a label",
    ]


def test_a_crs_without_a_code_is_shown_by_its_name(checked: Callable[..., Any], tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    with rasterio.open(data / "test/x/s0.tif", "r+") as file:
        file.crs = rasterio.crs.CRS.from_wkt('LOCAL_CS["drone grid",UNIT["metre",1]]')
    with rasterio.open(data / "val/x/s0.tif", "r+") as file:
        file.crs = "EPSG:3005"
    code, out, _ = checked(data_module={"data_dir": str(data), "num_workers": 0})
    assert code == 0
    assert section(out, "data ")["CRS"] == ["EPSG:32609", "2 different", "drone grid"]


@pytest.mark.shared
def test_real_images(shared: Path, write_config: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """The share of water in 54 real images, counted from the labels alone."""
    data = shared / "data" / "dubai-water"
    assert (
        main([str(write_config(data_module={"data_dir": str(data), "class_names": ["land", "water"]})), "--check"]) == 0
    )
    water = section(capfd.readouterr().out, "data ")["water"]
    for column, split in enumerate(("train", "val", "test")):
        labels = []
        for path in (data / split / "y").iterdir():
            with open_raster(path) as file:
                labels.append(file.read(1).ravel())
        assert water[column] == f"{(np.concatenate(labels) == 1).mean():.1%}"

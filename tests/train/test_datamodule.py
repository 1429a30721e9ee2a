"""Batches: every pixel once in validation, and what the network sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from inference.common.cpu import cores, default_workers
from inference.common.errors import UserError
from tests.conftest import write_dataset
from train.data.datasets import GridBatchSampler, collate
from train.datamodule import DataModule

from .windows import ODD, epochs, keys, module, same

Make = Callable[..., DataModule]


# Validation: every pixel once.


@pytest.mark.parametrize("tile", [16, 23, 64])
@pytest.mark.parametrize("split", ["val", "test"])
def test_batches_put_together_again_are_the_files(odd: Path, tile: int, split: str) -> None:
    data = module(odd, tile_size=tile)
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    whole = [(np.zeros((3, *size), int), np.zeros(size, int), np.zeros(size, int)) for size in ODD]
    for batch in loader:
        assert batch["image"].shape[1:] == (3, tile, tile)
        assert batch["image"].dtype == batch["label"].dtype == torch.uint8
        for image, label, (number, row, col) in zip(batch["image"], batch["label"], batch["at"].tolist(), strict=True):
            height, width = min(tile, ODD[number][0] - row), min(tile, ODD[number][1] - col)
            inside = np.s_[row : row + height, col : col + width]
            whole[number][0][:, *inside] += image[:, :height, :width].numpy()
            whole[number][1][inside] += label[:height, :width].numpy()
            whole[number][2][inside] += 1
            label[:height, :width] = 2
            assert (label == 2).all()  # beyond the edge nothing counts
    for scene, (image, label, seen) in zip(data.scenes[split], whole, strict=True):
        with rasterio.open(scene.pair.image) as x, rasterio.open(scene.pair.label) as y:
            np.testing.assert_array_equal(image, x.read())
            np.testing.assert_array_equal(label, y.read(1))
        assert (seen == 1).all()


def test_validation_is_the_same_every_time_and_for_any_workers(odd: Path) -> None:
    loader = module(odd).val_dataloader()
    assert same(loader, loader)
    assert same(loader, module(odd, num_workers=2).val_dataloader())


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_validation(odd: Path, world: int) -> None:
    data = module(odd)
    dataset = data.grid_dataset("val")
    counted: dict[tuple[int, ...], int] = {}
    lengths = set()
    for rank in range(world):
        sampler = GridBatchSampler(len(dataset), 4, rank, world)
        lengths.add(len(list(sampler)))
        assert len(sampler) == len(list(sampler))
        for batch in (collate([dataset[i] for i in indices]) for indices in sampler):
            if (batch["label"] != 2).any():
                for at in keys([batch]):
                    counted[at] = counted.get(at, 0) + 1
    labelled = [i for i in range(len(dataset)) if (dataset[i][1] != 2).any()]
    assert len(lengths) == 1  # every rank takes every step
    assert counted.keys() >= {dataset[i][2] for i in labelled}
    assert set(counted.values()) == {1}


# What the network sees.


def test_batches_are_channels_last_and_as_in_the_file(odd: Path) -> None:
    batch = next(iter(module(odd).train_dataloader()))
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["image"].dtype == torch.uint8
    assert batch["at"].dtype == torch.int64


@pytest.mark.parametrize("augmentation", ["none", "light", "drone", "strong"])
def test_invalid_pixels_are_filled_and_ignored_in_training(tmp_path: Path, augmentation: str) -> None:
    """Everything is valid and bright, or invalid; only what is filled may be dark, and all of it is ignored."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = np.full_like(image, 200)
        image[:, 10:20] = 0
        return image, np.zeros_like(label)

    data = write_dataset(tmp_path, {"train": [(60, 60)] * 3, "val": [(20, 20)]}, change=change, nodata=0)
    loader = module(data, tile_size=32, augmentation=augmentation, fill_value=255.0).train_dataloader()
    ignored = 0
    for batch in (batch for epoch in epochs(loader) for batch in epoch):
        outside = batch["label"] == 2
        assert (batch["image"].permute(0, 2, 3, 1)[outside] == 255).all()
        ignored += int(outside.sum())
    assert ignored > 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_classes": 2, "extra_transforms": ["species_label_transform"]}, {0: 2, 1: 0, 2: 1}),
        ({"num_classes": 3, "label_map": {0: 2, 1: 1, 2: 255}}, {0: 2, 1: 1, 2: 255}),
        ({"num_classes": 3, "label_nodata": 1}, {0: 0, 1: 255, 2: 2}),
    ],
)
def test_labels_are_mapped(tmp_path: Path, settings: dict[str, Any], expected: dict[int, int]) -> None:
    rows = np.arange(30, dtype=np.uint8)[:, None] % 3 * np.ones((1, 30), np.uint8)
    data = write_dataset(tmp_path, {"train": [(30, 30)], "val": [(30, 30)]}, change=lambda image, _: (image, rows))
    made = module(data, augmentation="none", tile_size=30, **settings)
    for loader in (made.train_dataloader(), made.val_dataloader()):
        label = next(iter(loader))["label"][0].numpy()
        np.testing.assert_array_equal(label, np.vectorize(expected.get)(rows))


def test_float_images_of_many_bands(tmp_path: Path) -> None:
    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return image.astype(np.float32) * 100, label

    data = write_dataset(tmp_path, {"train": [(30, 30)], "val": [(30, 30)]}, bands=6, change=change)
    made = module(data, num_bands=2, bands=[5, 2], mean="auto", std="auto")
    assert made.images.normalization is not None
    with rasterio.open(data / "train/x/s0.tif") as file:
        pixels = file.read([5, 2]).astype(np.float64)
    assert made.images.normalization.mean == pytest.approx(pixels.mean(axis=(1, 2)), rel=1e-9)
    assert made.images.normalization.std == pytest.approx(pixels.std(axis=(1, 2)), rel=1e-9)
    batch = next(iter(made.train_dataloader()))
    assert batch["image"].shape[1:] == (2, 16, 16)
    assert batch["image"].dtype == torch.float32


def test_workers(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, expected in ((1, 0), (2, 1), (64, 8)):
        monkeypatch.setattr("inference.common.cpu.cores", lambda count=count: count)
        assert default_workers() == expected
        assert module(odd, num_workers=None).workers == expected
    assert cores() >= 1
    assert module(odd, num_workers=3).workers == 3


def test_workers_that_need_more_open_files_than_allowed(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.labelled_images.most_workers", lambda: 2)
    assert module(odd, num_workers=2).workers == 2
    with pytest.raises(UserError) as caught:
        module(odd, num_workers=3)
    assert str(caught.value) == (
        "data_module.num_workers: 3 workers need more open files than this process may have (allowed: 0 to 2, or raise "
        "the limit with ulimit -n)"
    )

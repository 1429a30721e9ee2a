"""Batches: every pixel once in validation, the same windows for any workers and ranks in training; notices."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import rasterio
import torch
from torch.utils.data import DataLoader

from inference.common.cpu import cores, default_workers
from inference.common.errors import UserError
from tests.conftest import write_dataset, write_raster
from train.configs.config import Config
from train.data.datasets import GridBatches, TrainBatches, collate
from train.data.settings import data_dir
from train.datamodule import DataModule

Make = Callable[..., DataModule]


def module(data: Path | str, prepare: bool = True, **values: Any) -> DataModule:
    """A data module of 16 px windows, with these keys at the top level or in `data_module`."""
    top = {key: values.pop(key) for key in list(values) if key in Config.model_fields}
    section = {"data_dir": str(data), "num_workers": 0} | values
    made = DataModule(Config.model_validate({"tile_size": 16, "batch_size": 4} | top | {"data_module": section}))
    if prepare:
        made.prepare()
    return made


ODD = [(1, 1), (1, 37), (41, 1), (16, 16), (17, 31), (15, 50), (37, 53)]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of odd sizes, of noise, with labels of noise."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(image.size)
        return rng.integers(1, 255, image.shape, np.uint8), rng.integers(0, 3, label.shape, np.uint8)

    return write_dataset(tmp_path_factory.mktemp("odd"), dict.fromkeys(("train", "val", "test"), ODD), change=change)


def keys(batches: Any) -> list[tuple[int, ...]]:
    """(scene, row, column) of each window, in order."""
    return [tuple(at) for batch in batches for at in batch["at"].tolist()]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(list(one), list(other), strict=True))
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in ("image", "label", "at"))


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
        sampler = GridBatches(len(dataset), 4, rank, world)
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


# Training: a function of seed, epoch and index.


def epochs(loader: Any, count: int = 2) -> list[list[dict[str, torch.Tensor]]]:
    found = []
    for epoch in range(count):
        loader.batch_sampler.set_epoch(epoch)
        found.append([{key: value.clone() for key, value in batch.items()} for batch in loader])
    return found


def test_any_number_of_workers_gives_the_same_windows(odd: Path) -> None:
    alone = epochs(module(odd, augmentation="strong").train_dataloader())
    for workers in (1, 2):
        other = epochs(module(odd, augmentation="strong", num_workers=workers).train_dataloader())
        assert all(same(one, two) for one, two in zip(alone, other, strict=True))
    assert keys(alone[0]) != keys(alone[1])
    assert not same(alone[0], epochs(module(odd, augmentation="strong", seed=1).train_dataloader(), 1)[0])


def test_spawned_workers_give_the_same_windows(odd: Path) -> None:
    """As on macOS and Windows: nothing is inherited, everything travels."""
    data = module(odd, augmentation="drone", foreground_share=0.5, persistent_workers=False)
    loader = data.train_dataloader()
    loader.dataset[0, 0]  # files are open by now, and must stay behind
    spawned: Any = DataLoader(
        loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=collate, num_workers=1,
        multiprocessing_context="spawn",
    )  # fmt: skip
    assert same(loader, spawned)


def test_an_epoch_has_each_image_as_often_as_its_area_asks_for(odd: Path) -> None:
    for batches in epochs(module(odd).train_dataloader()):
        counts = np.bincount([scene for scene, _, _ in keys(batches)])
        assert counts.tolist() == [1, 1, 1, 1, 3, 3, 8]  # ceil(area / 256)


def test_another_number_of_samples(odd: Path) -> None:
    loader = module(odd, samples_per_epoch=11).train_dataloader()
    assert [sum(len(batch["at"]) for batch in batches) for batches in epochs(loader)] == [11, 11]


def test_two_ranks_together_see_what_one_sees(odd: Path) -> None:
    dataset: Any = module(odd).train_dataset()
    count = len(dataset.windows)

    def seen(rank: int, world: int, batch_size: int) -> set[tuple[Any, ...]]:
        sampler = TrainBatches(count, batch_size, rank, world)
        sampler.set_epoch(3)
        samples = [dataset[key] for batch in sampler for key in batch]
        return {(at, image.tobytes(), label.tobytes()) for image, label, at in samples}

    alone = seen(0, 1, 4)
    assert len(alone) == count
    assert seen(0, 2, 2) | seen(1, 2, 2) == alone
    assert len(seen(0, 2, 2)) + len(seen(1, 2, 2)) == count


class Recorder(L.LightningModule):
    """Trains one number, and writes down which windows it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[tuple[int, ...]]]] = {"train": [], "val": []}

    def on_train_epoch_start(self) -> None:
        self.seen["train"].append([])

    def on_validation_epoch_start(self) -> None:
        self.seen["val"].append([])

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        self.seen["train"][-1] += keys([batch])
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        self.seen["val"][-1] += keys([batch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_of_a_trainer_differ(odd: Path, tmp_path: Path, workers: int) -> None:
    model = Recorder()
    data = module(odd, num_workers=workers, augmentation="none")
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data)
    train, val = model.seen["train"], model.seen["val"]
    assert [len(epoch) for epoch in train] == [18, 18, 18]
    assert len({tuple(epoch) for epoch in train}) == 3
    assert train == [keys(batches) for batches in epochs(module(odd).train_dataloader(), 3)]
    assert val[0] == val[1] == val[2] == keys(module(odd).val_dataloader())


def test_training_starts_inside_an_epoch_after_a_resume(odd: Path) -> None:
    loader = module(odd).train_dataloader()
    whole = [keys(batches) for batches in epochs(loader, 3)]
    data = module(odd)
    data.load_state_dict({"epoch": 1, "batches": 2})
    resumed: Any = data.train_dataloader()
    resumed.batch_sampler.set_epoch(1)
    sizes = [len(batch) for batch in loader.batch_sampler]
    assert keys(resumed) == whole[1][sum(sizes[:2]) :]
    resumed.batch_sampler.set_epoch(2)
    assert keys(resumed) == whole[2]


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


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_foreground_share(tmp_path: Path, share: float) -> None:
    """Of windows that would hardly ever hit a single pixel, as many as asked for do, in the smallest window."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        label = np.zeros_like(label)
        label[3 * len(label) // 4, 1] = label[3, -1] = 1
        return image, label

    data = write_dataset(tmp_path, {"train": [(200, 200)], "val": [(20, 20)]}, change=change)
    settings = {"foreground_share": share, "samples_per_epoch": 400, "augmentation": "none"}
    batches = epochs(module(data, **settings).train_dataloader(), 1)[0]
    hits = np.mean([bool((label == 1).any()) for batch in batches for label in batch["label"]])
    assert abs(hits - share) < 0.13  # 5 standard deviations of a binomial
    assert same(batches, epochs(module(data, **settings).train_dataloader(), 1)[0])


def test_foreground_share_without_foreground(tmp_path: Path) -> None:
    data = write_dataset(
        tmp_path, {"train": [(20, 20)], "val": [(20, 20)]}, change=lambda image, label: (image, label * 0)
    )
    with pytest.raises(
        UserError, match="foreground_share: the train split has no pixel of any class but the background"
    ):
        module(data, foreground_share=0.5).train_dataloader()


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
    assert made.normalization is not None
    with rasterio.open(data / "train/x/s0.tif") as file:
        pixels = file.read([5, 2]).astype(np.float64)
    assert made.normalization.mean == pytest.approx(pixels.mean(axis=(1, 2)), rel=1e-9)
    assert made.normalization.std == pytest.approx(pixels.std(axis=(1, 2)), rel=1e-9)
    batch = next(iter(made.train_dataloader()))
    assert batch["image"].shape[1:] == (2, 16, 16)
    assert batch["image"].dtype == torch.float32


# What the user is told.


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
        "augmentation drone does without hue and saturation: made for three bands, these are 5"
    )
    assert module(wide, augmentation="light", **settings).notices == []
    deep = write_dataset(
        tmp_path / "deep",
        {s: [(20, 20)] for s in ("train", "val", "test")},
        change=lambda image, label: (image.astype(np.uint16), label),
    )
    assert only(module(deep, augmentation="strong", mean=[0.1] * 3, std=[0.1] * 3).notices) == (
        "augmentation strong does without brightness and contrast, gamma, hue and saturation, noise, blur: "
        "made for uint8, these images are uint16"
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
        "data_module.fill_value: 300 is no value of uint8 (allowed: 0 to 255)",
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
    for name, what in (("file", "is no folder"), ("nowhere", "no such folder"), ("~nobody-at-all/x", "home directory")):
        with pytest.raises(UserError, match=f"{name}: .*{what}.*a folder with train/, val/ and test/"):
            module(name)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [("uint8", -1.0, "-1 is no value of uint8"), ("uint8", 0.5, "0.5 must be a whole number"), ("float32", 1e39, "1e")],
)
def test_fill_value_must_be_one_of_the_images(tmp_path: Path, dtype: str, value: float, expected: str) -> None:
    data = write_dataset(tmp_path, change=lambda image, label: (image.astype(dtype), label))
    with pytest.raises(UserError, match=f"data_module.fill_value: {expected}"):
        module(data, fill_value=value, mean=[0.5] * 3, std=[0.2] * 3)


def test_workers(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, expected in ((1, 0), (2, 1), (64, 8)):
        monkeypatch.setattr("inference.common.cpu.cores", lambda count=count: count)
        assert default_workers() == expected
        assert module(odd, num_workers=None).workers == expected
    assert cores() >= 1
    assert module(odd, num_workers=3).workers == 3

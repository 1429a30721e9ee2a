"""Training from the blocks of a prepared data set: the same as from its chips, and what the table of blocks decides."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.common.errors import UserError
from tests.train.data.prepared_set import SETTINGS, edit, make_prepared
from train.configs.config import Config
from train.data.class_weights import with_class_weights
from train.data.labelled_images import LabelledImages
from train.data.pairs import data_dir
from train.data.prepared_statistics import read_statistics, write_statistics
from train.data.read_prepared import prepared_splits, read_prepared
from train.data.statistics import measure, merge
from train.datamodule import DataModule
from train.preparation.chips import write_chips


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), tiled=True, blockxsize=32, blockysize=32)


@pytest.fixture(scope="module")
def chips(prepared: Path) -> Path:
    folder = prepared.parent / "chips"
    assert write_chips(read_prepared(prepared), folder) == len(read_prepared(prepared).blocks)
    return folder


def data_module(folder: Path, **settings: Any) -> DataModule:
    sections = {"data_dir": str(folder), "num_workers": 0} | settings
    config = Config.model_validate({"tile_size": 32, "batch_size": 3, "data_module": sections})
    data = DataModule(config)
    data.prepare()
    return data


def equal(one: Any, other: Any) -> None:
    count = 0
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), key
        count += 1
    assert count > 1


@pytest.mark.parametrize("augmentation", ["none", "drone"])
def test_batches_of_blocks_are_those_of_chips(prepared: Path, chips: Path, augmentation: str) -> None:
    one, two = data_module(prepared, augmentation=augmentation), data_module(chips, augmentation=augmentation)
    assert one.images.normalization == two.images.normalization
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        equal(getattr(one, name)(), getattr(two, name)())


def test_windows_do_not_depend_on_the_workers(prepared: Path) -> None:
    settings = {"foreground_share": 0.5, "augmentation": "light"}
    equal(
        data_module(prepared, **settings).train_dataloader(),
        data_module(prepared, **settings, num_workers=2).train_dataloader(),
    )


def test_val_windows_cover_each_pixel_of_their_blocks_once(prepared: Path) -> None:
    data = data_module(prepared)
    dataset = data.grid_dataset("val")
    seen = [np.zeros((scene.height, scene.width), int) for scene in dataset.scenes]
    for index in range(len(dataset)):
        number, row, col = dataset[index][2]
        seen[number][row : row + 32, col : col + 32] += 1
    assert all((count == 1).all() for count in seen)
    assert len(seen) == sum(block.split == "val" for block in read_prepared(prepared).blocks)


def test_names_of_classes_come_from_the_data_set(prepared: Path) -> None:
    data = data_module(prepared)
    assert data.config.class_names == ["background", "kelp"]
    assert data_module(prepared, class_names=["background", "kelp"]).config.class_names == ["background", "kelp"]


@pytest.mark.parametrize(
    ("settings", "top", "message"),
    [
        (
            {"class_names": ["water", "kelp"]},
            {},
            r"^data_module\.class_names: water, kelp, but the classes of .*dataset\.gpkg are background, kelp \(write",
        ),
        (
            {},
            {"num_classes": 3},
            r"^num_classes: 3 means 3 classes, .*dataset\.gpkg has 2: background, kelp \(allowed: 1 or 2\)$",
        ),
        ({"fold": 2}, {}, r"^data_module\.fold: 2, but .*dataset\.gpkg has no folds"),
    ],
)
def test_a_config_that_contradicts_the_data_set(
    prepared: Path, settings: dict[str, Any], top: dict[str, Any], message: str
) -> None:
    sections = {"data_dir": str(prepared)} | settings
    data = DataModule(Config.model_validate({"tile_size": 32, "data_module": sections} | top))
    with pytest.raises(UserError, match=message):
        data.prepare()


def test_a_fold_of_folders(chips: Path) -> None:
    with pytest.raises(UserError, match=r"^data_module\.fold: 1, but .*chips has no folds \(leave it out"):
        data_module(chips, fold=1)


def test_a_fold_is_the_val_split(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, settings=replace(SETTINGS, folds=3))
    names = [[scene.name for scene in data_module(folder, fold=fold).scenes["val"]] for fold in (1, 2, 3)]
    blocks = read_prepared(folder).blocks
    assert sorted(name for fold in names for name in fold) == sorted(
        block.block for block in blocks if block.split != "test"
    )


def test_a_split_that_an_edit_emptied(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path)
    edit(folder, "UPDATE blocks SET split = 'train' WHERE split = 'val'")
    with pytest.raises(UserError, match=r"dataset\.gpkg: blocks: no selected block is in val \(set `split` and"):
        data_module(folder)
    edit(folder, "UPDATE blocks SET split = 'val' WHERE fid = 1")
    edit(folder, "UPDATE blocks SET selected = 0 WHERE split = 'test'")
    assert "no selected block is in test, so there will be no test scores" in " ".join(data_module(folder).notices)


def test_an_edit_that_breaks_the_guard_is_named(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, settings=replace(SETTINGS, guard=3.2))
    data_module(folder)
    edit(folder, "UPDATE blocks SET split = 'train', width = 88 WHERE block = 'm0_r3_c5'")
    edit(folder, "UPDATE blocks SET split = 'val' WHERE block = 'm0_r3_c97'")
    with pytest.raises(UserError) as caught:
        data_module(folder)
    (line,) = str(caught.value).splitlines()
    assert re.search(
        r"dataset\.gpkg: blocks: m0_r3_c\d+ \(\w+\) lies nearer to blocks of other splits than the guard of 3\.2 m: "
        r"m0_r3_c\d+ \(\w+, 0\.4 m\) \(give them one split, or set `selected` to false; run python -m train\.prepare",
        line,
    ), line
    edit(folder, "UPDATE blocks SET split = 'train' WHERE block = 'm0_r3_c97'")
    data_module(folder)


def test_folds_keep_their_distance_where_they_are_used(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, settings=replace(SETTINGS, folds=2, guard=5.0))
    edit(folder, "UPDATE blocks SET split = CASE source WHEN 'm0' THEN 'train' ELSE 'val' END, fold = 1 + fid % 2")
    data_module(folder)
    with pytest.raises(UserError, match="lies nearer to blocks of other splits than the guard of 5 m"):
        data_module(folder, fold=1)


def test_a_block_in_another_split_than_its_neighbours_is_one_line(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, size=(210, 210), mosaics=1, settings=replace(SETTINGS, guard=0.1, guard_pixels=1))
    edit(folder, "UPDATE blocks SET split = 'train'")
    edit(folder, "UPDATE settings SET value = '3.0' WHERE key = 'guard'")
    edit(folder, "UPDATE blocks SET split = 'val' WHERE block = 'm0_r64_c66'")
    with pytest.raises(UserError) as caught:
        data_module(folder)
    (line,) = str(caught.value).splitlines()
    assert "blocks: m0_r64_c66 (val) lies nearer to blocks of other splits than the guard of 3 m" in line
    assert "0.1 m" in line


def test_notices_about_windows_larger_than_prepared_for(prepared: Path) -> None:
    assert not any("tile_size" in line for line in data_module(prepared).notices)
    config = Config.model_validate({"tile_size": 64, "data_module": {"data_dir": str(prepared), "num_workers": 0}})
    data = DataModule(config)
    data.prepare()
    lines = [line for line in data.notices if "tile_size" in line]
    assert "tile_size is 64, but the data were prepared for 32 (blocks of two splits may lie only 1 m apart" in lines[0]
    count = len(read_prepared(prepared).blocks)
    assert f"{count} of {count} blocks are smaller than tile_size 64" in lines[1]


class TestForeground:
    """Windows on the foreground, without reading all labels first."""

    def test_they_show_foreground_in_proportion_to_the_blocks(self, prepared: Path) -> None:
        data = data_module(prepared, foreground_share=1, samples_per_epoch=300, augmentation="none")
        dataset = data.train_dataset()
        counts = np.zeros(len(dataset.scenes), int)
        for index in range(300):
            _, label, (number, _, _) = dataset[(0, index)]
            assert (label == 1).any()
            counts[number] += 1
        area = [s.block.shares[1] * s.height * s.width for s in dataset.scenes if s.block is not None]
        wanted = 300 * np.array(area) / sum(area)
        assert (np.abs(counts - wanted) < 4 * np.sqrt(wanted) + 1).all()

    def test_no_label_is_read_at_the_start(self, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = data_module(prepared, foreground_share=0.5)
        monkeypatch.setattr("train.data.reader.Reader.label", None)
        data.train_dataset()

    def test_a_label_without_the_foreground_of_its_row(self, tmp_path: Path) -> None:
        folder = make_prepared(tmp_path)
        edit(folder, "UPDATE blocks SET share_0_background = 0, share_1_kelp = 0")
        with pytest.raises(UserError, match="the train split has no pixel of any class but the background"):
            data_module(folder, foreground_share=1).train_dataset()
        data = data_module(make_prepared(tmp_path / "b"), foreground_share=1)
        empty = [
            replace(s, block=s.block and replace(s.block, row=0, col=0, height=2, width=2, shares=(0, 1)))
            for s in data.scenes["train"]
        ]
        data.scenes["train"] = empty
        with pytest.raises(UserError, match=r"labels/m\d\.tif: block m\d_r\d+_c\d+ has no foreground, but its row"):
            data.train_dataset()[(0, 0)]


def measured(folder: Path) -> DataModule:
    return data_module(folder, mean="auto", std="auto")


def test_statistics_of_the_data_set_are_used_while_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_prepared(tmp_path)
    data = measured(folder)
    prepared = read_prepared(folder)
    blocks = prepared_splits(prepared, None)["train"]
    parts, _ = measure(data.scenes["train"], data.bands, data.reader(), "", True)
    statistics = merge(parts, 3, 2)
    path = write_statistics(prepared, blocks, (1, 2, 3), statistics, {2: np.array([1.0, 2, 3])})
    content = json.loads(path.read_text())
    assert content["bands"][1]["percentiles"] == {"2": 2.0}
    assert content["bands"][0]["mean"] == pytest.approx(statistics.mean[0])
    with monkeypatch.context() as patched:
        patched.setattr("train.data.reader.Reader.image", None)
        patched.setattr(LabelledImages, "_undeclared_notices", lambda self: [])
        again = measured(folder)
    assert again.images.normalization == data.images.normalization
    write_statistics(prepared, blocks, (1, 2, 3), replace(statistics, total=statistics.total / 2))
    assert measured(folder).images.normalization != data.images.normalization
    assert data_module(folder, mean="auto", std="auto", nodata="none").images.normalization == data.images.normalization
    edit(folder, f"UPDATE blocks SET selected = 0 WHERE block = '{blocks[0].block}'")
    edited = measured(folder)
    assert edited.images.normalization != data.images.normalization
    path.write_text("{")
    assert measured(folder).images.normalization == edited.images.normalization


@pytest.mark.parametrize(("nodata", "used"), [(None, True), (0, False)])
def test_statistics_of_some_bands(tmp_path: Path, nodata: int | None, used: bool) -> None:
    """A pixel that is nodata in the bands that are read may be valid in all bands."""
    folder = make_prepared(tmp_path, nodata=nodata)
    data = data_module(folder)
    prepared = read_prepared(folder)
    parts, _ = measure(data.scenes["train"], (1, 2, 3), data.reader(), "")
    blocks = [scene.block for scene in data.scenes["train"] if scene.block is not None]
    write_statistics(prepared, blocks, (1, 2, 3), merge(parts, 3, 2))
    some = read_statistics(prepared, data.scenes["train"], (3, 1))
    assert (some is not None) == used
    if some is not None:
        parts, _ = measure(data.scenes["train"], (3, 1), data.reader(), "")
        np.testing.assert_allclose(some.mean, merge(parts, 2, 2).mean)
        np.testing.assert_allclose(some.std, merge(parts, 2, 2).std)
    assert read_statistics(prepared, data.scenes["train"], (3, 2, 1)) is not None


def test_class_weights_by_the_table_are_those_of_the_labels(prepared: Path, chips: Path) -> None:
    weights = []
    for folder in (prepared, chips):
        loss = {"name": "CrossEntropy", "opts": {"class_weights": "auto"}}
        config = Config.model_validate(
            {
                "tile_size": 32,
                "num_classes": 2,
                "segmentation_config": {"loss": loss},
                "data_module": {"data_dir": str(folder), "num_workers": 0},
            }
        )
        data = DataModule(config)
        data.prepare()
        resolved, _ = with_class_weights(data.config, data.images)
        (options,) = resolved.segmentation_config.terms[0].options
        weights.append(options.class_weights)
    assert weights[0] == weights[1]


def test_data_dir_accepts_a_prepared_set(prepared: Path) -> None:
    assert data_dir(str(prepared)) == prepared

"""Blocks of mosaics: read as the chips of the same rectangles, and everything that follows from their place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.conftest import scene, write_raster
from tests.train.data.prepared_set import make_prepared
from tests.train.data.scenes import noise, windows
from train.data.chip import write_chip
from train.data.fingerprint import file_digests, fingerprint
from train.data.labels import LabelRule
from train.data.pairs import Pair, Scene, read_scenes, whole_images
from train.data.prepared import Block
from train.data.prepared_scenes import prepared_scenes
from train.data.read_prepared import prepared_splits, read_prepared
from train.data.reader import Reader

RULE = LabelRule(2, 2)
RECTANGLES = [(0, 0, 40, 50), (3, 5, 37, 29), (61, 40, 39, 90), (99, 129, 1, 1)]


def mosaic(folder: Path, kind: str) -> Scene:
    """A mosaic of 100 x 130 pixels with invalid pixels of a kind."""
    image, label = noise("float32" if kind == "nan" else "uint16" if kind == "nodata" else "uint8", 4, 100, 130), None
    _, label = scene(np.random.default_rng(1), 100, 130)
    hole = np.random.default_rng(2).random((100, 130)) < 0.3
    profile = {"tiled": True, "blockxsize": 32, "blockysize": 16}
    if kind == "nodata":
        image[:, hole] = 7
        profile["nodata"] = 7
    if kind == "nan":
        image[1, hole] = np.nan
    path = write_raster(folder / "m.tif", image, **profile)
    with rasterio.open(path, "r+") as file:
        names = "red green blue alpha" if kind == "alpha" else "red green blue undefined"
        file.colorinterp = [rasterio.enums.ColorInterp[name] for name in names.split()]
        if kind == "alpha":
            file.write(np.where(hole, 0, 255).astype(np.uint8), 4)
        if kind == "mask":
            file.write_mask(~hole)
        file.set_band_description(2, "green")
    label_path = write_raster(
        folder / "labels" / "m.tif", np.where(hole[::-1], 255, label).astype(np.uint8), nodata=255
    )
    (found,), problems = read_scenes([Pair(path, label_path)])
    assert problems == []
    return found


@pytest.mark.parametrize("kind", ["plain", "nodata", "mask", "alpha", "nan"])
def test_a_block_is_read_as_its_chip(tmp_path: Path, kind: str) -> None:
    whole = mosaic(tmp_path, kind)
    bands = (1, 2, 3) if kind in {"alpha", "mask"} else (4, 2)
    for number, (row, col, height, width) in enumerate(RECTANGLES):
        block = replace(whole, block=Block(f"b{number}", "m", row, col, height, width, "train"))
        pair = Pair(tmp_path / "x" / f"b{number}.tif", tmp_path / "y" / f"b{number}.tif")
        pair.image.parent.mkdir(exist_ok=True)
        pair.label.parent.mkdir(exist_ok=True)
        write_chip(block, pair.image, pair.label)
        (chip,), problems = read_scenes([pair])
        assert problems == []
        assert (chip.height, chip.width) == (block.height, block.width) == (height, width)
        assert chip.image.transform.almost_equals(block.transform)
        for name in ("count", "dtype", "nodata", "alpha", "masked", "crs", "colours", "descriptions"):
            assert getattr(chip.image, name) == getattr(whole.image, name), name
        reader = Reader(RULE, 3)
        for size in (16, 64):
            for at in windows(height, width, size):
                one, two = (reader.window(each, bands, *at, size) for each in (block, chip))
                for first, second in zip(one, two, strict=True):
                    np.testing.assert_array_equal(first, second, f"{number} {size} {at}")
        reader.close()


def test_blocks_of_a_mosaic_share_its_files(tmp_path: Path) -> None:
    whole = mosaic(tmp_path, "plain")
    reader = Reader(RULE)
    for col in range(0, 120, 10):
        reader.window(replace(whole, block=Block(f"b{col}", "m", 0, col, 10, 10, "train")), (1,), 0, 0, 10)
    assert len(reader._open) == 2
    reader.close()


def test_a_wrong_label_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    whole = mosaic(tmp_path, "plain")
    with rasterio.open(whole.label.path, "r+") as file:
        file.write(np.full((1, 1), 9, np.uint8), 1, window=rasterio.windows.Window(33, 21, 1, 1))
    block = replace(whole, block=Block("b", "m", 20, 30, 8, 8, "train"))
    with pytest.raises(Exception, match=r"m\.tif: label value 9 at row 21, column 33 is no class"):
        Reader(RULE).window(block, (1,), 0, 0, 8)


def test_fingerprints_tell_images_labels_and_blocks_apart(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path)
    prepared = read_prepared(folder)
    splits, problems = prepared_scenes(prepared, prepared_splits(prepared, None))
    assert problems == []
    files = file_digests(splits)
    blocks = [block.block for block in prepared.blocks]
    assert set(files) == {"image of m0", "image of m1", "labels/m0.tif", "labels/m1.tif"} | {
        f"{split}/{scene.name}" for split, scenes in splits.items() for scene in scenes
    }
    assert len(files) == len(blocks) + 4
    first = splits["train"][0]
    assert first.block is not None
    moved = [replace(first, block=replace(first.block, row=first.row + 1)), *splits["train"][1:]]
    assert fingerprint(moved) != fingerprint(splits["train"]) == fingerprint(splits["train"][::-1])
    changed = file_digests(splits | {"train": moved})
    assert {name for name in files if files[name] != changed[name]} == {f"train/{first.name}"}


def test_whole_images_are_named_once_in_order(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path)
    prepared = read_prepared(folder)
    splits, _ = prepared_scenes(prepared, prepared_splits(prepared, None))
    images = whole_images(splits["train"])
    assert [image.name for image in images] == ["m0", "m1"]
    assert all((image.height, image.width) == (150, 210) for image in images)

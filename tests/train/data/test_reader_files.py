"""Open files of a reader: damaged ones, their number, other processes, and the memory of their cache."""

import multiprocessing
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.common.errors import UserError
from train.data import reader as geotiff
from train.data.labels import LabelRule
from train.data.pairs import Pair, Scene, read_scenes
from train.data.reader import Reader

from .scenes import RULE, TILED, made, noise


def test_of_a_damaged_file_the_rest_is_read(tmp_path: Path) -> None:
    """Only the blocks that a window touches are read at all."""
    pixels = noise("uint8", 3, 64, 64)
    scene = made(tmp_path, pixels, compress="deflate", photometric="RGB", **TILED)
    with rasterio.open(scene.pair.image) as file:
        start, size = (
            int(file.get_tag_item(f"BLOCK_{what}_3_2", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")
        )  # fmt: skip
    content = bytearray(scene.pair.image.read_bytes())
    content[start : start + size] = b"\xff" * size
    scene.pair.image.write_bytes(bytes(content))
    reader = Reader(RULE)
    for row, col in ((0, 0), (16, 48), (48, 32), (32, 0)):
        image, _, _ = reader.window(scene, (1, 2, 3), row, col, 16)
        np.testing.assert_array_equal(image, pixels[:, row : row + 16, col : col + 16].transpose(1, 2, 0))
    with pytest.raises(UserError) as caught:
        reader.window(scene, (1, 2, 3), 20, 40, 16)
    assert str(caught.value).startswith(f"{scene.pair.image}: can't be read from row 20, column 40, 16x16 pixels: ")
    assert "the file is damaged or cut short" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "jpeg"])
def test_a_file_that_is_cut_short(tmp_path: Path, compress: str, capfd: pytest.CaptureFixture[str]) -> None:
    scene = made(tmp_path, noise("uint8", 3, 128, 128), compress=compress, photometric="RGB", **TILED)
    content = scene.pair.image.read_bytes()
    scene.pair.image.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"x\.tif: can't be read from row 0, column 0, 128x128 pixels: "):
        Reader(RULE, threads=2).window(scene, (1, 2, 3), 0, 0, 128)
    assert capfd.readouterr().err == ""


def handles(reader: Reader) -> OrderedDict[Path, Any]:
    return reader._open


def test_files_are_opened_when_needed_and_no_more_than_so_many(tmp_path: Path) -> None:
    count = geotiff.OPEN_FILES + 10
    scenes = [made(tmp_path / str(number), np.full((1, 4, 4), number, np.uint8)) for number in range(count)]
    reader = Reader(RULE)
    assert not handles(reader)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(2):
        for number, scene in enumerate(scenes):
            image, _, _ = reader.window(scene, (1,), 0, 0, 4)
            assert (image == number).all()
            assert len(handles(reader)) <= geotiff.OPEN_FILES
    assert len(handles(reader)) == geotiff.OPEN_FILES
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + geotiff.OPEN_FILES
    again = handles(reader)[scenes[-1].image.path]
    reader.window(scenes[-1], (1,), 0, 0, 4)
    assert handles(reader)[scenes[-1].image.path] is again
    reader.close()
    assert again.closed


def read_in_child(reader: Reader, scene: Scene, answer: Any) -> None:
    inherited = dict(handles(reader))
    image, _, _ = reader.window(scene, (1, 2, 3), 3, 5, 16)
    own = handles(reader)[scene.image.path]
    answer.put((image, all(own is not other for other in inherited.values()), len(handles(reader))))
    answer.close()
    answer.join_thread()
    os._exit(0)


def test_a_forked_process_opens_files_of_its_own(tmp_path: Path) -> None:
    pixels = noise("uint8", 3, 40, 40)
    scene = made(tmp_path, pixels, photometric="RGB")
    reader = Reader(RULE)
    reader.window(scene, (1, 2, 3), 0, 0, 16)
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=read_in_child, args=(reader, scene, answer))
    child.start()
    image, own, count = answer.get(timeout=60)
    child.join()
    assert own
    assert count == 2
    np.testing.assert_array_equal(image, pixels[:, 3:19, 5:21].transpose(1, 2, 0))
    assert not any(dataset.closed for dataset in handles(reader).values())


def test_a_reader_travels_without_its_files(tmp_path: Path) -> None:
    scene = made(tmp_path, noise("uint8", 3, 40, 40))
    reader = Reader(LabelRule(2, 2, ((5, 1),)), fill_value=3)
    reader.window(scene, (1, 2, 3), 0, 0, 16)
    other = pickle.loads(pickle.dumps(reader))
    assert len(handles(reader)) == 2
    assert not handles(other)
    assert (other.rule, other.fill_value) == (reader.rule, 3)
    assert pickle.loads(pickle.dumps(scene)) == scene


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_block_cache_is_capped(tmp_path: Path) -> None:
    """A mosaic far larger than what many processes may each keep is read through; its memory isn't kept."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    shape = {"height": 16384, "width": 16384, "count": 1, "dtype": "uint8"}
    for name in ("x", "y"):
        path = tmp_path / f"{name}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", tiled=True, blockxsize=1024, blockysize=1024, sparse_ok=True, **shape
        ):
            pass
    (scene,), _ = read_scenes([Pair(tmp_path / "x.tif", tmp_path / "y.tif")])
    reader = Reader(RULE, processes=16)
    reader.window(scene, (1,), 0, 0, 1024)
    before = resident()
    for row in range(0, 16384, 1024):
        for col in range(0, 16384, 1024):
            reader.window(scene, (1,), row, col, 1024)
    assert resident() - before < 128 * 2**20  # of 512 MiB

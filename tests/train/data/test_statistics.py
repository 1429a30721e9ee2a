"""Counts and statistics of a data set against NumPy over the whole files, in blocks smaller than the images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_raster
from train.data import statistics as module
from train.data.labels import LabelRule
from train.data.pairs import Pair, Scene, read_scenes
from train.data.reader import Reader
from train.data.statistics import measure, merge


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)


def made(folder: Path, images: list[np.ndarray], labels: list[np.ndarray] | None = None, **profile: Any) -> list[Scene]:
    labels = labels or [np.zeros(image.shape[1:], np.uint8) for image in images]
    pairs = [
        Pair(
            write_raster(folder / "x" / f"{i}.tif", image, photometric="MINISBLACK", **profile),
            write_raster(folder / "y" / f"{i}.tif", label),
        )
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    scenes, problems = read_scenes(pairs)
    assert problems == []
    return scenes


SIZES = [(1, 1), (100, 131), (64, 64), (1, 70)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("nodata", [None, 7])
def test_statistics_are_those_of_all_valid_pixels(tmp_path: Path, dtype: str, nodata: int | None) -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1, 2, 3, 0.5])[:, None, None]
    images = [(rng.gamma(2, 10, (4, *size)) * scale).astype(dtype) for size in SIZES]
    for image in images:
        if nodata is not None:
            image[:, ::3, ::2] = nodata
        if dtype == "float32":
            image[2, -1, -1] = np.nan
    labels = [rng.integers(0, 3, size, np.uint8) for size in SIZES]
    scenes = made(tmp_path, images, labels, nodata=nodata)
    bands = (1, 3, 4)
    found, problems = measure(scenes, bands, Reader(LabelRule(2, 2)), "reading")
    assert problems == []
    total = merge(found, 3, 2)
    pixels = np.concatenate([image[[0, 2, 3]].reshape(3, -1) for image in images], axis=1).astype(np.float64)
    label = np.concatenate([values.ravel() for values in labels])
    valid = np.isfinite(pixels).all(axis=0) & ~(pixels == nodata).all(axis=0)
    assert total.pixels == valid.size
    assert total.invalid == (~valid).sum()
    assert total.valid == valid.sum()
    assert total.class_counts.tolist() == [(label[valid] == 0).sum(), (label[valid] == 1).sum()]
    assert total.unlabelled == (label[valid] == 2).sum()
    np.testing.assert_allclose(total.mean, pixels[:, valid].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(total.std, pixels[:, valid].std(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(total.low, pixels[:, valid].min(axis=1))
    np.testing.assert_array_equal(total.high, pixels[:, valid].max(axis=1))


def test_a_small_spread_around_a_large_mean_does_not_cancel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = (1e6 + rng.normal(0, 0.5, (1, 150, 150))).astype(np.float32)
    (found,), _ = measure(made(tmp_path, [image]), (1,), Reader(LabelRule(2, 2)), "reading")
    assert found.std[0] == pytest.approx(image.astype(np.float64).std(), rel=1e-9)


def test_each_scene_is_counted_for_itself(tmp_path: Path) -> None:
    images = [np.full((1, *size), number, np.uint8) for number, size in enumerate(SIZES)]
    found, _ = measure(made(tmp_path, images), (1,), Reader(LabelRule(2, 2)), "reading")
    assert [(s.pixels, s.mean[0]) for s in found] == [(h * w, number) for number, (h, w) in enumerate(SIZES)]


def test_without_labels_their_files_are_not_read(tmp_path: Path) -> None:
    scenes = made(tmp_path, [np.full((1, 20, 20), 9, np.uint8)])
    scenes[0].pair.label.unlink()
    (found,), problems = measure(scenes, (1,), Reader(LabelRule(2, 2)), "reading", labels=False)
    assert problems == []
    assert (found.mean[0], found.class_counts.tolist()) == (9, [0, 0])


def test_nothing_valid_is_no_division_by_zero(tmp_path: Path) -> None:
    (found,), _ = measure(
        made(tmp_path, [np.zeros((2, 80, 80), np.uint8)], nodata=0), (1, 2), Reader(LabelRule(2, 2)), ""
    )
    assert (found.valid, found.invalid, found.mean.tolist(), found.std.tolist()) == (0, 6400, [0, 0], [0, 0])


def test_all_files_that_cannot_be_read_are_named_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (1, 130, 130), np.uint8) for _ in range(4)]
    labels = [np.zeros((130, 130), np.uint8) for _ in range(4)]
    labels[1][[3, 100], [5, 120]] = 9  # in two blocks
    labels[2][129, 129] = 8
    scenes = made(tmp_path, images, labels, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    for number in (0, 2):
        path = scenes[number].pair.image
        path.write_bytes(path.read_bytes()[:5000])
    _, problems = measure(scenes, (1,), Reader(LabelRule(2, 2)), "reading")
    assert [line.split(": ")[0] for line in problems] == [
        str(scenes[0].pair.image), str(scenes[1].pair.label), str(scenes[2].pair.image), str(scenes[2].pair.label)
    ]  # fmt: skip
    assert "label value 9 at row 3, column 5 " in problems[1]
    assert "label value 8 at row 129, column 129 " in problems[3]

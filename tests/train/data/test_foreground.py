"""Foreground pixels: every one is counted in its cell, and only they are drawn."""

from pathlib import Path

import numpy as np
import pytest

from tests.train.data.test_statistics import SIZES, made
from train.data import foreground as module
from train.data import statistics
from train.data.foreground import find_foreground
from train.data.labels import LabelRule
from train.data.reader import Reader


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BLOCK", 64)
    monkeypatch.setattr(module, "CELL", 16)


@pytest.mark.parametrize("background", [0, 1, None])
def test_foreground(tmp_path: Path, background: int | None) -> None:
    rng = np.random.default_rng(0)
    labels = [rng.choice(4, size, p=[0.9, 0.05, 0.03, 0.02]).astype(np.uint8) for size in SIZES]
    labels[1][:70, :70] = 0
    labels[0][:] = 3
    scenes = made(tmp_path, [np.zeros((1, *size), np.uint8) for size in SIZES], labels)
    reader = Reader(LabelRule(3, 3))
    found = find_foreground(scenes, reader, background, "looking")
    wanted = [(label != 3) & (label != (-1 if background is None else background)) for label in labels]
    pixels = np.diff(found.cumulative, prepend=0)
    for number in range(len(SIZES)):
        assert pixels[found.scenes == number].sum() == wanted[number].sum()
    # Each group is a cell: its points are wanted and lie together, and it counts what is wanted there.
    for scene, points, count in zip(found.scenes, found.points, pixels, strict=True):
        assert wanted[scene][tuple(points.T)].all()
        row, col = points[0] // 16 * 16
        assert (points // 16 * 16 == (row, col)).all()
        assert wanted[scene][row : row + 16, col : col + 16].sum() == count
    again = find_foreground(scenes, reader, background, "looking")
    np.testing.assert_array_equal(found.points, again.points)


def test_no_foreground(tmp_path: Path) -> None:
    scenes = made(tmp_path, [np.zeros((1, 20, 20), np.uint8)])
    assert len(find_foreground(scenes, Reader(LabelRule(2, 2)), 0, "looking")) == 0

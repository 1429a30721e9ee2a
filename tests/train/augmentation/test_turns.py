"""The eight flips and quarter turns: equal to NumPy's for every type and number of bands."""

import numpy as np
import pytest

from train.augmentation.turns import Turn
from train.augmentation.warp import Warp

TURNS = [Turn.of(number) for number in range(8)]


def expected(turn: Turn, pixels: np.ndarray) -> np.ndarray:
    moved = pixels.swapaxes(0, 1) if turn.transpose else pixels
    return moved[:: -1 if turn.up_down else 1, :: -1 if turn.left_right else 1]


def test_the_eight_are_different_and_are_all_quarter_turns_and_flips() -> None:
    square = np.arange(9, dtype=np.uint8).reshape(3, 3)
    flips = (square, square[:, ::-1])
    assert {turn(square).tobytes() for turn in TURNS} == {np.rot90(f, k).tobytes() for f in flips for k in range(4)}
    assert len({turn(square).tobytes() for turn in TURNS}) == 8


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_equal_to_numpy(turn: Turn, dtype: str) -> None:
    rng = np.random.default_rng(0)
    # The bands cover what OpenCV transposes, what it doesn't, and more than OpenCV knows at all.
    for bands in ((), (1,), (2,), (3,), (4,), (5,), (7,), (8,), (12,), (130,), (600,)):
        for height, width in ((40, 40), (33, 71), (1, 5)):
            pixels = rng.integers(0, 256, (height, width, *bands)).astype(dtype)
            moved = turn(pixels)
            np.testing.assert_array_equal(moved, expected(turn, pixels), err_msg=f"{bands} {height}")
            assert moved.dtype == pixels.dtype
            assert moved.flags.c_contiguous


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("bands", [(), (3,), (5,)])
def test_views_are_turned_and_left_alone(turn: Turn, bands: tuple[int, ...]) -> None:
    whole = np.random.default_rng(1).integers(0, 256, (*bands, 50, 60)).astype(np.uint8)
    before = whole.copy()
    view = np.moveaxis(whole, 0, -1)[5:45:2, ::-1] if bands else whole[5:45:2, ::-1]
    np.testing.assert_array_equal(turn(view), expected(turn, view))
    np.testing.assert_array_equal(whole, before)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_its_matrix_is_the_same_turn(turn: Turn) -> None:
    image = np.random.default_rng(2).integers(1, 256, (24, 24, 3)).astype(np.uint8)
    label = image[..., 0].copy()
    moved, moved_label, outside = Warp(turn.matrix(24, 24))(image, label, None, 255, 0)
    np.testing.assert_array_equal(moved, turn(image))
    np.testing.assert_array_equal(moved_label, turn(label))
    assert not outside.any()


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_its_matrix_of_a_window_that_is_not_square(turn: Turn) -> None:
    """The matrix leads from each pixel to where the turn puts it."""
    number = np.arange(15).reshape(3, 5)
    rows, cols = np.mgrid[:3, :5]
    x, y, _ = turn.matrix(3, 5) @ np.stack([cols.ravel(), rows.ravel(), np.ones(15)])
    np.testing.assert_array_equal(turn(number)[y.astype(int), x.astype(int)], number.ravel())

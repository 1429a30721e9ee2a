"""Which windows an epoch is made of: every promise about them, by counting."""

import numpy as np
import pytest

from train.data.foreground import Foreground
from train.data.windows import TrainingWindows, WindowPosition, batches, grid, quotas

SIZES = [(64, 64), (1, 1), (1, 97), (61, 3), (129, 127), (16, 200)]


def windows_of(windows: TrainingWindows, epoch: int) -> list[WindowPosition]:
    """The windows of an epoch, as a data set draws them."""
    return [
        windows.draw_position(int(scene), np.random.default_rng([windows.seed, 1, epoch, i]))
        for i, scene in enumerate(windows.scenes(epoch))
    ]


@pytest.mark.parametrize("tile", [16, 17, 64, 200])
def test_the_grid_has_every_pixel_once(tile: int) -> None:
    seen = [np.zeros(size, int) for size in SIZES]
    for at in grid(SIZES, tile):
        assert seen[at.scene][at.row : at.row + tile, at.col : at.col + tile].size > 0
        seen[at.scene][at.row : at.row + tile, at.col : at.col + tile] += 1
    assert all((count == 1).all() for count in seen)


def test_quotas() -> None:
    assert quotas([(64, 64), (32, 32), (1, 1), (64, 65), (128, 128), (100, 300)], 64) == [1, 1, 1, 2, 4, 8]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_deals_each_image_its_quota(epoch: int) -> None:
    windows = TrainingWindows(SIZES, 32, seed=3)
    assert len(windows) == sum(quotas(SIZES, 32))
    assert np.bincount(windows.scenes(epoch), minlength=len(SIZES)).tolist() == quotas(SIZES, 32)


@pytest.mark.parametrize("samples", [1, 5, 23, 60])
def test_another_number_of_samples_deals_on_from_the_same_decks(samples: int) -> None:
    """However an epoch is cut, after whole decks every image had its share of them."""
    windows = TrainingWindows(SIZES, 32, seed=3, samples_per_epoch=samples)
    deck = sum(quotas(SIZES, 32))
    dealt = np.concatenate([windows.scenes(epoch) for epoch in range(-(-3 * deck // samples))])
    assert all(len(windows.scenes(epoch)) == samples == len(windows) for epoch in range(4))
    for number in range(3):
        cards = dealt[number * deck : (number + 1) * deck]
        assert np.bincount(cards, minlength=len(SIZES)).tolist() == quotas(SIZES, 32)


def test_windows_follow_from_seed_and_epoch_alone() -> None:
    one, other = TrainingWindows(SIZES, 32, seed=3), TrainingWindows(SIZES, 32, seed=3)
    assert windows_of(one, 4) == windows_of(other, 4)
    assert windows_of(one, 4) != windows_of(one, 5)
    assert windows_of(one, 4) != windows_of(TrainingWindows(SIZES, 32, seed=4), 4)


def test_places_lie_inside_and_each_is_as_likely() -> None:
    windows = TrainingWindows([(20, 16)], 16, seed=0)
    rng = np.random.default_rng(0)
    rows = [windows.draw_position(0, rng) for _ in range(2000)]
    assert {at.col for at in rows} == {0}
    counts = np.bincount([at.row for at in rows])
    assert len(counts) == 5
    assert (abs(counts - 400) < 100).all()  # 5 standard deviations


def test_a_small_image_lies_anywhere_in_its_window() -> None:
    windows = TrainingWindows([(3, 20)], 16, seed=0)
    rng = np.random.default_rng(0)
    rows = {windows.draw_position(0, rng).row for _ in range(500)}
    assert rows == set(range(3 - 16, 1))


def foreground() -> Foreground:
    """One pixel at (5, 7) of image 0, and three times as much at the far corner of image 1."""
    points = np.array([[[5, 7]] * 2, [[99, 79], [98, 79]]], np.int32)
    return Foreground(np.array([0, 1]), np.array([10, 40]), points)


def test_windows_are_placed_on_foreground_as_often_as_asked_for() -> None:
    sizes = [(100, 80), (100, 80), (100, 80)]
    windows = TrainingWindows(sizes, 16, seed=0, foreground=foreground(), foreground_share=0.25)
    rng = np.random.default_rng(1)
    drawn = [windows.draw_position(2, rng) for _ in range(4000)]  # image 2 has none, so whatever isn't there was placed
    placed = [at for at in drawn if at.scene != 2]
    assert abs(len(placed) - 1000) < 140  # 5 standard deviations of a binomial
    assert abs(sum(at.scene == 1 for at in placed) / len(placed) - 0.75) < 0.07


def test_a_window_on_foreground_has_it_inside_and_nothing_beyond_the_image() -> None:
    windows = TrainingWindows([(100, 80), (100, 80)], 16, seed=0, foreground=foreground(), foreground_share=1)
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(500):
        at = windows.draw_position(0, rng)
        assert 0 <= at.row <= 84
        assert 0 <= at.col <= 64
        inside = [
            (r, c)
            for r, c in ([(5, 7)] if at.scene == 0 else [(99, 79), (98, 79)])
            if at.row <= r < at.row + 16 and at.col <= c < at.col + 16
        ]
        assert inside
        seen.add(at.row)
    assert {0, 1, 2, 3, 4, 5} <= seen


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 16, 17, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("world", [1, 2, 5])
def test_batches_leave_no_window_out(count: int, batch_size: int, world: int) -> None:
    ranks = batches(count, batch_size, world)
    assert len(ranks) == world
    assert len({len(rank) for rank in ranks}) == 1  # every rank takes every step
    dealt = np.concatenate([batch for rank in ranks for batch in rank])
    sizes = [len(batch) for rank in ranks for batch in rank]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert set(dealt.tolist()) == set(range(count))
    if count >= world:
        assert len(dealt) == count or count < len(ranks[0]) * world


def test_two_ranks_see_what_one_sees() -> None:
    alone = np.concatenate(batches(37, 4, 1)[0])
    together = np.concatenate([batch for rank in batches(37, 2, 2) for batch in rank])
    assert sorted(together) == sorted(alone) == list(range(37))

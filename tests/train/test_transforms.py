"""Augmentation: image and label move as one, nothing is invented, and the seed alone decides."""

import pickle
from typing import Any

import numpy as np
import pytest

from train.transforms import Augmentation, Strength

STRENGTHS: tuple[Strength, ...] = ("none", "light", "drone", "strong")
IGNORED = 255
SIDE = 96


def window(bands: int, dtype: str, fill: float = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bands of different levels, a label of stripes, and an invalid corner."""
    rng = np.random.default_rng(bands)
    image = rng.integers(100, 200, (SIDE, SIDE, bands)).astype(np.uint8 if dtype == "uint8" else np.float32)
    image *= 1 if dtype == "uint8" else 50
    label = np.broadcast_to(np.arange(SIDE, dtype=np.uint8) // 8 % 3, (SIDE, SIDE)).copy()
    invalid = np.zeros((SIDE, SIDE), bool)
    invalid[:30, :40] = True
    image[invalid], label[invalid] = fill, IGNORED
    return image, label, invalid


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 8, 12])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.filterwarnings("error")
def test_any_bands_and_types(strength: Strength, bands: int, dtype: str) -> None:
    augment = Augmentation(strength, bands, dtype, IGNORED, 37)
    image, label, invalid = window(bands, dtype, 37)
    for seed in range(4):
        out, moved = augment(image.copy(), label.copy(), invalid.copy(), seed)
        assert (out.shape, out.dtype) == (image.shape, image.dtype)
        assert (moved.shape, moved.dtype) == (label.shape, label.dtype)
        assert np.isfinite(out).all()
        if dtype != "uint8":  # beyond 0..1 as within it: no value is cut off, none is new
            assert out.max() <= image.max()
            assert out.min() >= 37


@pytest.mark.parametrize("strength", ["light", "drone", "strong"])
def test_image_and_label_move_as_one(strength: Strength) -> None:
    """An image that is its label still is, whichever way it went: a ramp along each axis."""
    augment = Augmentation(strength, 2, "float32", IGNORED, 0)
    ramps = np.mgrid[1 : SIDE + 1, 1 : SIDE + 1].astype(np.uint8)
    moves = 0
    for seed in range(24):
        for axis in range(2):
            image, label = augment(ramps.transpose(1, 2, 0).astype(np.float32), ramps[axis], None, seed)
            known = label != IGNORED
            off = image[..., axis][known] - label[known]
            # Nearest pixel against interpolation, and at the rim against what lies outside.
            assert np.quantile(abs(off), 0.85) <= 0.75, (seed, axis)
            assert abs(np.median(off)) < 0.3, (seed, axis)
            moves += not np.array_equal(label, ramps[axis])
    assert moves > 24


@pytest.mark.parametrize("strength", STRENGTHS)
def test_labels_keep_their_values_and_what_comes_in_is_ignored(strength: Strength) -> None:
    augment = Augmentation(strength, 3, "uint8", IGNORED, 0)
    label = np.full((SIDE, SIDE), 1, np.uint8)
    label[:, ::7] = 2
    entered = 0
    for seed in range(40):
        image, moved = augment(np.full((SIDE, SIDE, 3), 200, np.uint8), label.copy(), None, seed)
        assert set(np.unique(moved)) <= {1, 2, IGNORED}
        outside = (image == 0).all(axis=-1)
        np.testing.assert_array_equal(outside, moved == IGNORED)
        entered += outside.any()
    assert (entered > 0) == (strength in {"drone", "strong"})


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("fill", [0, 37])
def test_invalid_pixels_are_fill_value_afterwards(strength: Strength, dtype: str, fill: int) -> None:
    augment = Augmentation(strength, 3, dtype, IGNORED, fill)
    for seed in range(30):
        image, label, invalid = window(3, dtype, fill)
        label[~invalid] = 1  # so that what is ignored later was invalid, or came from outside
        image, label = augment(image, label, invalid, seed)
        assert (image[label == IGNORED] == fill).all(), seed
        # Fewer or more after a change of scale, but never none, and never all.
        assert 0.03 < (label == IGNORED).mean() < 0.6


def test_light_is_the_eight_flips_and_turns() -> None:
    augment = Augmentation("light", 1, "uint8", IGNORED, 0)
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    square = image[..., 0]
    expected = {np.rot90(flipped, turns).tobytes() for flipped in (square, square[:, ::-1]) for turns in range(4)}
    found = set()
    for seed in range(100):
        out, label = augment(image.copy(), square.copy(), None, seed)
        assert np.array_equal(out[..., 0], label)
        found.add(label.tobytes())
    assert found == expected
    assert len(expected) == 8


def test_none_changes_nothing() -> None:
    image, label, invalid = window(3, "uint8")
    out, moved = Augmentation("none", 3, "uint8", IGNORED, 0)(image.copy(), label.copy(), invalid, 5)
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(moved, label)


@pytest.mark.parametrize("strength", ["light", "drone", "strong"])
def test_the_seed_alone_decides(strength: Strength) -> None:
    image, label, invalid = window(3, "uint8")

    def run(augment: Augmentation, seed: int) -> tuple[bytes, bytes]:
        out: Any = augment(image.copy(), label.copy(), invalid, seed)
        return out[0].tobytes(), out[1].tobytes()

    one, other = (Augmentation(strength, 3, "uint8", IGNORED, 0) for _ in range(2))
    forwards = [run(one, seed) for seed in range(16)]
    backwards = [run(other, seed) for seed in reversed(range(16))]
    np.random.seed(1)  # noqa: NPY002 - which must not matter
    elsewhere = [run(pickle.loads(pickle.dumps(one)), seed) for seed in range(16)]
    assert forwards == backwards[::-1] == elsewhere
    assert len({content for content, _ in forwards}) > 3


def test_changes_of_light_and_of_shape_are_drawn_apart() -> None:
    """Each with and without the other, as often as their shares say: 0.6 change colours, and 0.4 shapes."""
    augment = Augmentation("drone", 3, "uint8", IGNORED, 0)
    label = np.arange(64, dtype=np.uint8).reshape(8, 8)
    turns = {np.rot90(flipped, k).tobytes() for flipped in (label, label[:, ::-1]) for k in range(4)}
    counts = np.zeros((2, 2))
    for seed in range(400):
        image, moved = augment(np.full((8, 8, 3), (90, 120, 60), np.uint8), label.copy(), None, seed)
        kept = image[moved != IGNORED]
        light = not ((kept == (90, 120, 60)).all(axis=-1) | (kept == 0).all(axis=-1)).any()
        counts[int(light), int(moved.tobytes() not in turns)] += 1
    share = counts / 400
    # A rim of interpolated pixels, weak changes and noise blur the first share; 0.1 are 4 standard deviations.
    assert share[:, 1].sum() == pytest.approx(0.4, abs=0.1)
    assert share[0, 1] / share[:, 1].sum() == pytest.approx(share[0, 0] / share[:, 0].sum(), abs=0.15)
    assert share[0, 1] > 0.08


def test_photometric_changes_leave_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = Augmentation("strong", 3, "uint8", IGNORED, 0)
    monkeypatch.setattr(augment, "_geometry", None)
    image, label, invalid = window(3, "uint8")
    changed = 0
    for seed in range(20):
        out, moved = augment(image.copy(), label.copy(), invalid, seed)
        np.testing.assert_array_equal(moved, label)
        changed += not np.array_equal(out, image)
    assert changed > 10


@pytest.mark.parametrize(
    ("strength", "bands", "dtype", "expected"),
    [
        ("drone", 3, "uint8", []),
        ("light", 5, "uint16", []),
        ("none", 5, "float32", []),
        ("drone", 4, "uint8", ["hue and saturation"]),
        ("strong", 3, "uint16", ["brightness and contrast", "gamma", "hue and saturation", "noise", "blur"]),
        ("drone", 8, "float32", ["brightness and contrast", "gamma", "hue and saturation", "noise", "blur"]),
    ],
)
def test_what_these_data_cannot_have_is_left_out_and_named(
    strength: Strength, bands: int, dtype: str, expected: list[str]
) -> None:
    augment = Augmentation(strength, bands, dtype, IGNORED, 0)
    assert augment.omitted == expected
    transforms = augment._photometric.transforms if augment._photometric is not None else []
    names = {type(t).__name__ for group in transforms for t in getattr(group, "transforms", [group])}
    assert ("HueSaturationValue" in names) == (strength in {"drone", "strong"} and (bands, dtype) == (3, "uint8"))

"""Noise of the stated distribution, and colours and blurs as Albumentations makes them."""

import math
import pickle
import random
from typing import Any

import cv2
import numpy as np
import pytest

from train.augmentation import A, photometry

STATE = 7


def noisy(level: int, std: float, *, bands: int = 3, side: int = 256, seed: int = STATE) -> np.ndarray:
    """Return a constant uint8 image under noise, as float64."""
    noise = photometry.GaussianNoise(std_range=(std, std), p=1)
    noise.set_random_state(np.random.default_rng(seed), random.Random(seed))
    made: np.ndarray = noise(image=np.full((side, side, bands), level, np.uint8))["image"]
    assert made.dtype == np.uint8
    assert made.shape == (side, side, bands)
    return made.astype(np.float64)


@pytest.mark.parametrize("std", [0.01, 0.04, 0.08])
def test_moments_of_noise(std: float) -> None:
    """Far from 0 and 255: a rounded normal number has the variance of the number and 1/12."""
    noise = noisy(128, std) - 128
    variance = (255 * std) ** 2 + 1 / 12
    count = noise.size
    assert abs(noise.mean()) < 5 * math.sqrt(variance / count)
    assert noise.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
    assert abs((noise**3).mean()) / variance**1.5 < 5 * math.sqrt(15 / count)
    # Rounding takes 1/120 off the fourth cumulant, which matters for weak noise.
    assert (noise**4).mean() - 3 * variance**2 == pytest.approx(-1 / 120, abs=variance**2 * 5 * math.sqrt(96 / count))


@pytest.mark.parametrize(("level", "sign"), [(255, -1), (0, 1)])
def test_noise_is_cut_off_at_the_ends(level: int, sign: int) -> None:
    """Half of the pixels keep the end value; the mean and second moment are those of half a normal distribution."""
    noise = (noisy(level, 0.08) - level) * sign
    std, count = 0.08 * 255, noise.size
    assert noise.min() == 0
    assert noise.mean() == pytest.approx(std / math.sqrt(2 * math.pi), abs=5 * std / math.sqrt(count))
    assert (noise**2).mean() == pytest.approx((std**2 + 1 / 12) / 2, rel=5 * math.sqrt(5 / count))


def test_noise_of_pixels_and_bands_is_independent() -> None:
    noise = noisy(128, 0.08) - 128
    scaled = noise / noise.std()
    bound = 5 / math.sqrt(noise.size)
    for one, other in (
        (scaled[1:], scaled[:-1]),
        (scaled[:, 1:], scaled[:, :-1]),
        (scaled[..., 1:], scaled[..., :-1]),
    ):
        assert abs((one * other).mean()) < bound * 1.3
    assert not np.array_equal(noise, noisy(128, 0.08, seed=STATE + 1) - 128)


def test_strength_of_noise_is_drawn_from_its_range() -> None:
    noise = photometry.GaussianNoise(std_range=(0.01, 0.04), p=1)
    noise.set_random_state(np.random.default_rng(0), random.Random(0))
    image = np.full((64, 64, 1), 128, np.uint8)
    stds = [noise(image=image)["image"].std() / 255 for _ in range(200)]
    assert 0.0095 < min(stds) < 0.012
    assert 0.038 < max(stds) < 0.042
    assert np.mean(stds) == pytest.approx(0.025, abs=0.002)


def test_noise_neither_uses_nor_disturbs_opencvs_random_numbers() -> None:
    def numbers() -> bytes:
        return cv2.randn(np.empty((4, 4), np.float32), 0, 1).tobytes()

    cv2.setRNGSeed(1)
    numbers()
    plain = numbers()
    cv2.setRNGSeed(1)
    numbers()
    one = noisy(128, 0.04)
    assert numbers() == plain
    np.testing.assert_array_equal(noisy(128, 0.04), one)


def test_noise_is_the_same_with_opencv_4(monkeypatch: pytest.MonkeyPatch) -> None:
    here = noisy(100, 0.05, bands=5)
    monkeypatch.setattr(photometry, "_opencv_5", lambda: False)
    np.testing.assert_array_equal(noisy(100, 0.05, bands=5), here)


@pytest.mark.parametrize("bands", [1, 4, 200])
def test_noise_of_any_number_of_bands(bands: int) -> None:
    noise = noisy(128, 0.04, bands=bands, side=64) - 128
    spread = noise.reshape(-1, bands).std(axis=0)
    assert spread.min() > 0.9 * 0.04 * 255
    assert spread.max() < 1.1 * 0.04 * 255


def test_noise_of_floats_is_albumentations() -> None:
    image = np.full((16, 16, 2), 0.5, np.float32)
    made = []
    for kind in (photometry.GaussianNoise, A.GaussNoise):
        noise = kind(std_range=(0.04, 0.04), p=1)
        noise.set_random_state(np.random.default_rng(3), random.Random(3))
        made.append(noise(image=image)["image"])
    np.testing.assert_array_equal(*made)
    assert made[0].std() > 0.02


PAIRS: list[tuple[Any, Any, dict[str, Any]]] = [
    (photometry.HueSaturationValue, A.HueSaturationValue, {"hue_shift_limit": 20, "sat_shift_limit": 25}),
    (photometry.GaussianBlur, A.GaussianBlur, {"blur_limit": (3, 5)}),
    (photometry.MotionBlur, A.MotionBlur, {"blur_limit": (3, 7)}),
]


@pytest.mark.parametrize(("ours", "theirs", "settings"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_equal_to_albumentations(ours: Any, theirs: Any, settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    changed = 0
    for seed in range(12):
        for bands in (3,) if ours is photometry.HueSaturationValue else (1, 2, 3, 4, 5, 8, 150):
            image = rng.integers(0, 256, (30, 40, bands)).astype(np.uint8)
            image[:10] = image[:10, :, :1]  # grey, and some black and white
            image[0], image[1] = 0, 255
            made = []
            for kind in (ours, theirs):
                transform = kind(**settings, p=1)
                transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
                made.append(transform(image=image.copy())["image"])
            np.testing.assert_array_equal(*made)
            changed += not np.array_equal(made[0], image)
    assert changed > 10


@pytest.mark.parametrize("kind", ["GaussianNoise", "HueSaturationValue", "GaussianBlur", "MotionBlur"])
def test_written_and_read(kind: str) -> None:
    transform = getattr(photometry, kind)(p=0.25)
    for again in (A.from_dict(A.to_dict(transform)), pickle.loads(pickle.dumps(transform))):
        assert type(again) is type(transform)
        assert A.to_dict(again) == A.to_dict(transform)

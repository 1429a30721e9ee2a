"""Blending windows."""

import numpy as np
import pytest
from scipy.signal import windows

from inference.kernels import MIN_WEIGHT, border_window, window
from inference.options import WINDOW_NAMES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 256, 513])
def test_windows_are_the_periodic_ones_of_scipy(size: int) -> None:
    np.testing.assert_allclose(window("bartlett-hann", size), windows.barthann(size + 1)[:-1], atol=1e-15)
    np.testing.assert_allclose(window("hann", size), windows.hann(size + 1)[:-1], atol=1e-15)
    np.testing.assert_array_equal(window("none", size), 1)


@pytest.mark.parametrize("name", ["bartlett-hann", "hann"])
@pytest.mark.parametrize("size", [2, 8, 64, 512])
def test_half_overlapping_windows_sum_to_one(name: str, size: int) -> None:
    w = window(name, size)
    np.testing.assert_allclose(w[: size // 2] + w[size // 2 :], 1, atol=1e-15)


@pytest.mark.parametrize("name", WINDOW_NAMES)
@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_weights_are_one_from_the_centre_to_the_border(name: str, size: int) -> None:
    for first in (False, True):
        for last in (False, True):
            w = border_window(name, size, first, last)
            assert w.min() >= MIN_WEIGHT
            assert w.max() <= 1
            if first:
                assert (w[: size // 2 + 1] == 1).all()
            if last:
                assert (w[(size + 1) // 2 :] == 1).all()
            if first and last:
                assert (w == 1).all()
    inner = border_window(name, size, False, False)
    np.testing.assert_array_equal(inner, np.clip(window(name, size), MIN_WEIGHT, 1))

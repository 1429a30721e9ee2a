"""Summary of a map: pixels of each class on fill values."""

import numpy as np
import pytest
from affine import Affine

from inference.output.summary import ClassCounter


@pytest.mark.parametrize("chunk", [1, 130, 10**9])
def test_pixels_of_each_class_on_each_fill_value(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("inference.output.summary._CHUNK", chunk)
    rng = np.random.default_rng(0)
    counter = ClassCounter(3, None, Affine.identity(), 50)
    expected = np.zeros((256, 3), int)
    for _ in range(2):
        values = rng.integers(0, 3, (40, 50), np.uint8)
        numbers = np.where(rng.random((40, 50)) < 0.3, rng.integers(1, 4, (40, 50)), 0).astype(np.uint8)
        numbers[10:20] = 0
        counter.add_fill_values(values, numbers)
        np.add.at(expected, (numbers, values), 1)
    np.testing.assert_array_equal(counter.fill_values[1:], expected[1:])

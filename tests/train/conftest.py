"""Images of odd sizes."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_dataset

from .windows import ODD


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of odd sizes, of noise, with labels of noise."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(image.size)
        return rng.integers(1, 255, image.shape, np.uint8), rng.integers(0, 3, label.shape, np.uint8)

    return write_dataset(tmp_path_factory.mktemp("odd"), dict.fromkeys(("train", "val", "test"), ODD), change=change)

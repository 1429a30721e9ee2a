"""Data set and model for the tests of the evaluation command."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_dataset
from tests.inference.networks import card, write_onnx


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with one corner unlabelled and another corner nodata."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise = rng.integers(0, 150, image.shape)
        image = (image // 2 + noise // 2 + 1).astype(np.uint8)
        label[:9, :11] = 2
        image[:, -8:, -8:] = 0
        return image, label

    rng = np.random.default_rng(3)
    sizes = {"train": [(40, 40)], "val": [(50, 60), (64, 40)], "test": [(70, 64), (45, 80), (64, 64)]}
    return write_dataset(tmp_path_factory.mktemp("evaluated"), sizes, change=change, nodata=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "m_kelp_dice=0.9.onnx", card(ignore_index=2))

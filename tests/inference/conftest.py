"""A small mosaic and a small model."""

from pathlib import Path

import pytest

from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

from .commands import texture


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "in.tif", texture(100, 90))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "m.onnx", card())

"""The configs to start from are valid, and their networks are built and take an image; of the zoo see test_zoo."""

from pathlib import Path

import pytest
import torch

from tests.train.configs.shipped import PREPARE, TRAINING
from train.configs.loader import load_config
from train.model import MODELS
from train.preparation.loader import load_prepare_config

CONFIGS = [path for path in TRAINING if path.parent.name == "demo"]


def test_there_are_some() -> None:
    assert {"unet-mobilenetv2.yml", "your-own-data.yml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_builds(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# "), "a header line says what it is good for"
    assert "/home/" not in text
    config = load_config(path, ["segmentation_config.opts.encoder_weights=null"]).config
    network = MODELS[config.segmentation_model_cls].build(config, None).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, config.num_bands, 64, 64))
    assert logits.shape == (1, config.num_classes, 64, 64)


@pytest.mark.parametrize("path", PREPARE, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_prepares(path: Path) -> None:
    assert path.read_text().startswith("# "), "a header line says what it is good for"
    assert load_prepare_config(path).notices == []

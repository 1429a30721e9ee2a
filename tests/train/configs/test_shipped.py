"""The configs to start from are valid, and their networks are built and take an image; of the zoo see test_zoo."""

from pathlib import Path

import pytest
import torch

from train.configs.loader import load_config
from train.model import MODELS

CONFIGS = sorted((Path(__file__).parents[3] / "train" / "configs" / "demo").rglob("*.yml"))


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

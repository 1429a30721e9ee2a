"""Exportable networks: pooling that is right at every size, and what they are held against."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from benchmarks.export import AERIAL, DINO, ROWS, SMP, config, random_model
from inference.card import ModelCard
from train.export.consumers import deepness_metadata, habitat_mapper_config
from train.export.export_wrapper import AdaptiveAveragePool, ExportWrapper, fixed_size_reason
from train.export.formats import FORMATS
from train.export.parity import check_parity, other_size, predicted_classes, reference_output
from train.export.parity_images import parity_images

CPU = torch.device("cpu")


def card_of(**changes: object) -> ModelCard:
    content = {
        "name": "n",
        "task": "t",
        "revision": "20260102-x",
        "bands": [1],
        "dtype": "uint8",
        "tile_size": 8,
        "mean": [0.5],
        "std": [0.25],
        "max_pixel_value": 255,
        "class_names": ["sea", "kelp"],
        "activation": "sigmoid",
        "output": "probabilities",
    }
    return ModelCard.model_validate(content | changes)


@pytest.mark.parametrize("bins", [2, 3, 6, 7])
@pytest.mark.parametrize("size", [(2, 3), (6, 6), (7, 5), (12, 31), (32, 17), (61, 64)])
def test_bins_are_those_of_pytorch(bins: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    assert torch.allclose(AdaptiveAveragePool((bins, bins))(x), nn.AdaptiveAvgPool2d(bins)(x), atol=1e-13)


@pytest.mark.parametrize("architecture", ["PSPNet", "UPerNet"])
def test_networks_that_pool_into_bins_are_right_at_every_size(architecture: str, tmp_path: Path) -> None:
    model, card = random_model(config(SMP, architecture, "resnet18", tile=64))
    card = card.model_copy(update={"any_size": True, "output": "probabilities"})
    network = ExportWrapper(model, "probabilities").eval()
    path = tmp_path / "x.onnx"
    FORMATS["onnx"].write(network, card, torch.randn(2, 3, 64, 64), path)
    run = FORMATS["onnx"].load(path, CPU)
    for size in [(64, 64), (97, 81), (160, 33)]:
        found = check_parity(run, reference_output(network, torch.randn(2, 3, *size), CPU), card)
        assert found.passed, str(found)


def test_the_gate_sees_what_a_usual_export_bakes_in(tmp_path: Path) -> None:
    """PSPNet as PyTorch writes it down by itself: right where it was traced, wrong elsewhere."""
    model, card = random_model(config(SMP, "PSPNet", "resnet18", tile=64))
    card = card.model_copy(update={"any_size": True, "output": "probabilities"})
    network = ExportWrapper(model, "probabilities").eval()
    network.exportable = lambda: network  # type: ignore[method-assign]
    path = tmp_path / "x.onnx"
    FORMATS["onnx"].write(network, card, torch.randn(2, 3, 64, 64), path)
    run = FORMATS["onnx"].load(path, CPU)
    at = {
        s: check_parity(run, reference_output(network, torch.randn(2, 3, *s), CPU), card)
        for s in [(64, 64), other_size(64)]
    }
    assert at[(64, 64)].passed
    assert not at[other_size(64)].passed


class Pointwise(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.sigmoid()


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (lambda x: x.sigmoid(), True),
        (lambda x: x.sigmoid() + 5e-6, True),
        (lambda x: x.sigmoid() + 1e-4, False),
        # Only the second of the batch.
        (lambda x: x.sigmoid() + 1e-4 * torch.arange(len(x)).view(-1, 1, 1, 1), False),
        # A single pixel.
        (lambda x: x.sigmoid() + 1e-3 * torch.nn.functional.one_hot(torch.tensor(3), 7), False),
        (lambda x: x.sigmoid() * float("nan"), False),
        (lambda x: x.sigmoid()[..., :-1], False),
        (lambda x: x.sigmoid()[:1], False),
        (lambda x: 1 / 0, False),
    ],
)
def test_what_passes(answer: object, passes: bool) -> None:
    wanted = reference_output(Pointwise(), torch.randn(2, 1, 5, 7), CPU)  # type: ignore[arg-type]
    assert wanted.noise_floor < 1e-6
    found = check_parity(answer, wanted, card_of())  # type: ignore[arg-type]
    assert found.passed is passes
    assert str(found)


def test_float32_that_is_far_off_passes_nothing() -> None:
    """A network so unstable that its own rounding is as large as its answers."""

    class Unstable(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return ((image * 1e6 + 1e-3) - image * 1e6).mul(300).sigmoid()

    image = torch.rand(2, 1, 5, 7) + 0.5
    wanted = reference_output(Unstable(), image, CPU)  # type: ignore[arg-type]
    assert wanted.noise_floor > 0.01
    assert not check_parity(Unstable(), wanted, card_of()).passed  # type: ignore[arg-type]


def test_masks_are_those_of_inference() -> None:
    # Exactly at the threshold is background.
    output = torch.tensor([0.2, 0.5, 0.500001, 0.9]).view(1, 1, 1, 4)
    assert predicted_classes(output, card_of()).flatten().tolist() == [
        0,
        0,
        1,
        1,
    ]  # exactly at the threshold is background
    assert predicted_classes(output.logit(), card_of(output="logits")).flatten().tolist() == [0, 0, 1, 1]
    several = card_of(activation="softmax", class_names=["a", "b", "c"])
    assert predicted_classes(torch.eye(3).view(1, 3, 3, 1), several).flatten().tolist() == [0, 1, 2]


def test_deepness_divides_by_255_whatever_the_card_says() -> None:
    found = deepness_metadata(card_of(max_pixel_value=1020, mean=[0.1], std=[0.05], threshold=0.4))
    assert found["standardization_mean"] == "[0.4]"
    assert found["standardization_std"] == "[0.2]"
    assert found["seg_thresh"] == "0.4"
    assert "resolution" not in found  # unknown, and not guessed


def test_habitat_mapper_is_told_of_other_bands() -> None:
    assert "-b 4 -b 2" in habitat_mapper_config(card_of(bands=[4, 2], mean=[0.1] * 2, std=[1] * 2), "m.onnx")
    assert "-b" not in habitat_mapper_config(card_of(), "m.onnx")


def test_pixels_stand_in_for_any_bands_and_type() -> None:
    settings = config(SMP, "Unet", "resnet18", tile=64)
    card = card_of(bands=[1, 2, 3, 4, 5], mean=[0.5] * 5, std=[0.2] * 5, dtype="uint16", max_pixel_value=65535)
    found = parity_images([settings], card, (40, 72))
    assert found.image.shape == (2, 5, 40, 72)
    assert found.image.max() > 255
    assert "demo data set, because" in found.source


@pytest.mark.parametrize(
    ("family", "architecture", "backbone", "reason"),
    [
        (AERIAL, "AerialFormer-T", "na", "AerialFormer"),
        (SMP, "DPT", "tu-vit_tiny_patch16_224", "DPT"),
        (DINO, "linear", "vit_small_patch16_dinov3", "DINOv3"),
        (SMP, "Unet", "tu-swin_tiny_patch4_window7_224", "attention"),
        (SMP, "Unet", "resnet18", None),
        (DINO, "linear", "dinov2_s", None),
    ],
)
def test_which_networks_are_refused_at_any_size(
    family: str, architecture: str, backbone: str, reason: str | None
) -> None:
    from train.model import MODELS

    settings = config(family, architecture, backbone)
    card = card_of(
        activation="softmax", class_names=["a", "b", "c"], bands=[1, 2, 3], mean=[0.5] * 3, std=[1] * 3, output="logits"
    )
    model = MODELS[family](settings.plain(), card.model_dump(mode="json"))
    found = fixed_size_reason(model)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "architecture", "backbone"), ROWS, ids=lambda v: str(v))
@pytest.mark.parametrize("any_size", [False, True])
@pytest.mark.parametrize("key", list(FORMATS))
def test_every_network_in_every_file(
    key: str, any_size: bool, family: str, architecture: str, backbone: str, tmp_path: Path
) -> None:
    settings = config(family, architecture, backbone)
    model, card = random_model(settings)
    if any_size and fixed_size_reason(model):
        return  # refused, which the test above holds
    card = card.model_copy(update={"any_size": any_size, "output": "probabilities"})
    network = ExportWrapper(model, "probabilities").eval()
    path = tmp_path / f"x{FORMATS[key].suffix}"
    image = model.normalize(parity_images([settings], card, (128, 128)).image)
    FORMATS[key].write(network, card, image, path)
    run = FORMATS[key].load(path, CPU)
    for size in [(128, 128)] + ([other_size(128)] if any_size else []):
        image = model.normalize(parity_images([settings], card, size).image)
        found = check_parity(run, reference_output(network, image, CPU), card)
        assert found.passed, str(found)
    if key == "onnx":
        assert np.prod([o.version for o in onnx.load(path).opset_import if not o.domain]) == 18

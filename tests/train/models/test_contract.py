"""The contract that every network keeps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from train.models.aerial_former import AerialFormerNetwork
from train.models.dinov2 import DINOv2
from train.models.vit_pyramid import build_vit_pyramid_model

CLASSES = 2
THIN = {"embed_dim": 96, "num_heads": 3}  # the same blocks with fewer channels: seconds saved, nothing left out
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "aerial_former": lambda bands: AerialFormerNetwork("T", bands, CLASSES),
    "dinov2": lambda bands: DINOv2("dinov2_s_reg", bands, CLASSES, decoder_channels=32, **THIN),
    "dinov2_linear": lambda bands: DINOv2("dinov2_s", bands, CLASSES, "linear", **THIN),
    "dinov3": lambda bands: DINOv2("vit_small_patch16_dinov3", bands, CLASSES, decoder_channels=32, **THIN),
    "pyramid_patch14": lambda bands: build_vit_pyramid_model(
        "Unet", "vit_small_patch14_reg4_dinov2", bands, CLASSES, encoder_params=dict(THIN)
    ),
    "pyramid_patch16": lambda bands: build_vit_pyramid_model(
        "UnetPlusPlus", "vit_tiny_patch16_224", bands, CLASSES, encoder_params=dict(THIN)
    ),
}
MULTIPLE = {
    "aerial_former": 32,
    "dinov2": 14,
    "dinov2_linear": 14,
    "dinov3": 16,
    "pyramid_patch14": 28,
    "pyramid_patch16": 32,
}
BANDS = 3


def images(count: int = 2, bands: int = BANDS, height: int = 45, width: int = 40) -> Tensor:
    return torch.randn(count, bands, height, width, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name](BANDS)
    awaken(network)
    return network


@torch.no_grad()
def awaken(network: nn.Module) -> None:
    """Makes attention, positions and residual branches matter as in a trained network.

    They start so close to zero that a test would not notice their absence.
    """
    for key, value in network.encoder.named_parameters():
        if key.endswith(("gamma", "gamma_1", "gamma_2")):
            value.fill_(1)
        elif key.endswith("qkv.weight"):
            value.mul_(5)
        elif "pos_embed" in key or key.endswith("relative_position_bias_table"):
            value.normal_()


@pytest.fixture
def network(built: nn.Module) -> nn.Module:
    """The shared network as a test expects it: in eval mode, trainable, without gradients."""
    built.zero_grad(set_to_none=True)
    return built.requires_grad_(True).eval()


@torch.inference_mode()
def predict(network: nn.Module, image: Tensor) -> Tensor:
    return network(image)


@pytest.mark.parametrize("bands", [1, 8])  # three are what the shared networks take
def test_takes_any_band_count(name: str, bands: int) -> None:
    logits = predict(NETWORKS[name](bands).eval(), images(1, bands, 61, 75))
    assert logits.shape == (1, CLASSES, 61, 75)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(61, 75), (5, 9), (98, 112)])
def test_logits_have_the_size_of_the_image(network: nn.Module, height: int, width: int) -> None:
    assert predict(network, images(1, BANDS, height, width)).shape == (1, CLASSES, height, width)


def test_every_band_counts(network: nn.Module) -> None:
    image = images(1)
    logits = predict(network, image)
    for band in range(BANDS):
        changed = image.clone()
        changed[:, band] += 1
        assert not torch.allclose(predict(network, changed), logits, atol=1e-6)


def test_logits_stay_in_place(network: nn.Module) -> None:
    """A disturbance at one corner shows most at that corner: nothing is flipped, transposed or shifted."""
    image = images(1, BANDS, 112, 112)
    logits = predict(network, image)
    for rows, columns in ((slice(0, 28), slice(84, 112)), (slice(84, 112), slice(0, 28))):
        changed = image.clone()
        changed[..., rows, columns] += 3 * images(1, BANDS, 28, 28)
        difference = (predict(network, changed) - logits).abs().mean(dim=(0, 1))
        assert difference[rows, columns].mean() > 1.5 * difference.mean()


def test_padding_is_cut_off_where_it_was_put(name: str, network: nn.Module) -> None:
    """An image and the same with its border repeated by hand, so that it needs no padding, have the same logits."""
    image, multiple = images(1), MULTIPLE[name]
    by_hand = nn.functional.pad(image, (0, -40 % multiple, 0, -45 % multiple), mode="replicate")
    torch.testing.assert_close(predict(network, image), predict(network, by_hand)[..., :45, :40])


def test_logits_are_magnified_bilinearly(name: str, network: nn.Module) -> None:
    side = 2 * MULTIPLE[name]
    coarse: list[Tensor] = []
    handle = network.segmentation_head.register_forward_hook(lambda _, __, output: coarse.append(output))
    logits = predict(network, images(1, BANDS, side, side))
    handle.remove()
    expected = nn.functional.interpolate(coarse[0], size=(side, side), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_training_reaches_every_parameter(network: nn.Module) -> None:
    torch.manual_seed(0)
    network.train()(images()).square().mean().backward()
    unreached = [key for key, value in network.named_parameters() if value.grad is None]
    assert not unreached  # distributed training stops at the first of them
    assert all(value.grad.isfinite().all() for value in network.parameters())
    network.zero_grad(set_to_none=True)
    network.eval()(images()).square().mean().backward()  # without stochastic depth, which drops whole branches
    assert not [key for key, value in network.named_parameters() if not value.grad.any()]


def test_frozen_encoder_leaves_the_rest_trainable(network: nn.Module) -> None:
    network.encoder.requires_grad_(False)
    network.train()(images()).square().mean().backward()
    for key, value in network.named_parameters():
        assert (value.grad is None) == key.startswith("encoder."), key
    assert sum(1 for value in network.parameters() if value.requires_grad) > 1


def test_parts_have_the_names_of_smp(network: nn.Module) -> None:
    parts = {key.partition(".")[0] for key, _ in network.named_parameters()}
    assert {"encoder", "decoder", "segmentation_head"} <= parts


def test_state_dict_round_trip(name: str, network: nn.Module, tmp_path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(1)
    other = NETWORKS[name](BANDS).eval()
    assert not torch.equal(predict(other, images(1)), predict(network, images(1)))
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert torch.equal(predict(other, images(1)), predict(network, images(1)))


def test_bfloat16_autocast_is_finite_and_close(network: nn.Module) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = predict(network, images(1))
    assert logits.shape == (1, CLASSES, 45, 40)
    assert logits.isfinite().all()
    exact = predict(network, images(1))
    assert (logits - exact).abs().mean() < 0.1 * exact.std() + 1e-3


def test_samples_of_a_batch_are_independent(network: nn.Module) -> None:
    batch = images(3)
    torch.testing.assert_close(predict(network, batch)[:1], predict(network, batch[:1]), atol=1e-4, rtol=1e-4)


def test_eval_is_deterministic(network: nn.Module) -> None:
    assert torch.equal(predict(network, images()), predict(network, images()))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_trace_holds_at_other_sizes(name: str, network: nn.Module) -> None:
    """The exporter traces at one size; a branch on the size or a baked-in shape would be silently wrong at others."""
    if name in ("dinov2_linear", "pyramid_patch16"):
        pytest.skip("traced as its sibling")
    sizes = [(61, 75), (96, 128)] if name != "dinov3" else [(64, 64)]  # timm bakes the size into rotary positions
    with torch.no_grad():
        traced = torch.jit.trace(network, images(1, BANDS, 64, 64), check_trace=False)
        for height, width in sizes:
            image = images(2, BANDS, height, width)
            torch.testing.assert_close(traced(image), network(image), atol=1e-5, rtol=1e-5)

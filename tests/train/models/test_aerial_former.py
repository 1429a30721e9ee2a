"""AerialFormer against what its authors published: sizes, parameter counts, receptive fields, weights."""

import re

import pytest
import timm
import torch
from torch import Tensor, nn

from inference.common.errors import UserError
from train.models.aerial_former import AerialFormerNetwork
from train.models.aerial_former.aerial_former import MDC_DILATIONS, MDC_KERNELS, VARIANTS, MultiDilatedConv


def count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.fixture(scope="module")
def tiny() -> AerialFormerNetwork:
    torch.manual_seed(0)
    return AerialFormerNetwork("T", 3, 2).eval()


@pytest.fixture(scope="module", params=VARIANTS)
def outline(request: pytest.FixtureRequest) -> tuple[str, AerialFormerNetwork]:
    """Each variant without storage, for 16 classes."""
    with torch.device("meta"):
        return request.param, AerialFormerNetwork(request.param, 3, 16)


def test_parameter_count_is_the_published_one(outline: tuple[str, AerialFormerNetwork]) -> None:
    variant, network = outline
    assert count(network) == {"T": 42_711_626, "S": 64_029_530, "B": 113_822_292}[variant]


@pytest.mark.parametrize(("variant", "expected"), [("T", 42_710_940), ("B", 113_821_382)])
def test_parameter_count_with_two_classes(variant: str, expected: int) -> None:
    with torch.device("meta"):
        assert count(AerialFormerNetwork(variant, 3, 2)) == expected


def test_parameter_count_of_each_part(outline: tuple[str, AerialFormerNetwork]) -> None:
    variant, network = outline
    stem = {"T": 79_008, "S": 79_008, "B": 80_064}[variant]
    encoder = {"T": 27_520_698, "S": 48_838_602, "B": 86_880_376}[variant]
    decoder = {"T": 15_111_920, "S": 15_111_920, "B": 26_861_852}[variant]
    assert count(network.stem) == stem
    assert count(network.encoder) + count(network.norms) == encoder
    assert count(network.decoder) + count(network.segmentation_head) == decoder


def test_skips_have_the_published_strides_and_widths(tiny: AerialFormerNetwork) -> None:
    seen: list[list[Tensor]] = []
    handle = tiny.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        tiny(torch.zeros(1, 3, 64, 96))
    handle.remove()
    assert [tuple(skip.shape[1:]) for skip in seen[0]] == [
        (768, 2, 3),
        (384, 4, 6),
        (192, 8, 12),
        (96, 16, 24),
        (48, 32, 48),
    ]


def test_features_are_those_of_swin_before_merging(tiny: AerialFormerNetwork) -> None:
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, strict_img_size=False, always_partition=True
    ).eval()
    swin.load_state_dict({key.replace("layers.", "layers_"): value for key, value in tiny.encoder.state_dict().items()})
    features: list[Tensor] = []
    handles = [norm.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0])) for norm in tiny.norms]
    image = torch.randn(1, 3, 96, 64)
    with torch.inference_mode():
        tiny(image)
        expected = swin(image)
    for handle in handles:
        handle.remove()
    assert len(features) == 4
    for feature, reference in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, reference)


def test_windows_are_shifted_at_every_stage(outline: tuple[str, AerialFormerNetwork]) -> None:
    """Also at the last one, where timm leaves the shift out at the size that its weights were made for."""
    variant, network = outline
    window = {"T": 7, "S": 7, "B": 12}[variant]
    for stage in network.encoder.layers:
        for position, block in enumerate(stage.blocks):
            assert block.window_size == (window, window)
            assert block.shift_size == ((window // 2, window // 2) if position % 2 else (0, 0))


def test_stochastic_depth_rises_linearly(tiny: AerialFormerNetwork) -> None:
    blocks = [block for stage in tiny.encoder.layers for block in stage.blocks]
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx(torch.linspace(0, 0.3, 12).tolist())


def test_dropout_drops_whole_channels(tiny: AerialFormerNetwork) -> None:
    torch.manual_seed(0)
    dropout = tiny.segmentation_head[0]
    assert dropout.p == 0.1
    out = type(dropout)(0.5)(torch.ones(1, 64, 4, 4))
    assert {len(channel.unique()) for channel in out[0]} == {1}


@pytest.mark.parametrize("level", range(5))
def test_receptive_fields_of_the_branches(level: int) -> None:
    published = [(3, 5, 7), (3, 5, 7), (3, 5, 7), (3, 3, 3), (1, 3, 3)]
    block = MultiDilatedConv(9, 4, MDC_KERNELS[level], MDC_DILATIONS[level])
    for branch, width in zip(block.branches, published[level], strict=True):
        impulse = torch.zeros(1, 3, 15, 15)
        impulse[..., 7, 7] = 1
        rows, columns = branch(impulse).abs().sum(dim=(0, 1)).nonzero().T
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (width, width)


def test_uneven_widths_are_split_as_chunks() -> None:
    block = MultiDilatedConv(128, 64, (3, 3, 3), (1, 2, 3))
    assert block.widths == [part.shape[0] for part in torch.zeros(128).chunk(3)]
    assert block(torch.zeros(1, 128, 5, 6)).shape == (1, 64, 5, 6)


def as_microsoft_saved(swin: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The names of the original Swin checkpoints: merging at a stage's end, buffers among the weights."""
    renamed = {
        re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key).replace(
            "head.fc", "head"
        ): value
        for key, value in swin.state_dict().items()
    }
    renamed["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    return {"model": renamed}


@pytest.mark.parametrize("convert", [lambda swin: swin.state_dict(), as_microsoft_saved], ids=["timm", "microsoft"])
def test_encoder_weights_from_a_file(convert, tmp_path) -> None:
    torch.manual_seed(3)
    swin = timm.create_model(VARIANTS["T"].swin)
    torch.save(convert(swin), tmp_path / "swin.pth")
    encoder = AerialFormerNetwork("T", 5, 2, encoder_weights=tmp_path / "swin.pth").encoder
    loaded, saved = encoder.state_dict(), swin.state_dict()
    for key, value in loaded.items():
        if key == "patch_embed.proj.weight":
            assert value.shape == (96, 5, 4, 4)
            torch.testing.assert_close(value[:, :3], saved[key] * 3 / 5)
        else:
            assert torch.equal(value, saved[key]), key


def test_weights_of_another_variant_are_refused(tiny: AerialFormerNetwork, tmp_path) -> None:
    """Swin-S has every layer of Swin-T in the same shapes, and more: they would load without a sound."""
    small = tiny.encoder.state_dict()
    small |= {k.replace("blocks.5", "blocks.6"): v for k, v in small.items() if k.startswith("layers.2.blocks.5")}
    torch.save(small, tmp_path / "small.pth")
    with pytest.raises(UserError, match=r"not weights of swin_tiny.*unexpected \(layers\.2\.blocks\.6\."):
        AerialFormerNetwork("T", 3, 2, encoder_weights=str(tmp_path / "small.pth"))

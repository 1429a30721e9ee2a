"""DINOv2 and DINOv3: names, blocks, decoders and weights."""

import pytest
import timm
import torch
from torch import Tensor, nn

from inference.common.errors import UserError
from train.models.backbones import block_indices, is_plain_vit
from train.models.dinov2 import DINOv2, timm_name

THIN = {"embed_dim": 96, "num_heads": 3}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dinov2_s", "vit_small_patch14_dinov2"),
        ("dinov2_b", "vit_base_patch14_dinov2"),
        ("dinov2_l_reg", "vit_large_patch14_reg4_dinov2"),
        ("dinov2_g", "vit_giant_patch14_dinov2"),
        ("dinov2_vits14", "vit_small_patch14_dinov2"),
        ("dinov2_vitb14_reg", "vit_base_patch14_reg4_dinov2"),
        ("dinov2_vitg14_reg4", "vit_giant_patch14_reg4_dinov2"),
        ("tu-vit_base_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2"),
        ("vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m"),
        ("vit_large_patch16_dinov3", "vit_large_patch16_dinov3"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert timm_name(name) == expected
    assert timm.is_model(expected)


@pytest.mark.parametrize(
    ("name", "hint"), [("dinov2_m", "dinov2_"), ("dinov2_vits16", "dinov2_"), ("resnet18", "allowed: dinov2_s")]
)
def test_unknown_name_shows_the_known(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint) as error:
        timm_name(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_tiny_patch16_224", [2, 5, 8, 11]),
        ("vit_large_patch14_dinov2", [5, 11, 17, 23]),
        ("vit_giant_patch14_dinov2", [9, 19, 29, 39]),
    ],
)
def test_blocks_are_evenly_spread(name: str, expected: list[int]) -> None:
    assert block_indices(name, None, 4) == expected


@pytest.mark.parametrize("indices", [[2, 5, 8], [2, 5, 8, 12], [5, 2, 8, 11], [2, 2, 8, 11], [-1, 2, 5, 8]])
def test_wrong_blocks_are_refused(indices: list[int]) -> None:
    with pytest.raises(UserError, match=r"4 ascending block numbers from 0 to 11.*\[2, 5, 8, 11\]"):
        block_indices("vit_tiny_patch16_224", indices, 4)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("tu-vit_tiny_patch16_224", True),
        ("vit_small_patch16_dinov3", True),
        ("tu-swin_tiny_patch4_window7_224", False),
        ("tu-resnet18", False),
        ("resnet34", False),
        ("mit_b0", False),
        ("no_such_model", False),
    ],
)
def test_plain_vision_transformers(name: str, plain: bool) -> None:
    assert is_plain_vit(name) is plain


def test_unused_blocks_are_cut_off() -> None:
    network = DINOv2("dinov2_s", 3, 1, "linear", encoder_indices=[0, 1, 2, 5], **THIN)
    assert len(network.encoder.blocks) == 6
    assert network.eval()(torch.zeros(1, 3, 28, 28)).shape == (1, 1, 28, 28)


def test_features_come_from_the_chosen_blocks() -> None:
    """Each is the output of its block, normed as the last one is, without class token and registers."""
    torch.manual_seed(0)
    network = DINOv2("dinov2_s_reg", 3, 1, decoder_channels=16, **THIN).eval()
    encoder, seen = network.encoder, []
    network.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, 42, 56)
    with torch.inference_mode():
        network(image)
        tokens = encoder.norm_pre(encoder._pos_embed(encoder.patch_embed(image)))
        expected: list[Tensor] = []
        for position, block in enumerate(encoder.blocks):
            tokens = block(tokens)
            if position in (2, 5, 8, 11):
                expected.append(encoder.norm(tokens)[:, 5:].reshape(1, 3, 4, 96).permute(0, 3, 1, 2))
    for feature, reference in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(feature, reference)


def test_linear_decoder_is_batchnorm_and_a_linear_map() -> None:
    network = DINOv2("dinov2_s", 3, 5, "linear", **THIN)
    rest = sum(v.numel() for k, v in network.named_parameters() if not k.startswith("encoder."))
    assert rest == 2 * 4 * 96 + 4 * 96 * 5 + 5
    with torch.inference_mode():
        assert network.decoder([torch.zeros(1, 96, 3, 4)] * 4).shape == (1, 384, 3, 4)


def test_multilevel_decoder_is_four_times_as_fine_as_the_tokens() -> None:
    network = DINOv2("dinov2_s", 3, 5, decoder_channels=16, **THIN)
    with torch.inference_mode():
        assert network.decoder([torch.zeros(1, 96, 3, 5)] * 4).shape == (1, 16, 12, 20)


def test_stored_positions_can_have_the_size_of_the_tile() -> None:
    network = DINOv2("dinov2_s", 3, 1, "linear", img_size=98, **THIN).eval()
    assert network.encoder.pos_embed.shape[1] == 1 + 7 * 7
    assert network(torch.zeros(1, 3, 61, 75)).shape == (1, 1, 61, 75)


def as_meta_saved(vit: nn.Module) -> dict[str, Tensor]:
    """The names of Meta's own DINOv2 files: a mask token, `register_tokens`, a position of the class token too."""
    tensors = dict(vit.state_dict())
    tensors["mask_token"] = torch.zeros(1, 96)
    tensors["register_tokens"] = tensors.pop("reg_token")
    tensors["pos_embed"] = torch.cat([torch.ones(1, 1, 96), tensors["pos_embed"]], dim=1)
    return tensors


@pytest.mark.parametrize("size", [518, 98])
@pytest.mark.parametrize("convert", [lambda vit: vit.state_dict(), as_meta_saved], ids=["timm", "meta"])
def test_encoder_weights_from_a_file(convert, size: int, tmp_path) -> None:
    torch.manual_seed(3)
    vit = timm.create_model("vit_small_patch14_reg4_dinov2", **THIN)
    torch.save(convert(vit), tmp_path / "dino.pth")
    network = DINOv2("dinov2_s_reg", 1, 1, "linear", encoder_weights=tmp_path / "dino.pth", img_size=size, **THIN)
    loaded, saved = network.encoder.state_dict(), vit.state_dict()
    assert torch.equal(loaded["blocks.7.attn.qkv.weight"], saved["blocks.7.attn.qkv.weight"])
    assert torch.equal(loaded["reg_token"], saved["reg_token"])
    torch.testing.assert_close(loaded["patch_embed.proj.weight"], saved["patch_embed.proj.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(loaded["cls_token"], saved["cls_token"] + (convert is as_meta_saved))
    if size == 518:
        assert torch.equal(loaded["pos_embed"], saved["pos_embed"])
    else:
        assert loaded["pos_embed"].shape == (1, 49, 96)
        torch.testing.assert_close(loaded["pos_embed"].mean(), saved["pos_embed"].mean(), atol=1e-3, rtol=0)

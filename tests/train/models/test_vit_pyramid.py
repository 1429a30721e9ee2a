"""SMP's decoders on plain vision transformers."""

import pytest
import segmentation_models_pytorch as smp
import torch

from inference.common.errors import UserError
from train.models.vit_pyramid import MIN_DEPTH, ViTPyramidEncoder, build_vit_pyramid_model

PATCH_14, PATCH_16 = "vit_small_patch14_reg4_dinov2", "vit_tiny_patch16_224"
THIN = {"embed_dim": 96, "num_heads": 3}


@pytest.mark.parametrize("architecture", MIN_DEPTH)
def test_every_architecture_trains(architecture: str) -> None:
    torch.manual_seed(0)
    model = build_vit_pyramid_model(architecture, f"tu-{PATCH_16}", 4, 3, encoder_params=dict(THIN))
    logits = model(torch.randn(2, 4, 61, 75))
    assert logits.shape == (2, 3, 61, 75)
    logits.square().mean().backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None]
    assert {key.partition(".")[0] for key in model.state_dict()} == {"encoder", "decoder", "segmentation_head"}


@pytest.mark.parametrize("architecture", ["FPN", "Segformer", "UPerNet"])
def test_heads_do_not_magnify(architecture: str) -> None:
    """They would by 4, past the size of the image, only to be brought back."""
    head = build_vit_pyramid_model(architecture, PATCH_16, 3, 1, encoder_params=dict(THIN)).segmentation_head
    assert head(torch.zeros(1, head[0].in_channels, 5, 7)).shape == (1, 1, 5, 7)


def test_upernet_sees_all_levels() -> None:
    """SMP's UPerNet passes over the image and the feature after it, which is a placeholder here."""
    decoder = build_vit_pyramid_model("UPerNet", PATCH_16, 3, 1, encoder_params=dict(THIN)).decoder
    assert [norm.normalized_shape for norm in decoder.feature_norms] == [(96,)] * 4


@pytest.mark.parametrize("architecture", ["unet", "FPN", "UPERNET"])
def test_patch_14(architecture: str) -> None:
    model = build_vit_pyramid_model(architecture, PATCH_14, 3, 1, encoder_params=dict(THIN)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 61, 75)).shape == (1, 1, 61, 75)


def test_the_original_configuration() -> None:
    """The options of kelp-rgb's and mussels-rgb's UNet++ on DINOv2 as they are, but for a smaller ViT and image."""
    model = build_vit_pyramid_model(
        "UnetPlusPlus",
        PATCH_14,
        3,
        1,
        encoder_weights=None,
        encoder_depth=4,
        encoder_indices=[2, 5, 8, 11],
        encoder_params={"scale_factors": [4, 2, 1, 0.5], "img_size": 112, **THIN},
        decoder_channels=[128, 64, 32, 16],
        head_upsampling=1.75,
    ).eval()
    image = torch.zeros(1, 3, 112, 112)
    with torch.inference_mode():
        before_head = model.decoder(model.encoder(image))
        assert before_head.shape == (1, 16, 64, 64)  # 112 / 1.75
        assert model(image).shape == (1, 1, 112, 112)


@pytest.mark.parametrize(
    ("backbone", "stride", "size"),
    [(PATCH_14, 28, (112, 168)), (PATCH_16, 32, (128, 192))],
)
def test_features(backbone: str, stride: int, size: tuple[int, int]) -> None:
    encoder = ViTPyramidEncoder(backbone, 5, **THIN).eval()
    assert encoder.out_channels == [5, 96, 96, 96, 96]
    assert encoder.output_stride == stride
    image = torch.randn(1, 5, *size)
    with torch.inference_mode():
        features = encoder(image)
        tokens = encoder.model.forward_intermediates(image, indices=[2, 5, 8, 11], norm=True, intermediates_only=True)
    assert torch.equal(features[0], image)
    assert [tuple(feature.shape[-2:]) for feature in features[1:]] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    assert torch.equal(features[3], tokens[2])  # scale 1: the tokens themselves
    torch.testing.assert_close(features[4], torch.nn.functional.avg_pool2d(tokens[3], 2))
    for feature, token in zip(features[1:], tokens, strict=True):
        torch.testing.assert_close(feature.mean(dim=(2, 3)), token.mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("depth", "scales"), [(2, [1, 0.5]), (3, [2, 1, 0.5]), (5, [8, 4, 2, 1, 0.5])])
def test_depth(depth: int, scales: list[float]) -> None:
    model = build_vit_pyramid_model("Unet", PATCH_16, 3, 1, encoder_depth=depth, encoder_params=dict(THIN)).eval()
    assert model.encoder.scales == scales
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 61, 75)).shape == (1, 1, 61, 75)


@pytest.mark.parametrize(
    ("architecture", "opts", "message"),
    [
        ("PAN", {}, "PAN can't be built on the plain vision transformer"),
        ("DeepLabV3Plus", {}, "can: Unet, UnetPlusPlus, MAnet, Linknet, FPN, Segformer, UPerNet"),
        ("DPT", {}, "DPT supports vision transformers without a pyramid"),
        ("FPN", {"encoder_depth": 3}, "encoder_depth: 3 must be from 4 to 5 for FPN"),
        ("Unet", {"encoder_depth": 6}, "encoder_depth: 6 must be from 2 to 5"),
        ("Unet", {"encoder_params": {"scale_factors": [4, 2, 1]}}, "scale_factors: .* must be 4 numbers"),
        ("Unet", {"encoder_params": {"scale_factors": [4, 3, 2, 1]}}, "each half of the one before"),
        ("Unet", {"encoder_indices": [2, 5, 8, 12]}, "ascending block numbers from 0 to 11"),
        ("Unet", {"encoder_params": {"imgsize": 3}}, "encoder_params: .*imgsize"),
        ("Unet", {"decoder_channels": [64, 32, 16]}, "Unet can't be built on vit_tiny.*depth is 4"),
        ("Unet", {"decoder_chanels": [64]}, r"opts\.decoder_chanels: .*did you mean 'decoder_channels'"),
        ("Unet", {"activation": "sigmoid"}, r"opts\.activation: not an option of Unet"),
    ],
)
def test_what_does_not_fit_is_refused(architecture: str, opts: dict, message: str) -> None:
    known = dict(smp.encoders.encoders)
    with pytest.raises(UserError, match=message) as error:
        build_vit_pyramid_model(architecture, PATCH_16, 3, 1, **opts)
    assert "\n" not in str(error.value)
    assert smp.encoders.encoders == known


def test_a_network_with_strides_is_refused() -> None:
    with pytest.raises(UserError, match="not a plain vision transformer"):
        build_vit_pyramid_model("Unet", "resnet18", 3, 1)


def test_smp_finds_no_trace_of_the_encoder() -> None:
    known = dict(smp.encoders.encoders)
    build_vit_pyramid_model("Unet", PATCH_16, 3, 1, encoder_params=dict(THIN))
    assert smp.encoders.encoders == known


def test_encoder_weights_from_a_file(tmp_path) -> None:
    torch.manual_seed(1)
    source = build_vit_pyramid_model("Unet", PATCH_16, 3, 1, encoder_params=dict(THIN))
    torch.save({"state_dict": {f"model.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "run.ckpt")
    model = build_vit_pyramid_model(
        "FPN", PATCH_16, 3, 1, encoder_weights=tmp_path / "run.ckpt", encoder_params=dict(THIN)
    )
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, source.encoder.state_dict()[key])

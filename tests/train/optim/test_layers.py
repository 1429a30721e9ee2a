"""Layers of an encoder."""

import pytest
import segmentation_models_pytorch as smp

from train.optim.layers import MAX_LAYERS, encoder_blocks, encoder_layers


@pytest.mark.parametrize(
    ("encoder", "layers", "blocks"),
    [
        ("resnet18", 8, 8),
        ("mobilenet_v2", 12, 17),
        ("mit_b0", 8, 8),
        ("vgg11_bn", 8, 8),
        ("tu-mobilenetv3_small_050", 11, 11),
        ("tu-convnextv2_atto", 12, 12),
        ("efficientnet-b0", 12, 16),
    ],
)
def test_an_encoder_falls_into_layers(encoder: str, layers: int, blocks: int) -> None:
    network = smp.encoders.get_encoder(encoder, weights=None)
    found = encoder_layers(network)
    assert len(found) == layers <= MAX_LAYERS
    assert len(list(encoder_blocks(network))) == blocks
    names = [name for layer in found.names for name in layer]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert all(found.names)
    first = next(iter(dict(network.named_parameters())))
    assert found.index(first) == 0


def test_layers_follow_the_data_not_the_order_of_names() -> None:
    """MiT lists the patch embeddings of all stages first."""
    network = smp.encoders.get_encoder("mit_b0", weights=None)
    found = encoder_layers(network)
    assert found.index("patch_embed1.proj.weight") == 0
    assert found.index("patch_embed4.proj.weight") >= found.index("block3.1.attn.q.weight")
    assert found.index("norm4.weight") == len(found) - 1

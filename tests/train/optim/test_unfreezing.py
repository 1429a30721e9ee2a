"""Parameters that a stage trains."""

import segmentation_models_pytorch as smp

from train.optim.unfreezing import set_trainable


def test_what_a_stage_trains() -> None:
    encoder = smp.encoders.get_encoder("resnet18", weights=None)

    def trained() -> set[str]:
        return {name.split(".")[0] for name, p in encoder.named_parameters() if p.requires_grad}

    assert set_trainable(encoder, "decoder") == [encoder]
    assert trained() == set()
    frozen = set_trainable(encoder, 2)
    assert trained() == {"layer4"}
    assert encoder.layer3 in frozen
    assert encoder.bn1 in frozen
    assert encoder.layer4 not in frozen
    assert not any(module in frozen for module in encoder.layer4.modules())
    set_trainable(encoder, 99)
    assert trained() == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    assert set_trainable(encoder, "all") == []

"""Parameter groups of the optimiser."""

from train.optim.parameter_groups import parameter_groups

from .networks import unet


def test_every_parameter_is_in_one_group_and_layers_slow_down() -> None:
    network = unet()
    groups = parameter_groups(network, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(rate) == sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    named = dict(network.named_parameters())
    assert rate[id(named["encoder.layer4.1.conv1.weight"])] == (0.5, 0.1)
    assert rate[id(named["encoder.layer4.1.bn1.weight"])] == (0.5, 0.0)
    assert rate[id(named["encoder.layer4.0.conv1.weight"])] == (0.25, 0.1)
    assert rate[id(named["encoder.conv1.weight"])] == (0.5**8, 0.1)
    assert rate[id(named["segmentation_head.0.weight"])] == (1.0, 0.1)
    assert groups[0]["lr"] == 1.0  # the first group's is what is logged
    assert {g["lr"] for g in parameter_groups(network, 1.0, 0.1)} == {1.0}

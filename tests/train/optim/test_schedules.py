"""Learning rates: of each layer, of each stage, and held."""

import pytest

from train.optim.schedules import held, learning_rate, parameter_groups, staged
from train.optim.unfreezing import Stage, stage_at

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


def test_the_rate_goes_its_whole_way_in_each_stage() -> None:
    stages = [Stage(0, "decoder", 1e-2), Stage(2, 3, 1e-3), Stage(8, "all", 5e-4)]
    base = learning_rate("onecycle", 0.1)
    factor = staged(base, stages, lr=1e-3, epochs=10)
    assert factor(0.0) == pytest.approx(10 / 25)
    assert factor(0.02) == pytest.approx(10)  # a tenth of two epochs of ten
    assert factor(0.2) == pytest.approx(1 / 25)  # the second stage begins anew
    assert factor(0.2 + 0.06) == pytest.approx(1)
    assert factor(0.8 + 0.02) == pytest.approx(0.5)
    assert factor(1.0) == pytest.approx(0.5 / 250_000)
    # The first step of an epoch belongs to that epoch, however the share is rounded.
    for steps in (3, 7, 11, 13, 17, 49):
        assert stage_at(stages, (2 * steps) / (10 * steps) * 10) == 1
        assert stage_at(stages, (2 * steps - 1) / (10 * steps) * 10) == 0


def test_a_stage_that_would_begin_when_training_ends() -> None:
    factor = staged(learning_rate("onecycle", 0.1), [Stage(0, "decoder", 1e-2), Stage(10, "all", 1e-3)], 1e-2, 10)
    assert factor(1.0) == pytest.approx(0.1 / 250_000)


def test_the_rate_is_held() -> None:
    base = learning_rate("onecycle", 0.1)
    factor = held(base, 6, None, epochs=8)
    assert [factor(x) for x in (0.0, 0.1, 0.5, 0.749)] == [base(x) for x in (0.0, 0.1, 0.5, 0.749)]
    assert {factor(x) for x in (0.75, 0.8, 1.0)} == {base(0.75)}
    up = held(base, 6, 0.5, epochs=8)
    assert up(0.75) == pytest.approx(base(0.75))
    assert up(0.75 + 1 / 16) == pytest.approx((base(0.75) + 0.5) / 2)  # half a cosine is half way in the middle
    assert up(0.875) == pytest.approx(0.5)
    assert up(1.0) == pytest.approx(0.5)

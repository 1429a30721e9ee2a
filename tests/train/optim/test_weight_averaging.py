"""Averaged weights."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from train.optim.weight_averaging import WeightAverage


def test_the_average_is_the_closed_form() -> None:
    network = nn.BatchNorm1d(2)
    average = WeightAverage(decay=0.8)
    weights = [torch.randn(2) for _ in range(12)]
    wanted = weights[0].double()
    for n, value in enumerate(weights):
        with torch.no_grad():
            network.weight.copy_(value)
            network.num_batches_tracked.fill_(n)
        average.update(network)
        if n:
            decay = min(0.8, (1 + n) / (10 + n))
            wanted = decay * wanted + (1 - decay) * value.double()
    assert torch.allclose(average.average["weight"].double(), wanted, atol=1e-6)
    assert average.average["num_batches_tracked"] == 11  # a counter has no mean


def test_the_plain_mean_is_the_mean() -> None:
    network = nn.BatchNorm1d(3).double()
    average = WeightAverage(decay=None)
    states = []
    for _ in range(7):
        with torch.no_grad():
            network.weight.copy_(torch.randn(3))
            network.running_var.copy_(torch.rand(3))  # type: ignore[union-attr]
        states.append(copy.deepcopy(network.state_dict()))
        average.update(network)
    for name in ("weight", "running_var"):
        wanted = torch.stack([state[name] for state in states]).mean(dim=0)
        assert torch.allclose(average.average[name], wanted, rtol=1e-12, atol=0)


def test_before_the_first_update_the_weights_count() -> None:
    network, average = nn.Linear(2, 2), WeightAverage(0.9)
    before = copy.deepcopy(network.state_dict())
    average.swap(network)
    assert not average.in_place
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    content: dict[str, Any] = {"state_dict": {"model.weight": network.weight}}
    average.save(content, network, "model.")
    assert "raw_weights" not in content


@pytest.mark.parametrize("in_place", [False, True])
def test_a_checkpoint_holds_the_average_for_others_and_the_weights_for_a_resumed_run(in_place: bool) -> None:
    network, average = nn.Linear(2, 2), WeightAverage(0.9)
    average.update(network)
    with torch.no_grad():
        network.weight += 1
    raw, mean = network.weight.detach().clone(), average.average["weight"].clone()
    if in_place:
        average.swap(network)
    content: dict[str, Any] = {"state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}
    average.save(content, network, "model.")
    assert torch.equal(content["state_dict"]["model.weight"], mean)
    resumed = WeightAverage(0.9)
    resumed.load(content, "model.", torch.device("cpu"))
    assert torch.equal(content["state_dict"]["model.weight"], raw)
    assert torch.equal(resumed.average["weight"], mean)
    assert resumed.updates == 1


def test_swapping_twice_changes_nothing() -> None:
    network, average = nn.Linear(2, 2), WeightAverage(0.9)
    average.update(network)
    with torch.no_grad():
        network.weight += 1
    before = network.weight.detach().clone()
    average.swap(network)
    assert torch.allclose(network.weight, before - 1)
    average.swap(network)
    assert torch.equal(network.weight, before)

"""Compilation of a network."""

import copy

import pytest
import torch

from train.optim.compilation import compile_network

from .networks import unet


def test_what_cannot_be_compiled_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    network = unet().train()
    before = copy.deepcopy(network.state_dict())
    drawn = torch.random.get_rng_state()
    monkeypatch.setattr(network, "compile", lambda: (_ for _ in ()).throw(RuntimeError("no C++ compiler\nmore")))
    told: list[str] = []
    assert not compile_network(network, torch.zeros(2, 3, 32, 32), told.append)
    (line,) = told
    assert line.endswith("which failed on this machine: no C++ compiler")
    assert network._compiled_call_impl is None
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(drawn, torch.random.get_rng_state())


def test_trying_a_network_out_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    network = unet().train()
    before = copy.deepcopy(network.state_dict())
    monkeypatch.setattr(network, "compile", lambda: None)
    assert compile_network(network, torch.rand(2, 3, 32, 32), print)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())

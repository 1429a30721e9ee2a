"""Recipes by themselves: layers, averages, forgotten activations, stages, rates, class weights, compilation."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from train.data.class_weights import balanced
from train.optim.compilation import compile_network
from train.optim.gradient_checkpointing import checkpoint_blocks
from train.optim.layers import MOST_LAYERS, encoder_blocks, encoder_layers
from train.optim.schedules import held, learning_rate, parameter_groups, staged
from train.optim.unfreezing import Stage, set_trainable, stage_at
from train.optim.weight_averaging import WeightAverage


def unet(encoder: str = "resnet18") -> nn.Module:
    torch.manual_seed(0)
    channels = [16, 8, 8, 4, 4]
    return smp.Unet(encoder, encoder_weights=None, decoder_channels=channels)  # type: ignore[no-any-return]


# Layers


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
    assert len(found) == layers <= MOST_LAYERS
    assert len(list(encoder_blocks(network))) == blocks
    names = [name for layer in found.names for name in layer]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert all(found.names)
    first = next(iter(dict(network.named_parameters())))
    assert found.of(first) == 0


def test_layers_follow_the_data_not_the_order_of_names() -> None:
    """MiT lists the patch embeddings of all stages first."""
    network = smp.encoders.get_encoder("mit_b0", weights=None)
    found = encoder_layers(network)
    assert found.of("patch_embed1.proj.weight") == 0
    assert found.of("patch_embed4.proj.weight") >= found.of("block3.1.attn.q.weight")
    assert found.of("norm4.weight") == len(found) - 1


# Rates


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


# Stages


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


# Averages


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


# Forgotten activations


def kept_bytes(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    return loss, sum(kept.values())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_050", "mit_b0"])
def test_forgetting_activations_changes_memory_and_nothing_else(encoder: str) -> None:
    plain = unet(encoder).double().train()
    forgetful = copy.deepcopy(plain)
    undo = checkpoint_blocks(forgetful.encoder)  # type: ignore[arg-type]
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    results = []
    for network in (plain, forgetful):
        for _ in range(2):
            torch.manual_seed(1)  # stochastic depth
            network.zero_grad()
            loss, size = kept_bytes(lambda network=network: network(image).square().mean())  # type: ignore[misc]
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        results.append((loss, size, gradients, [b.double() for b in network.buffers()]))
    (loss, size, gradients, buffers), (loss2, size2, gradients2, buffers2) = results
    assert torch.equal(loss, loss2)
    assert len(gradients) == len(gradients2) > 10
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(gradients, gradients2, strict=True))
    # Each batch counts once in the running statistics, though it went through twice.
    assert all(torch.equal(a, b) for a, b in zip(buffers, buffers2, strict=True))
    assert size2 < 0.8 * size
    undo()
    assert "forward" not in vars(next(block for _, block in encoder_blocks(forgetful.encoder)))  # type: ignore[arg-type]


# Class weights


def test_class_weights_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [700, 250, 50])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced([700, 250, 50]) == pytest.approx(wanted)


# Compilation


def test_what_cannot_be_compiled_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    network = unet().train()
    before = copy.deepcopy(network.state_dict())
    drawn = torch.random.get_rng_state()
    monkeypatch.setattr(network, "compile", lambda: (_ for _ in ()).throw(RuntimeError("no C++ compiler\nmore")))
    told: list[str] = []
    assert not compile_network(network, torch.zeros(2, 3, 32, 32), told.append)
    (line,) = told
    assert line.endswith("can't be compiled here: no C++ compiler")
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

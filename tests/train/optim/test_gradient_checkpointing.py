"""Gradient checkpointing: less memory, the same gradients."""

import copy
from collections.abc import Callable

import pytest
import torch

from train.optim.gradient_checkpointing import checkpoint_blocks
from train.optim.layers import encoder_blocks

from .networks import unet


def saved_bytes(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    return loss, sum(kept.values())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_050", "mit_b0"])
def test_only_the_memory_changes(encoder: str) -> None:
    plain = unet(encoder).double().train()
    checkpointed = copy.deepcopy(plain)
    undo = checkpoint_blocks(checkpointed.encoder)  # type: ignore[arg-type]
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    results = []
    for network in (plain, checkpointed):
        for _ in range(2):
            torch.manual_seed(1)  # stochastic depth
            network.zero_grad()
            loss, size = saved_bytes(lambda network=network: network(image).square().mean())  # type: ignore[misc]
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        results.append((loss, size, gradients, [b.double() for b in network.buffers()]))
    (loss, size, gradients, buffers), (loss2, size2, gradients2, buffers2) = results
    assert torch.equal(loss, loss2)
    assert len(gradients) == len(gradients2) > 10
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(gradients, gradients2, strict=True))
    # Each batch counts once in the running statistics, although its forward pass runs twice.
    assert all(torch.equal(a, b) for a, b in zip(buffers, buffers2, strict=True))
    assert size2 < 0.8 * size
    undo()
    assert "forward" not in vars(next(block for _, block in encoder_blocks(checkpointed.encoder)))  # type: ignore[arg-type]

"""AdamW in its fastest form: its steps, and states of runs that began with another form."""

import copy

import pytest
import torch

from train.optim.adamw import adamw


def _parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 7), (13,), (3, 3, 5, 5))]


def _step(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, number: int) -> None:
    generator = torch.Generator().manual_seed(100 + number)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def _written_out(parameter: torch.Tensor, gradients: list[torch.Tensor], lr: float, decay: float) -> torch.Tensor:
    """Return a parameter after steps of AdamW as Loshchilov and Hutter (2017) write it, algorithm 2, in float64."""
    theta, m, v = parameter.double(), torch.zeros_like(parameter).double(), torch.zeros_like(parameter).double()
    for t, gradient in enumerate(gradients, 1):
        g = gradient.double()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        theta = theta - step - lr * decay * theta
    return theta


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_the_paper(fused: bool) -> None:
    parameters = _parameters()
    first = [p.detach().clone() for p in parameters]
    optimizer = adamw([{"params": parameters, "lr": 0.01, "weight_decay": 0.1}], 0.5, fused=fused)
    gradients: list[list[torch.Tensor]] = [[] for _ in parameters]
    for number in range(5):
        _step(parameters, optimizer, number)
        for kept, parameter in zip(gradients, parameters, strict=True):
            assert parameter.grad is not None
            kept.append(parameter.grad.clone())
    for parameter, start, kept in zip(parameters, first, gradients, strict=True):
        torch.testing.assert_close(parameter.detach().double(), _written_out(start, kept, 0.01, 0.1), atol=1e-6, rtol=0)


def test_fused_where_the_device_has_it() -> None:
    assert adamw([{"params": _parameters()}], 0.01).param_groups[0]["fused"] is True
    assert adamw([{"params": _parameters()}], 0.01, fused=False).param_groups[0]["fused"] is None
    meta = [torch.nn.Parameter(torch.zeros(2, device="meta"))]
    assert adamw([{"params": meta}], 0.01).param_groups[0]["fused"] is None


def test_a_run_goes_on_with_the_form_that_it_began_with() -> None:
    """A state from before the fused kernel goes on bit for bit, which the fused kernel would not."""
    parameters = _parameters()
    old = torch.optim.AdamW(parameters, lr=0.01)
    for number in range(3):
        _step(parameters, old, number)
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    new = adamw([{"params": resumed}], 0.01)
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    for number in range(3, 6):
        _step(parameters, old, number)
        _step(resumed, new, number)
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed, strict=True))

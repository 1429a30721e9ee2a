"""AdamW in its fastest form: its steps, and states of runs that began with another form."""

import copy

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


def test_steps_are_those_of_the_paper() -> None:
    parameters = _parameters()
    first = [p.detach().clone() for p in parameters]
    optimizer = adamw([{"params": parameters, "lr": 0.01, "weight_decay": 0.1}], 0.5)
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


def _scaled_step(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Make a step as Lightning does in 16-mixed: scale, unscale, clip to a norm of 0.5, step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    generator = torch.Generator().manual_seed(5)
    products = [(each * torch.randn(each.shape, generator=generator)).sum() for each in parameters]
    scaler.scale(torch.stack(products).sum()).backward()  # type: ignore[no-untyped-call]
    if not getattr(optimizer, "_step_supports_amp_scaling", False):  # what Lightning asks
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    scaler.step(optimizer)
    scaler.update()


def test_scaled_gradients_are_clipped_as_plain_ones() -> None:
    scaled, plain = _parameters(), _parameters()
    _scaled_step(scaled, adamw([{"params": scaled}], 0.01), 2.0**16)
    _scaled_step(plain, torch.optim.SGD(plain, lr=0), 1)  # gradients alone
    optimizer = torch.optim.AdamW(plain, lr=0.01, fused=True)
    optimizer.step()
    for one, other, start in zip(scaled, plain, _parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)
        assert not torch.equal(one, start)


def test_a_step_with_an_infinite_gradient_is_left_out() -> None:
    parameters = _parameters()
    optimizer = adamw([{"params": parameters}], 0.01)
    _scaled_step(parameters, optimizer, float("inf"))
    assert all(torch.equal(one, start) for one, start in zip(parameters, _parameters(), strict=True))
    assert not optimizer.state

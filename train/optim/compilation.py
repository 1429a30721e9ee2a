"""Compiling a network where that is possible, and going on without where it isn't."""

import warnings
from collections.abc import Callable

import torch
from torch import nn


def compile_network(network: nn.Module, example: torch.Tensor, tell: Callable[[str], None]) -> bool:
    """Compiles a network in place, and tries it out forwards and backwards.

    Its parameters keep their names. Nothing else changes: running statistics and random numbers are as before.

    Args:
        network: On the device that it will be trained on.
        example: A batch as training has it, (N, bands, H, W).
        tell: Takes a line for the user.

    Returns:
        Whether it is compiled now.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    devices = [example.device] if example.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.compile()
            network(example).float().mean().backward()
        done = True
    except Exception as error:  # of the compiler, of the C++ compiler that it calls, of the network's own code
        network._compiled_call_impl = None
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        tell(f"note: trainer.compile: goes on without, the network can't be compiled here: {reason.strip()}")
        done = False
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
    for name, parameter in network.named_parameters():
        parameter.grad = gradients[name]
    return done

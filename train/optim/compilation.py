"""Compilation of a network by `torch.compile`, with a fallback where it fails."""

import warnings
from collections.abc import Callable

import torch
from torch import nn


def compile_network(network: nn.Module, example: torch.Tensor, notify: Callable[[str], None]) -> bool:
    """Compile a network in place, and test it with a forward and a backward pass.

    Names of parameters, running statistics and the state of random number generators stay as they were. Where the
    compilation fails, the network is left uncompiled and the user is notified.

    Args:
        network: Network on the device that it will be trained on.
        example: Batch with the shape of training batches, (N, bands, H, W).
        notify: Called with a line for the user.

    Returns:
        True if the network is compiled.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    devices = [example.device] if example.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.compile()
            network(example).float().mean().backward()
        compiled = True
    except Exception as error:  # from torch.compile, the C++ compiler that it calls, or the network's own code
        network._compiled_call_impl = None
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        notify(f"note: trainer.compile: training without compilation, which failed on this machine: {reason.strip()}")
        compiled = False
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
    for name, parameter in network.named_parameters():
        parameter.grad = gradients[name]
    return compiled

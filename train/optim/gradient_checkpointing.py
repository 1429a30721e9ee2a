"""Gradient checkpointing: activations of the encoder's blocks are recomputed in the backward pass instead of stored."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from train.optim.layers import encoder_blocks


def checkpoint_blocks(encoder: nn.Module) -> Callable[[], None]:
    """Apply gradient checkpointing to the blocks of an encoder, in place (Chen et al. 2016, arXiv:1604.06174).

    Outputs, gradients and running statistics of batch normalisation stay the same; statistics count each batch once.

    Args:
        encoder: Encoder; blocks are checkpointed in training mode only.

    Returns:
        Function that restores the encoder.
    """
    wrapped = [block for _, block in encoder_blocks(encoder)]
    for block in wrapped:
        block.forward = _checkpointed_forward(block)

    def undo() -> None:
        for block in wrapped:
            del block.forward

    return undo


def _checkpointed_forward(block: nn.Module) -> Callable[..., Any]:
    forward = block.forward
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(norms)

    def run(*args: Any, **kwargs: Any) -> Any:
        if not block.training:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return run


@contextmanager
def _frozen_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let norm layers normalise by the batch, but not update their running statistics."""
    before = [(norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in norms]
    for norm, (mean, variance, count) in zip(norms, before, strict=True):
        if mean is not None and variance is not None and count is not None:
            norm.running_mean, norm.running_var = mean.clone(), variance.clone()
            norm.num_batches_tracked = count.clone()
    try:
        yield
    finally:
        for norm, (mean, variance, count) in zip(norms, before, strict=True):
            norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, variance, count

"""AdamW in its fastest form on the device."""

from collections.abc import Sequence
from typing import Any

import torch

_FUSED = {"cpu", "cuda", "mps"}


def adamw(groups: Sequence[dict[str, Any]], lr: float) -> torch.optim.AdamW:
    """Return AdamW with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101).

    One kernel updates all parameters where PyTorch has one for their device and type; elsewhere PyTorch chooses. A
    state that is loaded later brings its own choice, so that a run goes on as it began.

    Args:
        groups: Parameter groups.
        lr: Learning rate of groups without one.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    supported = all(p.device.type in _FUSED and p.is_floating_point() for p in parameters)
    optimizer = torch.optim.AdamW(groups, lr=lr, fused=True if supported else None)
    # The fused kernel could divide gradients by the scale of mixed precision itself, after they would have been
    # clipped, which is why Lightning refuses to clip for it. PyTorch and Lightning ask this attribute; without it the
    # scaler divides them before, as for every other optimiser, and they are clipped right.
    optimizer._step_supports_amp_scaling = False
    return optimizer

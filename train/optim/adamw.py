"""AdamW in its fastest form on the device."""

from collections.abc import Sequence
from typing import Any

import torch

_FUSED = {"cpu", "cuda", "mps"}


def adamw(groups: Sequence[dict[str, Any]], lr: float, *, fused: bool = True) -> torch.optim.AdamW:
    """Return AdamW with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101).

    One kernel updates all parameters where PyTorch has one for their device and type; elsewhere PyTorch chooses. A
    state that is loaded later brings its own choice, so that a run goes on as it began.

    Args:
        groups: Parameter groups.
        lr: Learning rate of groups without one.
        fused: False where the fused kernel must not be used: in mixed precision, where Lightning refuses to clip
            gradients for an optimiser that can unscale them itself.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    supported = all(p.device.type in _FUSED and p.is_floating_point() for p in parameters)
    return torch.optim.AdamW(groups, lr=lr, fused=True if fused and supported else None)

"""Averages of the weights over training (EMA, SWA), which are validated, saved and exported."""

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential or equal average of a network's weights.

    Update n replaces the average a by d a + (1 - d) w. The exponential average (EMA; Polyak and Juditsky 1992,
    doi:10.1137/0330046; Tarvainen and Valpola 2017, arXiv:1703.01780) has d = min(decay, (1 + n) / (10 + n)), which
    reduces the influence of the first weights. The equal average (SWA; Izmailov et al. 2018, arXiv:1803.05407) has
    d = n / (n + 1). Running statistics of norm layers are averaged like weights, as in PyTorch's
    `AveragedModel(use_buffers=True)`, so that no second pass over the data is needed; counters are copied. Before the
    first update there is no average, and the weights themselves are used.

    Args:
        decay: Largest d of the exponential average, below 1; None: equal average.

    Attributes:
        updates: Number of updates.
        average: The average, by the names of the network's state dict.
        in_place: True while the network holds the average and `average` the weights of training.
    """

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        self.in_place = False

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average with the current weights."""
        state = network.state_dict()
        if self.updates == 0:
            self.average = {name: tensor.detach().clone() for name, tensor in state.items()}
        else:
            n = self.updates
            decay = n / (n + 1) if self.decay is None else min(self.decay, (1 + n) / (10 + n))
            for name, tensor in state.items():
                mean = self.average[name]
                if mean.is_floating_point():
                    mean.lerp_(tensor.to(mean), 1 - decay)
                else:
                    mean.copy_(tensor)
        self.updates += 1

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the network's weights and the average; do nothing before the first update."""
        if self.updates == 0:
            return
        for name, tensor in network.state_dict().items():
            kept = tensor.clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(kept)
        self.in_place = not self.in_place

    def save(self, checkpoint: dict[str, Any], network: nn.Module, prefix: str) -> None:
        """Save the average as `state_dict` of a checkpoint, and the weights of training as `raw_weights`.

        Args:
            checkpoint: Lightning checkpoint with a `state_dict`; modified in place.
            network: The network.
            prefix: Prefix of the network's names in the state dict.
        """
        checkpoint["ema"] = {"updates": self.updates}
        if self.updates == 0:
            return
        raw = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        average = {name: tensor.detach().clone() for name, tensor in self.average.items()}
        if self.in_place:
            raw, average = average, raw
        checkpoint["raw_weights"] = raw
        checkpoint["state_dict"] |= {f"{prefix}{name}": tensor for name, tensor in average.items()}

    def load(self, checkpoint: dict[str, Any], prefix: str, device: torch.device) -> None:
        """Load what `save` saved, so that a resumed run continues from the weights of training.

        Args:
            checkpoint: Lightning checkpoint; its `state_dict` gets the weights of training.
            prefix: Prefix of the network's names in the state dict.
            device: Device of the average.
        """
        self.updates = int(checkpoint.get("ema", {}).get("updates", 0))
        raw = checkpoint.get("raw_weights")
        if self.updates == 0 or raw is None:
            return
        state = checkpoint["state_dict"]
        self.average = {name: state[f"{prefix}{name}"].to(device, copy=True) for name in raw}
        checkpoint["state_dict"] = {**state, **{f"{prefix}{name}": tensor for name, tensor in raw.items()}}

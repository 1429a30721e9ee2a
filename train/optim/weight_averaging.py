"""An average of the weights over training, which is what is validated, kept and exported."""

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages a network's weights: exponentially, or each as much as any other.

    Exponentially (EMA; Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv:1703.01780), after update n the
    average is d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)), so that it doesn't cling to the first weights.
    The plain mean (SWA; Izmailov et al. 2018, arXiv:1803.05407) has d = n / (n + 1). Running statistics of norm layers
    are averaged like weights (PyTorch's `AveragedModel(use_buffers=True)`), which needs no second pass over the data;
    counters are copied. There is no average before the first update: until then the weights themselves count.

    Args:
        decay: Share of the exponential average that stays with each update, below 1; None: the plain mean.
    """

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        self.in_place = False

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes the weights as they are now in."""
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
        """Exchanges the network's weights and the average; does nothing before the first update."""
        if self.updates == 0:
            return
        for name, tensor in network.state_dict().items():
            kept = tensor.clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(kept)
        self.in_place = not self.in_place

    def save(self, checkpoint: dict[str, Any], network: nn.Module, prefix: str) -> None:
        """Puts the average where others look for weights, and the weights themselves where a resumed run does.

        Args:
            checkpoint: Lightning's, with a `state_dict`.
            network: The network.
            prefix: Of its names in the state dict.
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
        """Takes up what `save` put down, so that a resumed run goes on from the weights themselves."""
        self.updates = int(checkpoint.get("ema", {}).get("updates", 0))
        raw = checkpoint.get("raw_weights")
        if self.updates == 0 or raw is None:
            return
        state = checkpoint["state_dict"]
        self.average = {name: state[f"{prefix}{name}"].to(device, copy=True) for name in raw}
        checkpoint["state_dict"] = {**state, **{f"{prefix}{name}": tensor for name, tensor in raw.items()}}

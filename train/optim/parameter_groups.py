"""Parameter groups for the optimiser: layer-wise learning rates, and weight decay where it belongs."""

from typing import Any

from torch import nn

from train.optim.layers import encoder_layers


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Group the parameters of a network for AdamW, with no weight decay on norms, biases and positions.

    Args:
        network: Network with an `encoder`.
        lr: Learning rate of the decoder.
        weight_decay: Weight decay of matrices and kernels.
        layer_decay: Ratio of the learning rate of each encoder layer to that of the next, and of the last layer to
            that of the decoder (Clark et al. 2020, arXiv:2003.10555); None: one rate for all.

    Returns:
        Groups with `params`, `lr` and `weight_decay`; the decoder's first. Frozen parameters are included: AdamW skips
        parameters without a gradient, and its state fits whatever is frozen.
    """
    encoder = network.encoder
    layers = encoder_layers(encoder) if layer_decay is not None else None  # type: ignore[arg-type]
    rates = {}
    for name, parameter in encoder.named_parameters():  # type: ignore[union-attr]
        depth = 0 if layers is None else len(layers) - layers.index(name)
        rates[id(parameter)] = lr * (layer_decay or 1.0) ** depth
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(lr, weight_decay): [], (lr, 0.0): []}
    for name, parameter in network.named_parameters():
        decay = 0.0 if parameter.ndim <= 1 or _is_position(name) else weight_decay
        groups.setdefault((rates.get(id(parameter), lr), decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _is_position(name: str) -> bool:
    return name.endswith(("pos_embed", "cls_token", "reg_token", "mask_token", "relative_position_bias_table"))

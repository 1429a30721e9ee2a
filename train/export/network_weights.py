"""Weights of a network in a checkpoint: the sets that a file holds, and the names without the prefixes of wrappers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.common.errors import UserError
from inference.common.text import quoted

TRAINED = "model"
"""Name of the set of weights that training has updated, beside averages of them."""
# Parts that PyTorch's compiler and distributed wrappers add to the names of parameters, and where.
_COMPILED, _DISTRIBUTED = "_orig_mod", "module"
# Prefixes of the loss's weights, which checkpoints of the earlier tool may contain.
_NOT_THE_NETWORK = ("loss_fn.", "loss.")
# Averaged weights lie under a prefix within the state dict, or under a key of the file beside it (timm).
_AVERAGE = re.compile(r"(ema|ema_model|model_ema|averaged_model|swa_model)\.(?=.*\.)")
_AVERAGE_KEYS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
# Counter of updates of `torch.optim.swa_utils.AveragedModel`.
_COUNTER = "n_averaged"


def choose_weights(checkpoint: Path, content: Mapping[str, Any], wanted: str | None) -> dict[str, Tensor]:
    """Return one of the sets of weights in a checkpoint, under their plain names.

    Averaged weights score otherwise than the trained ones, and which of them was evaluated no file says: of several
    sets the user chooses.

    Args:
        checkpoint: Path of the checkpoint.
        content: What it holds, with its `state_dict`.
        wanted: Name of the set; None if the user gives none.

    Raises:
        UserError: The checkpoint has no weights, or several sets and none is chosen, or it doesn't have the chosen one.
    """
    sets = weight_sets(content)
    if wanted is None and len(sets) == 1:
        return next(iter(sets.values()))
    if wanted in sets:
        return sets[wanted]
    if not sets:
        raise UserError(
            f"{checkpoint}: its state_dict holds no weights (allowed: names and tensors; give another file)"
        )
    found = ", ".join(f"{quoted(name)} ({len(weights)} tensors)" for name, weights in sets.items())
    fix = f"convert it with {' or '.join(f'--weights {name}' for name in sets)}"
    if wanted is None:
        raise UserError(f"{checkpoint}: holds {len(sets)} sets of weights: {found} ({fix})")
    raise UserError(f"--weights: {checkpoint} has no set {quoted(wanted)}, it holds {found} ({fix})")


def weight_sets(content: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Return the sets of weights in a checkpoint by name: `model`, and averages of it such as `ema`."""
    sets: dict[str, dict[str, Any]] = {}
    for name, value in content["state_dict"].items():
        found = _AVERAGE.match(str(name))
        key, name = (found[1], str(name)[found.end() :]) if found else (TRAINED, str(name))
        sets.setdefault(key, {})[name] = value
    for key in _AVERAGE_KEYS:
        beside = content.get(key)
        if isinstance(beside, Mapping) and any(isinstance(value, Tensor) for value in beside.values()):
            sets[key] = {str(name): value for name, value in beside.items()}
    plain = {key: network_weights(weights) for key, weights in sets.items()}
    return {key: weights for key, weights in plain.items() if weights}


def network_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the network's weights under their plain names, `model.*`, without the prefixes of wrappers.

    Args:
        state: State dict of a checkpoint; entries of the loss and entries that are no tensors are dropped.
    """
    plain = {}
    for name, value in state.items():
        parts = [part for part in name.split(".") if part != _COMPILED]
        while parts[:1] == [_DISTRIBUTED]:
            del parts[0]
        while parts[:2] == ["model", _DISTRIBUTED]:
            del parts[1]
        name = ".".join(parts)
        if isinstance(value, Tensor) and not name.startswith(_NOT_THE_NETWORK) and name != _COUNTER:
            plain[name] = value
    # A network that was saved on its own has no `model.` before its names.
    if any(name.startswith("model.") for name in plain):
        return plain
    return {f"model.{name}": value for name, value in plain.items()}

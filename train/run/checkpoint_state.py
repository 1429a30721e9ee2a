"""Check of a checkpoint that a run is resumed from, by name, type and shape."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from inference.common.errors import UserError
from inference.common.paths import path_within
from inference.common.text import limited, quoted
from train.model import SegmentationModel
from train.optim.parameter_groups import parameter_groups
from train.run.checkpoints import Checkpoints
from train.run.folder import LAST, RunFolder

_MOST = 8  # lines about one checkpoint


class Wrong(Exception):
    """A part of a checkpoint isn't what a run needs; the arguments are its place and what was found there."""


def check_state(
    folder: RunFolder, content: Mapping[str, Any], model: SegmentationModel, trainer: L.Trainer, force: bool
) -> None:
    """Check by name, type and shape that a checkpoint holds all that a run continues from.

    PyTorch and Lightning take over what they find: a missing part would silently restart, and a wrong one fails with
    a traceback after minutes.

    Args:
        folder: Run folder.
        content: Content of its `last.ckpt`.
        model: Model as it was built from the run's config.
        trainer: Trainer with its callbacks.
        force: True if keys of the config may differ: then callbacks may be new.

    Raises:
        UserError: Something is missing or wrong; one line for each part.
    """
    checks: list[Callable[[], None]] = [
        lambda: _check_numbers(content),
        lambda: _check_tensors(content, "state_dict", model.state_dict()),
        lambda: _check_optimizer(content, model),
        lambda: _check_schedule(content, len(_groups(model))),
        lambda: _check_shape(at(content, "loops", "fit_loop"), trainer.fit_loop.state_dict(), "loops.fit_loop"),
        lambda: _check_callbacks(content, trainer, folder, force),
        lambda: _check_position(content),
        lambda: _check_counts(content, model),
        lambda: _check_gradients(content, model, trainer),
        lambda: _check_average(content, model, force),
    ]
    wrong = []
    for check in checks:
        try:
            check()
        except Wrong as error:
            wrong.append(error)
    if wrong:
        raise UserError(refusal(folder, wrong))


def refusal(folder: RunFolder, wrong: Sequence[Wrong]) -> str:
    """Return the message for a checkpoint that a run can't be resumed from."""
    path = folder.checkpoints / LAST
    others = ", ".join(sorted(p.name for p in folder.checkpoints.glob("*.ckpt") if p.name != LAST))
    fix = f"copy another checkpoint of the run over it: {others}" if others else "restore it, or begin a new run"
    return "\n".join(
        limited([f"{path}: can't be resumed from: {e.args[0]}: {e.args[1]} ({fix})" for e in wrong], _MOST)
    )


def at(content: Any, *keys: str, within: str = "") -> Any:
    """Return the value at a path of keys.

    Args:
        content: Nested mappings.
        keys: Keys of the path.
        within: Place of `content` itself, for the message.
    """
    for key in keys:
        if not isinstance(content, Mapping):
            raise Wrong(within or "the file", f"is of type {type(content).__name__}, not a mapping")
        within = f"{within}.{key}" if within else key
        if key not in content:
            raise Wrong(within, "is missing")
        content = content[key]
    return content


def check_type(value: Any, kind: type | tuple[type, ...], place: str) -> None:
    """Check the type of a value; bool counts as int only where it is asked for."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise Wrong(place, f"is of type {type(value).__name__}, not {' or '.join(k.__name__ for k in kinds)}")


def check_list(value: Any, kind: type | tuple[type, ...], place: str, length: int | None = None) -> None:
    """Check that a value is a list of items of a type, and its length."""
    check_type(value, (list, tuple), place)
    for number, item in enumerate(value):
        check_type(item, kind, f"{place}[{number}]")
    if length is not None and len(value) != length:
        raise Wrong(place, f"has {len(value)} items, not {length}")


def _check_count(value: Any, place: str) -> None:
    """Check that a value is a whole number that isn't negative."""
    check_type(value, int, place)
    if value < 0:
        raise Wrong(place, f"is {value}, but must be 0 or more")


def _check_tensor(value: Any, like: Tensor, place: str) -> None:
    """Check the shape of a tensor, and whether it holds whole numbers or fractions."""
    check_type(value, Tensor, place)
    if value.shape != like.shape or value.is_floating_point() != like.is_floating_point() or value.is_sparse:
        raise Wrong(place, f"is {_form(value)}, this run has {_form(like)}")


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _check_tensors(content: Any, key: str, like: Mapping[str, Tensor]) -> None:
    """Check names and shapes of a mapping of tensors."""
    found = at(content, key)
    check_type(found, Mapping, key)
    absent, unknown = sorted(like.keys() - found.keys()), sorted(map(str, found.keys() - like.keys()))
    if absent or unknown:
        parts = [(absent, "lacks"), (unknown, "has unknown")]
        said = ", ".join(f"{word} {len(n)} tensors such as {quoted(n[0])}" for n, word in parts if n)
        raise Wrong(key, f"is of another network than config.yml: it {said}")
    for name, tensor in like.items():
        _check_tensor(found[name], tensor, f"{key}.{name}")


def _check_shape(value: Any, like: Any, place: str) -> None:
    """Check that nested mappings have all keys of a template, with values of the same type."""
    if isinstance(like, Mapping):
        for key, part in like.items():
            _check_shape(at(value, key, within=place), part, f"{place}.{key}")
    elif isinstance(like, int) and not isinstance(like, bool):
        _check_count(value, place)
    elif like is not None:
        check_type(value, (int, float) if isinstance(like, float) else type(like), place)


def _check_numbers(content: Mapping[str, Any]) -> None:
    """Check the epoch, the step and the version."""
    for key in ("epoch", "global_step"):
        _check_count(at(content, key), key)
    version = at(content, "pytorch-lightning_version")
    check_type(version, str, "pytorch-lightning_version")
    if not version[:1].isdigit():
        raise Wrong("pytorch-lightning_version", f"is {quoted(version)}, not a version")


def _check_optimizer(content: Mapping[str, Any], model: SegmentationModel) -> None:
    """Check the state of AdamW: groups and moments of this network's parameters."""
    states = at(content, "optimizer_states")
    check_list(states, dict, "optimizer_states", 1)
    place = "optimizer_states[0]"
    state, saved = (at(states[0], key, within=place) for key in ("state", "param_groups"))
    groups = _groups(model)
    template = torch.optim.AdamW(groups).state_dict()["param_groups"]
    check_list(saved, dict, f"{place}.param_groups", len(template))
    for number, (group, like) in enumerate(zip(saved, template, strict=True)):
        here = f"{place}.param_groups[{number}]"
        for key in ("lr", "weight_decay", "eps"):
            check_type(at(group, key, within=here), (int, float), f"{here}.{key}")
        check_list(at(group, "betas", within=here), (int, float), f"{here}.betas", 2)
        if at(group, "params", within=here) != like["params"]:
            raise Wrong(f"{here}.params", "aren't the parameters of this network")
    check_type(state, dict, f"{place}.state")
    if not state and content.get("global_step"):
        raise Wrong(f"{place}.state", f"is empty after {content['global_step']} steps")
    parameters = [parameter for group in groups for parameter in group["params"]]
    for index, moments in state.items():
        here = f"{place}.state[{index}]"
        if not isinstance(index, int) or not 0 <= index < len(parameters):
            raise Wrong(here, f"isn't one of the {len(parameters)} parameters")
        _check_tensor(at(moments, "step", within=here), torch.zeros(()), f"{here}.step")
        for key in ("exp_avg", "exp_avg_sq"):
            _check_tensor(at(moments, key, within=here), parameters[index], f"{here}.{key}")


def _groups(model: SegmentationModel) -> list[dict[str, Any]]:
    settings = model.config.segmentation_config
    return parameter_groups(model.model, settings.lr, settings.weight_decay, settings.layer_decay)


def _check_schedule(content: Mapping[str, Any], groups: int) -> None:
    """Check the state of the learning rate schedule."""
    schedules = at(content, "lr_schedulers")
    check_list(schedules, dict, "lr_schedulers", 1)
    for key in ("last_epoch", "_step_count"):
        _check_count(at(schedules[0], key, within="lr_schedulers[0]"), f"lr_schedulers[0].{key}")
    for key in ("base_lrs", "_last_lr"):
        check_list(at(schedules[0], key, within="lr_schedulers[0]"), (int, float), f"lr_schedulers[0].{key}", groups)
    check_list(at(schedules[0], "lr_lambdas", within="lr_schedulers[0]"), object, "lr_schedulers[0].lr_lambdas", groups)


def _check_callbacks(content: Mapping[str, Any], trainer: L.Trainer, folder: RunFolder, force: bool) -> None:
    """Check the states of the callbacks; the names of kept checkpoints must stay in the run folder."""
    saved = at(content, "callbacks")
    check_type(saved, dict, "callbacks")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        key = callback.state_key
        if isinstance(callback, Checkpoints):
            state = at(saved, key, within="callbacks")
            _check_kept(at(state, "kept", within=f"callbacks.{key}"), f"callbacks.{key}.kept", folder)
        elif isinstance(callback, EarlyStopping) and not (force and key not in saved):
            _check_shape(at(saved, key, within="callbacks"), callback.state_dict(), f"callbacks.{key}")


def _check_kept(kept: Any, place: str, folder: RunFolder) -> None:
    """Check the list of the best checkpoints, and that each lies directly in their folder."""
    check_list(kept, dict, place)
    for number, entry in enumerate(kept):
        here = f"{place}[{number}]"
        check_type(at(entry, "score", within=here), (int, float), f"{here}.score")
        for key in ("epoch", "step"):
            _check_count(at(entry, key, within=here), f"{here}.{key}")
        try:
            path = path_within(folder.checkpoints, at(entry, "file", within=here), f"{here}.file")
        except UserError as error:
            raise Wrong(f"{here}.file", str(error).partition(": ")[2]) from None
        if path.parent != folder.checkpoints or path.suffix != ".ckpt" or path.name == LAST:
            raise Wrong(f"{here}.file", f"is {quoted(entry['file'])}, not the name of one of the best checkpoints")


def _check_position(content: Mapping[str, Any]) -> None:
    """Check the position within the epoch."""
    for key in ("epoch", "batches"):
        _check_count(at(content, "DataModule", key), f"DataModule.{key}")


def _check_counts(content: Mapping[str, Any], model: SegmentationModel) -> None:
    """Check the counts of the scores."""
    for phase, pooled in model.pooled.items():
        state = at(content, "pooled", phase)
        for key, tensor in pooled.state_dict().items():
            _check_tensor(at(state, key, within=f"pooled.{phase}"), tensor, f"pooled.{phase}.{key}")


def _check_gradients(content: Mapping[str, Any], model: SegmentationModel, trainer: L.Trainer) -> None:
    """Check the gradients of a step that is accumulated over several batches and isn't complete."""
    progress = at(content, "loops", "fit_loop", "epoch_loop.batch_progress")
    done = at(progress, "current", "ready")
    _check_count(done, "loops.fit_loop.epoch_loop.batch_progress.current.ready")
    between = done % trainer.accumulate_grad_batches != 0 and not at(progress, "is_last_batch")
    if not between and "gradients" not in content:
        return
    parameters = dict(model.named_parameters())
    found = at(content, "gradients")
    check_type(found, dict, "gradients")
    for name, gradient in found.items():
        if name not in parameters:
            raise Wrong("gradients", f"has {quoted(name)}, which isn't a parameter of this network")
        _check_tensor(gradient, parameters[name], f"gradients.{name}")


def _check_average(content: Mapping[str, Any], model: SegmentationModel, force: bool) -> None:
    """Check the average of the weights, where the run takes one."""
    if model.average is None or (force and "ema" not in content):
        return
    updates = at(content, "ema", "updates")
    _check_count(updates, "ema.updates")
    if updates:
        _check_tensors(content, "raw_weights", model.model.state_dict())

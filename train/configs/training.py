"""Sections around the training loop: `trainer`, `logging`, `checkpoint` and `early_stopping`.

Learning rate, schedule and loss are keys of `segmentation_config`: see `train.configs.network`.
"""

import re
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from train.configs.fields import Batches, Index, NonNegative, Positive, Section, SomeBatches, Text, mistake
from train.configs.wording import nearest, shown

METRICS = ("loss", "accuracy", "iou", "dice", "f1", "precision", "recall")


def _whole_model(value: Any) -> Any:
    """Refuse strategies that split the network, with what to use in their place."""
    name = value.lower() if isinstance(value, str) else ""
    if name.startswith(("fsdp", "deepspeed", "xla_fsdp", "model_parallel")):
        raise mistake(
            f"{shown(value)} is not supported: it splits the weights over the devices, but clipping, averages, stages "
            "and checkpoints need the whole network on each (allowed: auto, ddp, ddp_find_unused_parameters_true; "
            "where memory is short: precision bf16-mixed, gradient_checkpointing, or a smaller batch_size with "
            "accumulate_grad_batches)"
        )
    return value


class TrainerConfig(Section):
    """Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Kind of device."""
    devices: Positive | Literal["auto"] | Annotated[list[Index], Field(min_length=1)] = 1
    """Number of devices, a list of their indices, or auto: all."""
    num_nodes: Positive = 1
    """Machines of a cluster."""
    strategy: Annotated[
        Literal["auto", "ddp", "ddp_find_unused_parameters_true"],
        BeforeValidator(_whole_model, json_schema_input_type=Literal["auto", "ddp", "ddp_find_unused_parameters_true"]),
    ] = "auto"
    """Strategy for several devices."""
    sync_batchnorm: bool = False
    """Several devices: batch statistics over all of them."""
    precision: Annotated[
        Literal["32", "32-true", "16-mixed", "bf16-mixed"],
        BeforeValidator(
            lambda value: {"16": "16-mixed", "bf16": "bf16-mixed"}.get(str(value), str(value)),
            json_schema_input_type=Literal["32", "32-true", "16-mixed", "bf16-mixed", "16", "bf16", 32, 16],
        ),
    ] = "32"
    """Arithmetic of the network; the loss is always computed in 32 bits."""
    accumulate_grad_batches: Positive = 1
    """Batches whose gradients make one optimiser step."""
    gradient_clip_val: NonNegative | None = 0.5
    """Largest norm of a gradient; null: no clipping."""
    max_epochs: Positive | None = None
    """Shared key."""
    max_steps: Literal[-1] | Annotated[int, Field(ge=1, le=1_000_000_000)] = -1
    """Stop after this many optimiser steps; -1: no limit."""
    limit_train_batches: SomeBatches = 1.0
    """Use only this share (float) or number (int) of batches."""
    limit_val_batches: Batches = 1.0
    """Like limit_train_batches; scores then cover only this part of the split."""
    limit_test_batches: Batches = 1.0
    """Like limit_train_batches; scores then cover only this part of the split."""
    val_check_interval: SomeBatches = 1.0
    """Validate after this share (float) of an epoch or number (int) of batches."""
    log_every_n_steps: Positive = 10
    """Steps between two values of the training loss in W&B."""
    deterministic: bool = True
    """Use deterministic algorithms; a warning where there is none."""
    benchmark: bool = False
    """Let cuDNN try its algorithms: faster for a fixed size, not repeatable."""
    channels_last: bool = False
    """Use the channels-last memory format, which is faster for convolutions on NVIDIA's tensor cores."""
    compile: bool = False
    """Compile the network (torch.compile): slow to start, then faster; training goes on without it where it fails."""


class LoggingConfig(Section):
    """Run folders and Weights & Biases."""

    project: str = "hakai-ml-train"
    """W&B project, and folder of the runs."""
    name: str | None = None
    """Name of the run; default: that of the config file."""
    entity: Text | None = None
    """W&B team or user; default: that of your key."""
    save_dir: Text = "runs"
    """Folder of all runs."""
    log_model: bool = True
    """Upload the best checkpoint as a W&B artifact."""
    mode: Literal["online", "offline", "disabled"] = "online"
    """online falls back to offline where there is no key or no network."""

    @field_validator("project", "name")
    @classmethod
    def _one_folder(cls, value: str | None) -> str | None:
        if value is not None and not is_file_name(value):
            raise mistake(f"{shown(value)} can't be the name of a folder (allowed: 1 to 200 letters, no slash)")
        return value


def is_file_name(name: str) -> bool:
    """Say whether a folder or file of this name can be made on any system, with room for a time after it."""
    return (
        bool(name.strip())
        and name not in {".", ".."}
        and not re.search(r"[/\\]", name)
        and name.isprintable()
        and len(name.encode()) <= 200
    )


_SPEC = re.compile(r"[<>^=]?[+ -]?0?[0-9]{0,2}(\.[0-9]{1,2})?[a-zA-Z%]?")


def checkpoint_filename(template: str) -> str:
    """Return a checkpoint's name as a format string over `epoch`, `step` and the names of scores.

    The earlier tool's `{val/dice_epoch:.4f}` becomes `{dice:.4f}`: a slash would make a folder of it.
    """
    fields = {"epoch": 1, "step": 1} | dict.fromkeys(METRICS, 0.5)
    named = ""
    try:
        for text, field, spec, conversion in Formatter().parse(template):
            named += text.replace("{", "{{").replace("}", "}}")
            if field is None:
                continue
            name = field.rpartition("/")[2].removesuffix("_epoch")
            if name not in fields:
                raise mistake(f"unknown field {shown('{' + field + '}')} (allowed: {', '.join(fields)})")
            if spec and not _SPEC.fullmatch(spec):
                raise mistake(f"{shown(spec)} is no format of a number (such as .4f, or 03d for epoch and step)")
            named += "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
        name = named.format(**fields)
    except ValueError as error:
        if isinstance(error, PydanticCustomError):
            raise
        raise mistake(f"not a format that Python knows: {error} (such as {{epoch:03d}}-{{dice:.4f}})") from None
    if not is_file_name(name) or name == "last":
        raise mistake(f"{shown(template)} can't be the name of a checkpoint (allowed: no slash, and not `last`)")
    return named


def score_name(value: str) -> str | None:
    """Return the score that a monitor means, without the earlier tool's `_epoch`; None where nothing measures it."""
    phase, _, metric = value.removesuffix("_epoch").partition("/")
    return f"{phase}/{metric}" if phase in {"train", "val"} and metric in METRICS else None


def default_mode(monitor: str) -> Literal["max", "min"]:
    """Return whether the largest or the smallest value of a score is the best."""
    return "min" if monitor.endswith("/loss") else "max"


def _score(value: str) -> str:
    name = score_name(value)
    if name is None:
        near = nearest(value.removesuffix("_epoch"), [f"{p}/{m}" for p in ("val", "train") for m in METRICS])
        allowed = f"val/ or train/ with {', '.join(METRICS)}"
        raise mistake(f"unknown score {shown(value)}{near} (allowed: {allowed})")
    return name


class CheckpointConfig(Section):
    """Which checkpoints are kept."""

    monitor: str = "val/dice"
    """Score that decides: val/ or train/ and loss, accuracy, iou, dice, f1, precision or recall."""
    mode: Literal["max", "min"] | None = None
    """max or min; follows from monitor."""
    save_top_k: Annotated[int, Field(ge=-1, le=1_000_000)] = 1
    """Number of the best that are kept; -1: all."""
    save_last: bool = True
    """Keep last.ckpt as well, from which --resume continues."""
    filename: str = "{epoch:03d}-{dice:.4f}"
    """Name of a checkpoint; may hold {epoch}, {step} and any score of the monitored phase, such as {iou:.3f}."""
    dirpath: str | None = None
    """Key of the earlier tool; accepted, not obeyed: checkpoints are in the run folder."""
    every_n_epochs: Positive = 1
    """Keep the best of every n-th epoch only."""
    save_on_train_epoch_end: bool = False
    """Key of the earlier tool; accepted, not obeyed: checkpoints are written after validation."""
    verbose: bool = False
    """Report each checkpoint that is written."""

    @field_validator("monitor")
    @classmethod
    def _measured(cls, value: str) -> str:
        return _score(value)

    @field_validator("filename")
    @classmethod
    def _template(cls, value: str) -> str:
        return checkpoint_filename(value)


class EarlyStoppingConfig(Section):
    """Stop when nothing improves."""

    monitor: str | None = None
    """Default: checkpoint.monitor."""
    patience: Positive = 10
    """Number of validations without an improvement after which training stops."""
    min_delta: NonNegative = 0.0
    """A smaller change is no improvement."""

    @field_validator("monitor")
    @classmethod
    def _measured(cls, value: str | None) -> str | None:
        return None if value is None else _score(value)

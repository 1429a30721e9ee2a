"""Memory of a training step, estimated from one small step on the CPU."""

import math
import time
from dataclasses import dataclass

import torch

from inference.common.errors import UserError
from train.configs.config import Config
from train.data.datasets import TrainDataset, collate
from train.data.windows import TrainingWindows
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.optim.precision import native_precision

PROBE_SIZE = 256
"""Largest side of the windows in a probe step, pixels."""


@dataclass(frozen=True)
class ProbeStep:
    """Measurements of one training step.

    Attributes:
        loss: Loss of the step.
        seconds: Duration of the step.
        size: Side of its windows, pixels.
        batch: Number of windows.
        activations: Bytes that autograd saves for the backward pass, per window.
    """

    loss: float
    seconds: float
    size: int
    batch: int
    activations: int


class _SavedTensors:
    """Counter of the memory that autograd saves for the backward pass, without the weights.

    Attributes:
        storages: Size in bytes of each storage, by its address; all of them live until the backward pass.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.storages: dict[int, int] = {}
        weights = [*model.parameters(), *model.buffers()]
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._shapes = {weight.shape for weight in weights if weight.ndim > 1}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count a saved tensor; a hook for `torch.autograd.graph.saved_tensors_hooks`."""
        storage = tensor.untyped_storage()
        # Under autocast a layer also saves its weights in 16 bits; they don't grow with the image.
        cast = tensor.dtype == torch.bfloat16 and tensor.shape in self._shapes
        if storage.data_ptr() not in self._weights and not cast:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor


def probe_step(config: Config, data: DataModule, model: SegmentationModel) -> ProbeStep:
    """Take one training step on the CPU with one window of at most 256 pixels a side.

    Where the network normalises over a single pixel, which needs two windows, two are taken.

    Args:
        config: Resolved config.
        data: Prepared data module.
        model: Model. Modified in place; do not reuse.

    Raises:
        UserError: The network can't process the batch, or its loss is not finite.
    """
    size = min(config.tile_size, PROBE_SIZE)
    full = data.train_dataset()
    sizes = [(s.height, s.width) for s in full.scenes]
    small = TrainDataset(full.scenes, full.bands, full.reader, TrainingWindows(sizes, size, config.seed), full.augment)
    precision, _ = native_precision(config.trainer.precision, config.trainer.accelerator)
    model.train()
    for batch in (1, 2):
        samples = [small[(0, i % len(small.windows))] for i in range(batch)]
        saved = _SavedTensors(model)
        started = time.monotonic()
        try:
            with (
                torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, enabled=precision.endswith("mixed")),
            ):
                content = collate(samples)
                logits = model(model.normalize(content["image"]))
                loss = model.loss(logits, content["label"])
            loss.backward()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            if batch == 1 and (config.batch_size == "auto" or config.batch > 1):
                continue  # the network pools to one pixel, and one value has no variance
            raise UserError(
                "batch_size: this network normalises over a single pixel, which needs batches of 2 or more"
            ) from None
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"segmentation_config.loss: the loss of the first step is {value}, not a finite number")
        torch.optim.AdamW([p for p in model.parameters() if p.grad is not None], lr=1e-6).step()
        return ProbeStep(value, time.monotonic() - started, size, batch, sum(saved.storages.values()) // batch)
    raise AssertionError("unreachable")


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return the number of parameters, and how many of them are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def estimate_memory(config: Config, model: torch.nn.Module, step: ProbeStep, batch: int) -> float:
    """Estimate the memory of training on a device, in bytes.

    Args:
        config: Resolved config.
        model: Model.
        step: Measurements of a small step; activations are scaled to the tile size by the number of pixels.
        batch: Batch size.
    """
    total, trained = count_parameters(model)
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    # Weights; for those that are trained also a gradient and AdamW's two moments: all float32.
    fixed = 4 * total + 12 * trained + buffers
    return fixed + step.activations * (config.tile_size / step.size) ** 2 * batch

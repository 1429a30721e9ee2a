"""What a training step needs: taken once, small, on the CPU, and from there estimated."""

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

STEP_SIZE = 256


@dataclass(frozen=True)
class Step:
    """What one training step told.

    Attributes:
        loss: Of the step.
        seconds: It took.
        size: Side of its windows, pixels.
        batch: Windows in it.
        activations: Bytes that the backward pass keeps, for one window of that size.
    """

    loss: float
    seconds: float
    size: int
    batch: int
    activations: int


class _Kept:
    """The memory that a backward pass keeps for its images: each storage once, and no weights.

    Attributes:
        storages: Bytes of each, by its address; all of them live until the pass is over.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.storages: dict[int, int] = {}
        weights = [*model.parameters(), *model.buffers()]
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._shapes = {weight.shape for weight in weights if weight.ndim > 1}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Counts a tensor that is kept; autograd's hook."""
        storage = tensor.untyped_storage()
        # Under autocast a layer keeps its weights too, in 16 bits: they don't grow with the image.
        cast = tensor.dtype == torch.bfloat16 and tensor.shape in self._shapes
        if storage.data_ptr() not in self._weights and not cast:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor


def one_step(config: Config, data: DataModule, model: SegmentationModel) -> Step:
    """Takes one training step at batch 1 and at most 256 pixels, on the CPU.

    Raises:
        UserError: The network can't take it, or its loss is no number.
    """
    size = min(config.tile_size, STEP_SIZE)
    full = data.train_dataset()
    sizes = [(s.height, s.width) for s in full.scenes]
    small = TrainDataset(full.scenes, full.bands, full.reader, TrainingWindows(sizes, size, config.seed), full.augment)
    precision, _ = native_precision(config.trainer.precision, config.trainer.accelerator)
    model.train()
    for batch in (1, 2):
        samples = [small[(0, i % len(small.windows))] for i in range(batch)]
        kept = _Kept(model)
        began = time.monotonic()
        try:
            with (
                torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor),
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
                continue  # it pools to one pixel, of which a batch of one has no variance
            raise UserError(
                "batch_size: this network normalises over a single pixel, which needs batches of 2 or more"
            ) from None
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"segmentation_config.loss: the first step's loss is {value}, no finite number")
        torch.optim.AdamW([p for p in model.parameters() if p.grad is not None], lr=1e-6).step()
        return Step(value, time.monotonic() - began, size, batch, sum(kept.storages.values()) // batch)
    raise AssertionError("unreachable")


def parameters(model: torch.nn.Module) -> tuple[int, int]:
    """How many numbers a model consists of, and how many of them are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def memory(config: Config, model: torch.nn.Module, step: Step, batch: int) -> float:
    """Bytes that training takes on a device with a batch, estimated: activations grow with the number of pixels."""
    total, trained = parameters(model)
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    # Weights; for those that are trained also a gradient and AdamW's two moments: all float32.
    fixed = 4 * total + 12 * trained + buffers
    return fixed + step.activations * (config.tile_size / step.size) ** 2 * batch

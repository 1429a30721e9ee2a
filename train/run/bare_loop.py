"""Training steps outside of a run, to find something out: nothing of them is kept."""

from typing import Any, cast

import lightning as L
import torch

from train.configs.config import Config
from train.model import SegmentationModel
from train.optim.gradient_checkpointing import checkpoint_blocks
from train.optim.precision import native_precision
from train.optim.schedules import parameter_groups
from train.run.callbacks import say


class Trial:
    """A model, its loss and its optimiser on a device, as a run has them; averages and compilation are left out.

    Args:
        config: Says what is trained, how, and on which kind of device; one device is used.
        model: Is worthless afterwards.

    Attributes:
        device: Where it is trained.
        optimizer: Its groups have their rates as `parameter_groups` gives them.
    """

    def __init__(self, config: Config, model: SegmentationModel) -> None:
        settings, trainer = config.segmentation_config, config.trainer
        precision, notice = native_precision(trainer.precision, trainer.accelerator)
        if notice:
            say(f"note: {notice}")
        self._fabric = L.Fabric(accelerator=trainer.accelerator, devices=1, precision=cast(Any, precision))
        self._clip = trainer.gradient_clip_val
        self._model = model
        groups = parameter_groups(model.model, settings.lr, settings.weight_decay, settings.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        if settings.gradient_checkpointing:
            checkpoint_blocks(cast(Any, model.model.encoder))
        if trainer.channels_last:
            model.model.to(memory_format=torch.channels_last)
        self._module, self._wrapped = self._fabric.setup(model, self.optimizer)
        self._module.train()
        self.device = self._fabric.device

    def backward(self, batch: dict[str, torch.Tensor], share: float = 1.0) -> float:
        """Adds to the gradients.

        Args:
            batch: `image` (N, bands, H, W), units of the file, and `label` (N, H, W), on any device.
            share: Factor of the loss, where several batches make a step.

        Returns:
            The loss, times its share.
        """
        image, label = batch["image"].to(self.device), batch["label"].to(self.device)
        loss = self._model.loss(self._module(self._model.normalize(image)), label) * share
        self._fabric.backward(loss)
        return float(loss.detach())

    def step(self) -> None:
        """Takes a step of the optimiser, gradients clipped as in a run, and forgets the gradients."""
        if self._clip:
            self._fabric.clip_gradients(self._module, self._wrapped, max_norm=self._clip, error_if_nonfinite=False)
        self._wrapped.step()
        self.forget()

    def forget(self) -> None:
        """Frees the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

"""Training steps outside a run, for measurements: nothing of them is kept."""

from typing import Any, cast

import lightning as L
import torch

from train.configs.config import Config
from train.model import SegmentationModel
from train.optim.adamw import adamw
from train.optim.gradient_checkpointing import checkpoint_blocks
from train.optim.parameter_groups import parameter_groups
from train.optim.precision import native_precision
from train.run.progress import print_message
from train.run.trainer import trainer_devices


class ManualLoop:
    """Model, loss and optimiser on one device, stepped by hand; as in a run, without weight averaging and compilation.

    Args:
        config: Resolved config.
        model: Model to train. Modified in place; do not reuse.

    Attributes:
        device: Device of the model.
        optimizer: AdamW; its groups have the learning rates that `parameter_groups` returns.
    """

    def __init__(self, config: Config, model: SegmentationModel) -> None:
        settings, trainer = config.segmentation_config, config.trainer
        precision, notice = native_precision(trainer.precision, trainer.accelerator)
        if notice:
            print_message(f"note: {notice}")
        gpu = trainer_devices(config).gpu
        devices = 1 if gpu is None else [gpu]
        self._fabric = L.Fabric(accelerator=trainer.accelerator, devices=devices, precision=cast(Any, precision))
        self._clip = trainer.gradient_clip_val
        self._model = model
        groups = parameter_groups(model.model, settings.lr, settings.weight_decay, settings.layer_decay)
        self.optimizer = adamw(groups, settings.lr)
        if settings.gradient_checkpointing:
            checkpoint_blocks(cast(Any, model.model.encoder))
        if trainer.channels_last:
            model.model.to(memory_format=torch.channels_last)
        self._fabric_model, self._fabric_optimizer = self._fabric.setup(model, self.optimizer)
        self._fabric_model.train()
        self.device = self._fabric.device

    def backward(self, batch: dict[str, torch.Tensor], factor: float = 1.0) -> float:
        """Compute the loss of a batch and accumulate its gradients.

        Args:
            batch: `image` (N, bands, H, W), in units of the file, and `label` (N, H, W), on any device.
            factor: Factor of the loss, for gradient accumulation.

        Returns:
            The loss times the factor.
        """
        image, label = batch["image"].to(self.device), batch["label"].to(self.device)
        loss = self._model.loss(self._fabric_model(self._model.normalize(image)), label) * factor
        self._fabric.backward(loss)
        return float(loss.detach())

    def step(self) -> None:
        """Take an optimiser step with the gradients clipped as in a run, then clear the gradients."""
        if self._clip:
            self._fabric.clip_gradients(
                self._fabric_model, self._fabric_optimizer, max_norm=self._clip, error_if_nonfinite=False
            )
        self._fabric_optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Clear the gradients and free their memory."""
        self.optimizer.zero_grad(set_to_none=True)

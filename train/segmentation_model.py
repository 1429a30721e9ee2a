"""LightningModule that all families of networks share: loss, scores, optimiser, averaged weights, checkpoints.

The network itself is `.model`, and takes normalised images; what a batch holds is normalised here, on the device.
"""

from collections.abc import Mapping
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from inference.card import ModelCard
from train.configs.config import Config
from train.losses import build_loss
from train.metrics import PooledConfusion, scores
from train.optim.adamw import adamw
from train.optim.parameter_groups import parameter_groups
from train.optim.schedules import hold_from_epoch, learning_rate, restart_per_stage
from train.optim.unfreezing import UnfreezingStage, set_trainable, stage_at
from train.optim.weight_averaging import WeightAverage

PHASES = ("train", "val", "test")


class SegmentationModel(L.LightningModule):
    """Semantic segmentation of GeoTIFFs: base class of the families of networks.

    Its hyper-parameters are plain data, so that `load_from_checkpoint` needs neither the YAML nor the network.

    Args:
        config: A resolved config as plain data (`Config.plain`).
        card: A model card as plain data: how pixels are normalised and what the classes are called.
        pretrained: True to start the encoder from the weights that the config names; False when a checkpoint is
            loaded, so that nothing is downloaded for weights that are replaced at once.
    """

    def __init__(self, config: Mapping[str, Any], card: Mapping[str, Any], pretrained: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters({"config": dict(config), "card": dict(card)})
        self.config = Config.model_validate(dict(config))
        self.card = ModelCard.model_validate(dict(card))
        settings = self.config.segmentation_config
        self.model = self.build(self.config, settings.opts.encoder_weights if pretrained else None)
        self.stages = [UnfreezingStage(s.epoch, s.unfreeze, s.lr or settings.lr) for s in settings.finetune or []]
        self.frozen: list[nn.Module] = []
        if settings.freeze_encoder or self.stages:
            unfreeze = self.stages[0].unfreeze if self.stages else "decoder"
            self.frozen = set_trainable(cast(nn.Module, self.model.encoder), unfreeze)
        self.average = None
        if settings.ema is not None or settings.swa is not None:
            self.average = WeightAverage(None if settings.ema is None else settings.ema.decay)
        self._averaged_step = 0
        self.loss = build_loss(
            self.config.loss_terms, num_classes=self.config.num_classes, ignore_index=self.config.ignore_index
        )
        # (pixel / max - mean) / std as one multiplication and one addition.
        std, mean = torch.tensor(self.card.std, dtype=torch.float64), torch.tensor(self.card.mean, dtype=torch.float64)
        scale, shift = 1 / (std * self.card.divisor(self.card.dtype)), -mean / std
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1), persistent=False)
        self.pooled = {
            phase: PooledConfusion(self.config.num_classes, ignore_index=self.config.ignore_index) for phase in PHASES
        }
        self._gradients: dict[str, Tensor] = {}
        self._published = False

    @staticmethod
    def build(config: Config, weights: str | bool | None) -> nn.Module:
        """Build the network: normalised (N, bands, H, W) to logits (N, channels, H, W)."""
        raise TypeError("SegmentationModel has no network of its own: use one of its families")

    def normalize(self, image: Tensor) -> Tensor:
        """Normalise pixels in units of the file, (N, bands, H, W) of any dtype, to float32."""
        return image.float() * cast(Tensor, self.scale) + cast(Tensor, self.shift)

    @staticmethod
    def run_network(network: nn.Module, image: Tensor) -> Tensor:
        """Run a network on normalised (N, bands, H, W) of any size; return logits (N, channels, H, W) of the same size.

        What a family does around its network, apart from Lightning, so that both can be exported together.
        """
        logits: Tensor = network(image)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, channels, H, W) for normalised (N, bands, H, W) of any size."""
        return self.run_network(self.model, image)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, a scalar."""
        loss = self._step("train", batch)
        if self.trainer.progress_bar_callback is not None:  # the only reader; logging takes a millisecond or two
            self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Count a batch of the val split."""
        self._step("val", batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Count a batch of the test split."""
        self._step("test", batch)

    def _step(self, phase: str, batch: dict[str, Tensor]) -> Tensor:
        logits = self(self.normalize(batch["image"]))
        loss: Tensor = self.loss(logits, batch["label"])
        pooled = self.pooled[phase]
        pooled.update_from_logits(logits.detach(), batch["label"], threshold=self.card.threshold)
        pooled.update_loss(loss.detach(), (batch["label"] != self.config.ignore_index).sum())
        return loss

    def predict_classes(self, image: Tensor) -> Tensor:
        """Return class indices (N, H, W), int64, for pixels in units of the file, (N, bands, H, W)."""
        logits: Tensor = self(self.normalize(image))
        if logits.shape[1] == 1:
            return (logits[:, 0].sigmoid() > self.card.threshold).long()
        return logits.argmax(dim=1)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and the like by (seed, epoch, batch, rank), so that a resumed run repeats them."""
        entropy = [self.config.seed, 2, self.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        if self.device.type == "cpu":  # seeding the absent devices, too, takes PyTorch two milliseconds
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def on_train_start(self) -> None:
        """Restore gradients that a checkpoint holds from between two optimiser steps."""
        for name, parameter in self.named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter.device)
        self._gradients = {}
        self._averaged_step = self.trainer.global_step
        self._enter_stage()

    def on_train_epoch_start(self) -> None:
        """Reset the counts, and freeze what this epoch's stage doesn't train."""
        self.pooled["train"].reset()
        self._published = False
        self._enter_stage()

    def _enter_stage(self) -> None:
        if self.stages:
            stage = self.stages[stage_at(self.stages, self.current_epoch)]
            self.frozen = set_trainable(cast(nn.Module, self.model.encoder), stage.unfreeze)
            self.train()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the average of the weights, where it is due."""
        self._take_average()

    def _take_average(self) -> None:
        """Add the last optimiser step to the average, once; callbacks may save before Lightning calls this module.

        The exponential average takes every step in, the plain mean the last one of each epoch.
        """
        settings = self.config.segmentation_config
        recipe = settings.ema or settings.swa
        if self.average is None or recipe is None or self.current_epoch < cast(int, recipe.start_epoch):
            return
        due = settings.swa is None or self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if due and self.trainer.global_step > self._averaged_step:
            self.average.update(self.model)
            self._averaged_step = self.trainer.global_step

    def on_validation_epoch_start(self) -> None:
        """Reset the counts; validate the averaged weights, where there are any yet."""
        self.pooled["val"].reset()
        if self.average is not None and self.trainer.state.fn == "fit":
            self.average.swap(self.model)

    def on_test_epoch_start(self) -> None:
        """Reset the counts."""
        self.pooled["test"].reset()

    def on_train_epoch_end(self) -> None:
        """Publish the scores of the epoch, if no callback has asked for them yet."""
        if not self._published:
            self.publish("train")

    def on_validation_epoch_end(self) -> None:
        """Publish the scores of the val split."""
        self.publish("val")
        if self.average is not None and self.average.in_place:
            self.average.swap(self.model)

    def on_fit_end(self) -> None:
        """Leave the averaged weights in the network."""
        if self.average is not None and not self.average.in_place:
            self.average.swap(self.model)

    def on_test_epoch_end(self) -> None:
        """Publish the scores of the test split."""
        self.publish("test")

    def publish(self, phase: str) -> None:
        """Log the scores of the counts to Lightning.

        Callbacks are called before the module, so the first of them that needs an epoch's training scores asks here.
        """
        self._published = phase == "train"
        pooled = self.pooled[phase].reduce()
        values = {"loss": pooled.loss} | scores(
            pooled.confusion, self.card.class_names, target_only=self.config.num_classes == 1
        )
        # Every device has the same numbers by now, and W&B gets them with the table of metrics.
        self.log_dict({f"{phase}/{name}": value for name, value in values.items()}, logger=False, sync_dist=False)

    def train(self, mode: bool = True) -> "SegmentationModel":
        """Set training mode, but leave frozen modules in evaluation mode; called by Lightning before each epoch."""
        super().train(mode)
        if mode:
            for module in self.frozen:
                module.eval()
        return self

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and its schedule."""
        settings = self.config.segmentation_config
        groups = parameter_groups(self.model, settings.lr, settings.weight_decay, settings.layer_decay)
        optimizer = adamw(groups, settings.lr)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        factor = learning_rate(settings.lr_scheduler, settings.warmup_period)
        if self.stages:
            factor = restart_per_stage(factor, self.stages, settings.lr, self.config.max_epoch)
        if settings.swa is not None:
            share = None if settings.swa.lr is None else settings.swa.lr / settings.lr
            factor = hold_from_epoch(factor, cast(int, settings.swa.start_epoch), share, self.config.max_epoch)
        # A closure: LambdaLR would save an object's state and so bring back the old total when a run is prolonged.
        scheduler = LambdaLR(optimizer, lambda step: factor(min(1.0, step / total)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def prepare_for_several_devices(self) -> None:
        """Set which parameters distributed training is to expect gradients of; call it before the model is wrapped.

        DDP adds up the gradients of those parameters only that are trainable when it wraps a model. With stages, each
        parameter may become so; the first stage freezes again what it doesn't train.
        """
        if self.stages:
            self.requires_grad_(True)
        else:
            self._freeze_unreached()

    def _freeze_unreached(self) -> None:
        """Freeze parameters that no gradient reaches, such as the stages behind the last feature that is used.

        Distributed training waits for the gradient of every parameter that is not frozen.
        """
        size = min(self.config.tile_size, 256)
        wanted = [p for p in self.model.parameters() if p.requires_grad]
        training = self.training
        self.eval()
        logits = self(torch.zeros(1, self.config.num_bands, size, size))
        reached = torch.autograd.grad(logits.sum(), wanted, allow_unused=True)
        self.train(training)
        for parameter, gradient in zip(wanted, reached, strict=True):
            parameter.requires_grad_(gradient is not None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add this epoch's counts, and gradients between two steps, so that a resumed run continues exactly."""
        checkpoint["pooled"] = {phase: pooled.reduce().state_dict() for phase, pooled in self.pooled.items()}
        scored = {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")}
        # Callbacks come first: theirs are the notes of the card.
        checkpoint["hyper_parameters"]["card"] = {**checkpoint["hyper_parameters"]["card"], "scores": scored}
        if self.average is not None:
            self._take_average()
            self.average.save(checkpoint, self.model, "model.")
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        between = progress.current.ready % self.trainer.accumulate_grad_batches != 0 and not progress.is_last_batch
        if between:
            # Until the last batch of a step each device has gradients of its own; their mean makes the same step.
            checkpoint["gradients"] = {
                name: self.trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean").cpu()
                for name, parameter in self.named_parameters()
                if parameter.grad is not None
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` added."""
        self._gradients = dict(checkpoint.get("gradients", {}))
        if self.average is not None and self._trainer is not None and self.trainer.state.fn == "fit":
            self.average.load(checkpoint, "model.", self.device)
        if self.global_rank == 0:  # they are the counts of all devices
            for phase, state in checkpoint.get("pooled", {}).items():
                self.pooled[phase].load_state_dict(state)

"""The schema of a training YAML. Together with the modules of its sections this is the only place that knows its keys.

Each section is a Pydantic model; the text below a field is its documentation (and its description in the JSON Schema
that `python -m train --schema` prints). The models check one key at a time; what two keys say together is checked in
`train/configs/rules/data.py`, and `train/configs/loader.py` turns every problem into FILE:LINE:COL.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from train.configs import tables
from train.configs.data import DataModuleConfig
from train.configs.fields import BatchSize, Classes, Positive, Section, Seed, TileSize
from train.configs.network import SegmentationConfig
from train.configs.training import CheckpointConfig, EarlyStoppingConfig, LoggingConfig, TrainerConfig

__all__ = [
    "SHARED",
    "CheckpointConfig",
    "Config",
    "DataModuleConfig",
    "EarlyStoppingConfig",
    "LoggingConfig",
    "SegmentationConfig",
    "TrainerConfig",
]

# Keys that the earlier tool's files repeat: the top level's name of each, and the sections' copies.
SHARED: dict[str, tuple[tuple[str, str], ...]] = {
    "num_bands": (("segmentation_config", "num_bands"), ("data_module", "num_bands")),
    "num_classes": (("segmentation_config", "num_classes"), ("data_module", "num_classes")),
    "tile_size": (("segmentation_config", "tile_size"), ("data_module", "tile_size")),
    "batch_size": (("segmentation_config", "batch_size"), ("data_module", "batch_size")),
    "max_epoch": (("segmentation_config", "max_epochs"), ("trainer", "max_epochs")),
    "seed": (("data_module", "seed"),),
}


class Config(Section):
    """A training run."""

    segmentation_model_cls: Literal["SMPSegmentationModel", "DINOv2Segmentation", "AerialFormer"] = (
        "SMPSegmentationModel"
    )
    """Family of networks."""
    enable_logging: bool = False
    """Log to Weights & Biases; false: the run folder only."""
    tags: list[str] | None = None
    """W&B tags."""
    extra_transforms: list[Literal["species_label_transform"]] | None = None
    """species_label_transform: labels 0 become 2 (ignored), 1 become 0 and 2 become 1."""
    seed: Seed = 42
    """Shared key: everything random follows from it."""
    num_bands: Positive = 3
    """Shared key: bands that the network sees."""
    num_classes: Classes = 1
    """Shared key: 1 is background and one target (sigmoid); 2 and more are classes (softmax)."""
    tile_size: TileSize = 1024
    """Shared key: side of a training window, pixels."""
    batch_size: BatchSize = 4
    """Shared key: windows in a batch, each device; auto: what fits."""
    max_epoch: Positive = tables.MAX_EPOCH
    """Shared key: epochs."""
    segmentation_config: SegmentationConfig = Field(default_factory=SegmentationConfig)
    """The network."""
    data_module: DataModuleConfig
    """The data."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    """The training loop."""
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    """Where it is written down."""
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """What is kept."""
    early_stopping: EarlyStoppingConfig | None = None
    """When to give up."""

    @model_validator(mode="after")
    def _follow(self) -> Self:
        """Fills what follows from other keys, so that the resolved config says everything."""
        for top, copies in SHARED.items():
            for section, key in copies:
                setattr(getattr(self, section), key, getattr(self, top))
        network = self.segmentation_config
        if network.ignore_index is None:
            network.ignore_index = tables.default_ignore_index(self.num_classes)
        network.task = "binary" if self.num_classes == 1 else "multiclass"
        if self.segmentation_model_cls == "SMPSegmentationModel":
            network.architecture = tables.match_architecture(network.architecture or "UnetPlusPlus")
            network.backbone = tables.resolve_backbone(network.backbone or "resnet34")[0]
        elif self.segmentation_model_cls == "AerialFormer":
            network.architecture = tables.match_aerialformer(network.architecture or "AerialFormer")
            network.backbone = "na"
        else:
            network.architecture = tables.match_dinov2_decoder(network.architecture or "multilevel")
            network.backbone = tables.resolve_dinov2(network.backbone or "dinov2_s")
        if network.freeze_encoder is None:
            network.freeze_encoder = self.segmentation_model_cls == "DINOv2Segmentation" and not network.finetune
        if network.swa is not None and network.swa.start_epoch is None:
            stage = network.finetune[-1].epoch if network.finetune else 0
            network.swa.start_epoch = tables.default_swa_start(stage, self.max_epoch)
        if self.checkpoint.mode is None:
            self.checkpoint.mode = "min" if self.checkpoint.monitor.endswith("/loss") else "max"
        data = self.data_module
        if self.extra_transforms:
            data.label_map = dict(tables.SPECIES_LABEL_TRANSFORM)
            if data.background_index is None and self.num_classes > 1:
                data.background_index = "none"  # class 0 is a species
        return self

    @property
    def batch(self) -> int:
        """Windows in a batch; `auto` must have been settled (`recipes.batch_size`)."""
        if self.batch_size == "auto":
            raise RuntimeError("batch_size: auto has not been settled")
        return self.batch_size

    @property
    def ignore_index(self) -> int:
        """Label value that counts nowhere."""
        assert self.segmentation_config.ignore_index is not None
        return self.segmentation_config.ignore_index

    @property
    def labels(self) -> int:
        """How many classes a label may hold: a binary model has background and target."""
        return max(2, self.num_classes)

    @property
    def background_index(self) -> int | None:
        """Index of the background class; None if there is none."""
        index = self.data_module.background_index
        if index == "none":
            return None
        return 0 if index is None else index

    @property
    def class_names(self) -> list[str]:
        """Name of each class."""
        given = self.data_module.class_names
        if given is not None:
            return list(given)
        if self.num_classes == 1:
            return ["background", "target"]
        return ["background" if i == self.background_index else f"class_{i}" for i in range(self.num_classes)]

    @property
    def loss_terms(self) -> list[dict[str, Any]]:
        """The loss as plain data: one `{name, weight, opts}` for each term of the sum."""
        loss = self.segmentation_config.loss
        terms = [term.model_dump(exclude_none=True) for term in (loss if isinstance(loss, list) else [loss])]
        for term in terms:
            # Repeated there for old files' sake; the losses are told by segmentation_config's.
            for opts in (found := term.get("opts", {}), found.get("focal_kwargs", {}), found.get("dice_kwargs", {})):
                opts.pop("ignore_index", None)
                # Training puts numbers in its place (`recipes.class_weights`); elsewhere no loss is computed.
                if opts.get("class_weights") == "auto":
                    del opts["class_weights"]
        return terms

    def plain(self) -> dict[str, Any]:
        """Plain data that reads back as this config: no other types than a checkpoint may hold."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    """A model without what was left out: a null is written down where it differs from the default."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        content = {name: getattr(value, name) for name in fields}
        return {
            name: _plain(item)
            for name, item in content.items()
            if item is not None or fields[name].get_default(call_default_factory=True) is not None
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value

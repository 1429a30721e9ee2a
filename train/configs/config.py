"""Schema of a training YAML. With the modules of its sections it is the only place that defines keys and defaults.

Each section is a Pydantic model; the text below a field is its documentation (and its description in the JSON Schema
that `python -m train --schema` prints). The models check one key at a time; `train/configs/rules/` checks several keys
together, `train/configs/registries/` has the names, and `train/configs/loader.py` reports every problem as
FILE:LINE:COL.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from train.configs.data import SPECIES_LABEL_TRANSFORM, DataModuleConfig
from train.configs.fields import BatchSize, Classes, Positive, Section, Seed, TileSize, mistake
from train.configs.network import SegmentationConfig, default_ignore_index, default_swa_start
from train.configs.registries import families
from train.configs.registries.families import FAMILIES
from train.configs.training import CheckpointConfig, EarlyStoppingConfig, LoggingConfig, TrainerConfig, default_mode
from train.configs.wording import nearest, shown

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

# Keys that files of the earlier tool repeat: name at the top level, and the copies in sections.
SHARED: dict[str, tuple[tuple[str, str], ...]] = {
    "num_bands": (("segmentation_config", "num_bands"), ("data_module", "num_bands")),
    "num_classes": (("segmentation_config", "num_classes"), ("data_module", "num_classes")),
    "tile_size": (("segmentation_config", "tile_size"), ("data_module", "tile_size")),
    "batch_size": (("segmentation_config", "batch_size"), ("data_module", "batch_size")),
    "max_epoch": (("segmentation_config", "max_epochs"), ("trainer", "max_epochs")),
    "seed": (("data_module", "seed"),),
}


if TYPE_CHECKING:
    FamilyName = str
else:
    FamilyName = Literal[*FAMILIES]


def _family(value: Any) -> Any:
    if isinstance(value, str) and value not in FAMILIES:
        home = families.family_of(value)
        hint = f"{nearest(value, FAMILIES)} (allowed: {', '.join(FAMILIES)})"
        if home is not None:
            architecture = home.match(value)
            hint = (
                f" (that is an architecture: write segmentation_model_cls: {home.name}, architecture: {architecture})"
            )
        raise mistake(f"unknown class {shown(value)}{hint}")
    return value


class Config(Section):
    """A training run."""

    segmentation_model_cls: Annotated[FamilyName, BeforeValidator(_family)] = families.DEFAULT
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
    max_epoch: Positive = 100
    """Shared key: epochs."""
    segmentation_config: SegmentationConfig = Field(default_factory=SegmentationConfig)
    """The network."""
    data_module: DataModuleConfig
    """The data."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    """The training loop."""
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    """Run folders and Weights & Biases."""
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """Checkpoints."""
    early_stopping: EarlyStoppingConfig | None = None
    """Early stopping."""

    @model_validator(mode="after")
    def _follow(self) -> Self:
        """Set what follows from other keys, so that the resolved config is complete."""
        for top, copies in SHARED.items():
            for section, key in copies:
                setattr(getattr(self, section), key, getattr(self, top))
        network = self.segmentation_config
        if network.ignore_index is None:
            network.ignore_index = default_ignore_index(self.num_classes)
        network.task = "binary" if self.num_classes == 1 else "multiclass"
        family = FAMILIES[self.segmentation_model_cls]
        network.architecture = family.match(network.architecture)
        network.backbone = "na" if family.backbones is None else family.resolve(network.backbone)
        if network.freeze_encoder is None:
            network.freeze_encoder = family.freezes and not network.finetune
        if network.swa is not None and network.swa.start_epoch is None:
            stage = network.finetune[-1].epoch if network.finetune else 0
            network.swa.start_epoch = default_swa_start(stage, self.max_epoch)
        if self.checkpoint.mode is None:
            self.checkpoint.mode = default_mode(self.checkpoint.monitor)
        data = self.data_module
        if self.extra_transforms:
            data.label_map = dict(SPECIES_LABEL_TRANSFORM)
            if data.background_index is None and self.num_classes > 1:
                data.background_index = "none"  # class 0 is a species
        return self

    @property
    def batch(self) -> int:
        """Windows in a batch; `auto` must have been replaced (`train/run/auto_batch.py`)."""
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
        """Number of classes that a label may hold: a binary model has background and target."""
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
        """Loss as plain data: one `{name, weight, opts}` for each term of the sum."""
        terms = [term.model_copy(deep=True) for term in self.segmentation_config.terms]
        for term in terms:
            for opts in term.options:
                # Old files repeat it there; the losses get that of segmentation_config.
                opts.ignore_index = None
                # Training puts numbers in its place (`train/data/class_weights.py`); elsewhere no loss is computed.
                if opts.class_weights == "auto":
                    opts.class_weights = None
        return [term.model_dump(exclude_none=True) for term in terms]

    def plain(self) -> dict[str, Any]:
        """Return plain data that reads back as this config, of types that a checkpoint may hold."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    """Return a model as plain data without its nulls, but for those that differ from the default."""
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

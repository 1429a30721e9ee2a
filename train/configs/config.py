"""The schema of a training YAML: the only place that knows its keys.

Each section is a Pydantic model; the text below a field is its documentation (and its description in the JSON Schema
that `python -m train --schema` prints). `Config` here checks one key at a time; what two keys say together is checked in
`train/configs/contradictions.py`, and `train/configs/loader.py` turns every problem into FILE:LINE:COL.
"""

from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from train.configs import tables


def mistake(message: str) -> PydanticCustomError:
    """A problem with a value, in words of our own (Pydantic would take braces in a message for its own)."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


class Section(BaseModel):
    """A mapping of the YAML: no key it doesn't know, no value silently converted."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=False, use_attribute_docstrings=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
# 1.0 is all batches, 1 is one batch: the type carries the meaning, as in Lightning.
Batches = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]


class LossOpts(Section):
    """Options of a loss; which loss takes which, and what they mean: README, "Losses"."""

    mode: Literal["binary", "multiclass"] | None = None
    """Follows from num_classes; may be repeated here."""
    from_logits: bool | None = None
    """Our networks end in logits: only true is right."""
    smooth: Annotated[float, Field(ge=0)] | None = None
    """Added to numerator and denominator of an overlap (Dice, Jaccard, Tversky, FocalTversky)."""
    eps: Annotated[float, Field(gt=0)] | None = None
    """Keeps a denominator off zero (Dice, Jaccard, Tversky, MCC)."""
    log_loss: bool | None = None
    """-log(overlap) in place of 1 - overlap (Dice, Jaccard, Tversky)."""
    classes: list[Annotated[int, Field(ge=0)]] | None = None
    """Only these classes enter the mean (multiclass)."""
    class_weights: list[Annotated[float, Field(ge=0)]] | None = None
    """A weight for each class; for a binary BCE or CE: of background and target."""
    alpha: float | None = None
    """Tversky: weight of false positives. Focal: weight of the target class. FocalDiceCombo: share of Focal."""
    beta: Annotated[float, Field(ge=0)] | None = None
    """Tversky: weight of false negatives."""
    gamma: Annotated[float, Field(ge=0)] | None = None
    """Exponent that turns attention to what is hard (Focal, Tversky, FocalTversky)."""
    delta: Fraction | None = None
    """FocalTversky: weight of false negatives; false positives weigh 1 - delta."""
    reduction: Literal["mean", "sum"] | None = None
    """Focal: how pixels are put together."""
    normalized: bool | None = None
    """Focal: divide by the sum of the focal weights."""
    reduced_threshold: Fraction | None = None
    """Focal: below this probability of the true class a pixel keeps its full weight."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """BCE, CE: share of the label that is spread over all classes."""
    pos_weight: Annotated[float, Field(gt=0)] | None = None
    """BCE: weight of target pixels."""
    per_image: bool | None = None
    """Lovász: one loss an image, then their mean, in place of one for the batch."""
    focal_kwargs: "LossOpts | None" = None
    """FocalDiceCombo: options of its Focal."""
    dice_kwargs: "LossOpts | None" = None
    """FocalDiceCombo: options of its Dice."""

    @field_validator("from_logits")
    @classmethod
    def _logits(cls, value: bool | None) -> bool | None:
        if value is False:
            raise mistake("our networks end in logits: from_logits can only be true (or be left out)")
        return value


class LossConfig(Section):
    """One loss, or one term of a weighted sum of losses."""

    name: str
    """DiceLoss, JaccardLoss, TverskyLoss, FocalTverskyLoss, LovaszLoss, FocalLoss, BCELoss, CELoss, MCCLoss or FocalDiceComboLoss; any case, with or without Loss."""  # noqa: E501
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor of this term in the sum."""
    opts: LossOpts | None = None
    """Options of this loss."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        canonical = tables.match_loss(name)
        if canonical is None:
            near = tables.nearest(name, [*tables.LOSSES, *(known.removesuffix("Loss") for known in tables.LOSSES)])
            raise mistake(f"unknown loss {name!r}{near} (allowed: {', '.join(tables.LOSSES)})")
        return canonical

    @field_validator("opts")
    @classmethod
    def _fitting(cls, opts: LossOpts | None, info: ValidationInfo) -> LossOpts | None:
        name = info.data.get("name")
        if opts is not None and name is not None:
            _loss_takes(name, opts)
            for part, of in (("focal_kwargs", "FocalLoss"), ("dice_kwargs", "DiceLoss")):
                if getattr(opts, part) is not None:
                    _loss_takes(of, getattr(opts, part), f"{part}.")
        return opts


def _loss_takes(name: str, opts: LossOpts, prefix: str = "") -> None:
    foreign = sorted(set(opts.model_dump(exclude_none=True)) - tables.LOSSES[name])
    if foreign:
        takes = ", ".join(sorted(tables.LOSSES[name]))
        raise mistake(f"{name} has no option {', '.join(repr(prefix + key) for key in foreign)} (it takes: {takes})")


class ModelOpts(Section):
    """Options of a network; which architecture takes which: README, "Networks"."""

    encoder_weights: str | bool | None = "imagenet"
    """imagenet or true: pretrained (from the cache or the hub); null or false: random; or the path of a local file."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)] | None = None
    """Stages of the encoder that are used."""
    encoder_output_stride: Literal[8, 16, 32] | None = None
    """DeepLabV3, DeepLabV3Plus, PAN: input size over size of the deepest features."""
    encoder_indices: list[int] | None = None
    """ViT encoders: the blocks whose features are used."""
    encoder_output_indices: list[int] | None = None
    """DPT: the blocks whose features are used."""
    encoder_params: dict[str, Any] | None = None
    """Passed to timm; for ViT encoders scale_factors and img_size."""
    decoder_channels: Positive | list[Positive] | None = None
    """Channels of the decoder: a list, deepest first, or one number, as the architecture has it."""
    decoder_attention_type: Literal["scse"] | None = None
    """Unet, UnetPlusPlus: attention in the decoder."""
    decoder_use_norm: bool | Literal["batchnorm", "groupnorm", "layernorm", "instancenorm", "inplace"] | None = None
    """Normalisation in the decoder."""
    decoder_interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    """How the decoder enlarges its features."""
    decoder_pab_channels: Positive | None = None
    """MAnet: channels of its position-wise attention."""
    decoder_pyramid_channels: Positive | None = None
    """FPN: channels of the pyramid."""
    decoder_segmentation_channels: Positive | None = None
    """FPN, Segformer: channels before the head."""
    decoder_merge_policy: Literal["add", "cat"] | None = None
    """FPN: how the pyramid's levels are put together."""
    decoder_dropout: Fraction | None = None
    """FPN: dropout before the head."""
    decoder_atrous_rates: list[Positive] | None = None
    """DeepLabV3, DeepLabV3Plus: three dilation rates."""
    decoder_aspp_separable: bool | None = None
    """DeepLabV3, DeepLabV3Plus: separable convolutions in the pyramid pooling."""
    decoder_aspp_dropout: Fraction | None = None
    """DeepLabV3, DeepLabV3Plus: dropout in the pyramid pooling."""
    decoder_readout: Literal["cat", "add", "ignore"] | None = None
    """DPT: what happens to the class token."""
    decoder_intermediate_channels: list[Positive] | None = None
    """DPT: channels of the reassembled features."""
    decoder_fusion_channels: Positive | None = None
    """DPT: channels of the fusion blocks."""
    psp_out_channels: Positive | None = None
    """PSPNet: channels of the pyramid pooling."""
    psp_dropout: Fraction | None = None
    """PSPNet: dropout of the pyramid pooling."""
    upsampling: Positive | None = None
    """Factor of the last enlargement; whatever it is, the output has the input's size."""
    head_upsampling: Annotated[float, Field(gt=0)] | None = None
    """Of the earlier tool; accepted, not needed: the output always has the input's size."""
    drop_path_rate: Fraction | None = None
    """AerialFormer: stochastic depth."""
    dropout: Fraction | None = None
    """AerialFormer, DINOv2: dropout before the classifier."""


class SegmentationConfig(Section):
    """The network, its loss and how it is optimised."""

    architecture: str | None = None
    """SMP: Unet, UnetPlusPlus (default), MAnet, Linknet, FPN, PSPNet, PAN, DeepLabV3, DeepLabV3Plus, Segformer, UPerNet or DPT; AerialFormer-T, -S or -B; DINOv2: multilevel (default) or linear. Any case."""  # noqa: E501
    backbone: str | None = None
    """Encoder: a name of SMP's, or tu-NAME for one of timm's (default resnet34; DINOv2: dinov2_s). na where the architecture brings its own."""  # noqa: E501
    opts: ModelOpts = Field(default_factory=ModelOpts)
    """Options of the network."""
    freeze_encoder: bool | None = None
    """Train the decoder alone; the encoder's normalisation layers stay as they are. Default: only with DINOv2."""
    num_classes: Positive | None = None
    """Shared key: 1 is background and one target (sigmoid); 2 and more are classes (softmax)."""
    num_bands: Positive | None = None
    """Shared key: bands that the network sees."""
    tile_size: Annotated[int, Field(ge=16)] | None = None
    """Shared key: side of a training window, pixels."""
    batch_size: Positive | None = None
    """Shared key: windows in a batch, each device."""
    max_epochs: Positive | None = None
    """Shared key: epochs."""
    ignore_index: Annotated[int, Field(ge=0, le=255)] | None = None
    """Label value that counts nowhere; 2 when num_classes <= 2, else 255."""
    task: Literal["binary", "multiclass"] | None = None
    """Follows from num_classes; may be repeated here."""
    loss: Annotated[
        # Chosen by shape, so that a mistake in one loss is not reported a second time as "not a list".
        Annotated[LossConfig, Tag("one")] | Annotated[list[LossConfig], Field(min_length=1), Tag("sum")],
        Discriminator(lambda value: "sum" if isinstance(value, list) else "one"),
    ] = Field(default_factory=lambda: LossConfig(name="DiceLoss"))
    """One loss, or a list of losses whose weighted sum is minimised."""
    lr: Annotated[float, Field(gt=0)] = 3e-4
    """Highest learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW; none on norms and biases."""
    lr_scheduler: Literal["onecycle", "cosine", "poly", "constant"] = "onecycle"
    """How the learning rate goes after the warm-up; stepped with every optimiser step."""
    warmup_period: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps in which the learning rate rises."""


class DataModuleConfig(Section):
    """The data set, and how its pixels reach the network."""

    data_dir: str
    """Folder with {train,val,test}/{x,y}/, relative to the working directory; or demo://kelp."""
    num_classes: Positive | None = None
    """Shared key."""
    num_bands: Positive | None = None
    """Shared key."""
    tile_size: Annotated[int, Field(ge=16)] | None = None
    """Shared key."""
    batch_size: Positive | None = None
    """Shared key."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    """Shared key."""
    bands: list[Positive] | None = None
    """Bands to read, counted from 1, in the network's order; default: all but an alpha band."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that read and augment; default: cores - 1, at most 8."""
    pin_memory: bool = True
    """Page-locked batches; only with CUDA."""
    persistent_workers: bool = True
    """Keep the workers between epochs; only with workers."""
    mean: list[float] | Literal["auto"] | None = None
    """Of each band, after division by max_pixel_value; auto: measured on the train split. Default for three uint8 bands: ImageNet's."""  # noqa: E501
    std: list[Annotated[float, Field(gt=0)]] | Literal["auto"] | None = None
    """Like mean."""
    max_pixel_value: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """What pixels are divided by; auto: the largest value of the data type. Default: auto for integers, 1 for floats."""
    fill_value: float = 0
    """What the network sees at invalid pixels, in units of the file."""
    fill_mask: int | None = None
    """Of the earlier tool; accepted, not obeyed: pixels without a label are ignored."""
    label_map: dict[int, Annotated[int, Field(ge=0, le=255)]] | None = None
    """Label value in the file: class index (or ignore_index). Values left out stay."""
    label_nodata: int | Literal["none"] | None = None
    """Label value that means no label; none: no value does. Default: the file's nodata, unless it is a class."""
    class_names: list[str] | None = None
    """A name for each class, background first where there is one."""
    background_index: Annotated[int, Field(ge=0)] | Literal["none"] | None = None
    """The class that is background, or none. Default: 0; none under species_label_transform."""
    samples_per_epoch: Positive | None = None
    """Training windows in an epoch; default: as many as cover the train split once."""
    foreground_share: Fraction | None = None
    """Share of training windows that are placed on a pixel of a class that isn't background; default: none is."""
    augmentation: Literal["none", "light", "drone", "strong"] = "drone"
    """Strength of the augmentation of training windows."""


class TrainerConfig(Section):
    """Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Where to train."""
    devices: Positive | Literal["auto"] | list[int] = 1
    """How many devices, which ones, or auto: all."""
    num_nodes: Positive = 1
    """Machines of a cluster."""
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    """How several devices work together."""
    sync_batchnorm: bool = False
    """Several devices: batch statistics over all of them."""
    precision: Annotated[
        Literal["32", "32-true", "16-mixed", "bf16-mixed"],
        BeforeValidator(lambda v: {"16": "16-mixed", "bf16": "bf16-mixed"}.get(str(v), str(v))),
    ] = "32"
    """Arithmetic of the network; the loss is always computed in 32 bits."""
    accumulate_grad_batches: Positive = 1
    """Batches whose gradients make one optimiser step."""
    gradient_clip_val: Annotated[float, Field(ge=0)] | None = 0.5
    """Largest norm of a gradient; null: no clipping."""
    max_epochs: Positive | None = None
    """Shared key."""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Stop after this many optimiser steps; -1: no limit."""
    limit_train_batches: Batches = 1.0
    """Use only this share (float) or number (int) of batches."""
    limit_val_batches: Batches = 1.0
    """Like limit_train_batches; the scores are then those of a part."""
    limit_test_batches: Batches = 1.0
    """Like limit_train_batches; the scores are then those of a part."""
    val_check_interval: Positive | Annotated[float, Field(gt=0, le=1)] = 1.0
    """Validate after this share (float) of an epoch or number (int) of batches."""
    log_every_n_steps: Positive = 10
    """How often the training loss goes to W&B."""
    deterministic: bool = True
    """Deterministic algorithms where there are any (elsewhere a warning)."""
    benchmark: bool = False
    """Let cuDNN try its algorithms: faster for a fixed size, not repeatable."""


class LoggingConfig(Section):
    """Where runs are kept, and Weights & Biases."""

    project: str = "hakai-ml-train"
    """W&B project, and folder of the runs."""
    name: str | None = None
    """Name of the run; default: that of the config file."""
    entity: str | None = None
    """W&B team or user; default: that of your key."""
    save_dir: str = "runs"
    """Folder of all runs."""
    log_model: bool = False
    """Upload the best checkpoint as a W&B artifact."""
    mode: Literal["online", "offline", "disabled"] = "online"
    """online falls back to offline where there is no key or no network."""

    @field_validator("project", "name")
    @classmethod
    def _one_folder(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or "/" in value or "\\" in value or value in {".", ".."}):
            raise mistake(f"{value!r} can't be the name of a folder (no slash, not empty)")
        return value


def checkpoint_filename(template: str) -> str:
    """A checkpoint's name as a format string over `epoch`, `step` and the names of scores.

    The earlier tool's `{val/dice_epoch:.4f}` becomes `{dice:.4f}`: a slash would make a folder of it.
    """
    fields = {"epoch": 1, "step": 1} | dict.fromkeys(tables.METRICS, 0.5)
    try:
        parts = list(Formatter().parse(template))
        named = ""
        for text, field, spec, conversion in parts:
            if "/" in text or "\\" in text:
                raise mistake("a checkpoint's name can't hold a slash")
            named += text.replace("{", "{{").replace("}", "}}")
            if field is not None:
                field = field.rpartition("/")[2].removesuffix("_epoch")
                if field not in fields:
                    raise mistake(f"unknown field {{{field}}} (allowed: {', '.join(fields)})")
                named += "{" + field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
        name = named.format(**fields)
    except ValueError as error:
        if isinstance(error, PydanticCustomError):
            raise
        raise mistake(f"not a format that Python knows: {error}") from None
    if not name.strip() or name in {".", "..", "last"}:
        raise mistake(f"{template!r} can't be the name of a checkpoint")
    return named


class CheckpointConfig(Section):
    """Which checkpoints are kept."""

    monitor: str = "val/dice"
    """The score that decides: val/ or train/ and loss, accuracy, iou, dice, f1, precision or recall."""
    mode: Literal["max", "min"] | None = None
    """max or min; follows from monitor."""
    save_top_k: Annotated[int, Field(ge=-1)] = 1
    """How many of the best are kept; -1: all."""
    save_last: bool = True
    """Keep last.ckpt as well, which --resume goes on from."""
    filename: str = "{epoch:03d}-{dice:.4f}"
    """Name of a checkpoint; may hold {epoch}, {step} and any score of the monitored phase, such as {iou:.3f}."""
    dirpath: str | None = None
    """Of the earlier tool; accepted, not obeyed: checkpoints lie in the run folder."""
    every_n_epochs: Positive = 1
    """Of the earlier tool: keep the best of every n-th epoch only."""
    save_on_train_epoch_end: bool = False
    """Of the earlier tool; accepted, not obeyed: checkpoints are taken after validation."""
    verbose: bool = False
    """Say when a checkpoint is written."""

    @field_validator("monitor")
    @classmethod
    def _measured(cls, value: str) -> str:
        phase, _, metric = value.removesuffix("_epoch").partition("/")
        if phase not in {"train", "val"} or metric not in tables.METRICS:
            known = [f"{p}/{m}" for p in ("val", "train") for m in tables.METRICS]
            near = tables.nearest(value.removesuffix("_epoch"), known)
            raise mistake(f"unknown score {value!r}{near} (allowed: val/ or train/ with {', '.join(tables.METRICS)})")
        return f"{phase}/{metric}"

    @field_validator("filename")
    @classmethod
    def _template(cls, value: str) -> str:
        return checkpoint_filename(value)


class EarlyStoppingConfig(Section):
    """Stop when nothing improves."""

    monitor: str | None = None
    """Default: checkpoint.monitor."""
    patience: Positive = 10
    """Validations without an improvement."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """A smaller change is no improvement."""

    @field_validator("monitor")
    @classmethod
    def _measured(cls, value: str | None) -> str | None:
        return value if value is None else CheckpointConfig.model_validate({"monitor": value}).monitor


class Config(Section):
    """A training run."""

    segmentation_model_cls: Literal["SMPSegmentationModel", "DINOv2Segmentation", "AerialFormer"] = "SMPSegmentationModel"
    """Family of networks."""
    enable_logging: bool = False
    """Log to Weights & Biases; false: the run folder only."""
    tags: list[str] | None = None
    """W&B tags."""
    extra_transforms: list[Literal["species_label_transform"]] | None = None
    """species_label_transform: labels 0 become 2 (ignored), 1 become 0 and 2 become 1."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 42
    """Shared key: everything random follows from it."""
    num_bands: Positive = 3
    """Shared key: bands that the network sees."""
    num_classes: Positive = 1
    """Shared key: 1 is background and one target (sigmoid); 2 and more are classes (softmax)."""
    tile_size: Annotated[int, Field(ge=16)] = 1024
    """Shared key: side of a training window, pixels."""
    batch_size: Positive = 4
    """Shared key: windows in a batch, each device."""
    max_epoch: Positive = 100
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
        for section, key in SHARED_SECTIONS:
            part, shared = getattr(self, section), SHARED_NAMES.get(key, key)
            if getattr(part, key) is None:
                setattr(part, key, getattr(self, shared))
        network = self.segmentation_config
        if network.ignore_index is None:
            network.ignore_index = 2 if self.num_classes <= 2 else 255
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
            network.freeze_encoder = self.segmentation_model_cls == "DINOv2Segmentation"
        if self.checkpoint.mode is None:
            self.checkpoint.mode = "min" if self.checkpoint.monitor.endswith("/loss") else "max"
        data = self.data_module
        if data.label_map is None and self.extra_transforms:
            data.label_map = {0: 2, 1: 0, 2: 1}
            data.background_index = data.background_index or "none"
        return self

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
    def loss_terms(self) -> list[dict[str, Any]]:
        """The loss as plain data: one `{name, weight, opts}` for each term of the sum."""
        loss = self.segmentation_config.loss
        return [term.model_dump(exclude_none=True) for term in (loss if isinstance(loss, list) else [loss])]

    def plain(self) -> dict[str, Any]:
        """Plain data that reads back as this config: JSON types only, so that a checkpoint may hold it."""
        data = self.model_dump(mode="json", exclude_none=True)
        # A key that null means something to must be written down.
        data["segmentation_config"]["opts"]["encoder_weights"] = self.segmentation_config.opts.encoder_weights
        data["trainer"]["gradient_clip_val"] = self.trainer.gradient_clip_val
        if self.data_module.label_map is not None:
            data["data_module"]["label_map"] = dict(self.data_module.label_map)  # JSON made its keys text
        for section, key in SHARED_SECTIONS:
            # An override may have left a section's copy behind; as a file that would contradict itself.
            if data[section].get(key) != data[SHARED_NAMES.get(key, key)]:
                data[section].pop(key, None)
        return data


# Keys that the earlier tool's files repeat: the top level's name of each, and where else it stands.
SHARED_NAMES = {"max_epochs": "max_epoch"}
SHARED_SECTIONS = (
    ("segmentation_config", "num_bands"),
    ("data_module", "num_bands"),
    ("segmentation_config", "num_classes"),
    ("data_module", "num_classes"),
    ("segmentation_config", "tile_size"),
    ("data_module", "tile_size"),
    ("segmentation_config", "batch_size"),
    ("data_module", "batch_size"),
    ("segmentation_config", "max_epochs"),
    ("trainer", "max_epochs"),
    ("data_module", "seed"),
)

"""Section `segmentation_config`: the network, its options, its loss and how it is optimised."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model, field_validator

from train.configs.fields import (
    BatchSize,
    BelowOne,
    Classes,
    Fraction,
    Index,
    Indices,
    Label,
    NonNegative,
    NonZeroFraction,
    Positive,
    PositiveNumber,
    Section,
    Task,
    Text,
    TileSize,
    mistake,
)
from train.configs.registries import losses
from train.configs.registries.families import FAMILIES
from train.configs.registries.losses import COMMON, LOSSES, Loss, Option
from train.configs.registries.schedules import SCHEDULES
from train.configs.wording import nearest, shown

if TYPE_CHECKING:
    ScheduleName = str
else:
    ScheduleName = Literal[*SCHEDULES]


def _loss_options(**nested: Any) -> dict[str, Any]:
    """Return the fields of `LossOpts`: each option of a loss, of any of the types that it has in some loss."""
    found: dict[str, list[tuple[Loss, Option]]] = {}
    for loss in LOSSES.values():
        for option in loss.options.values():
            found.setdefault(option.name, []).append((loss, option))
    options = {}
    for key in sorted(found, key=lambda key: key not in COMMON):
        uses = found[key]
        if losses.nested(key) and not nested:
            continue
        types = [option.type for _, option in uses]
        annotation = nested["options"] if losses.nested(key) else Union[tuple(types)]  # noqa: UP007 - a list of types
        texts: dict[str, list[str]] = {}
        for loss, option in uses:
            texts.setdefault(option.summary, []).append(loss.short)
        described = [text if key in COMMON else f"{', '.join(names)}: {text}" for text, names in texts.items()]
        options[key] = (annotation | None, Field(default=None, description=" ".join(described)))
    return options


_PlainLossOpts: Any = create_model(
    "PlainLossOpts",
    __base__=Section,
    __module__=__name__,
    __doc__="Options of a loss within a loss.",
    **_loss_options(),
)
if TYPE_CHECKING:
    LossOpts = Any
else:
    LossOpts = create_model(
        "LossOpts",
        __base__=Section,
        __module__=__name__,
        __doc__="Options of a loss; what they mean for each loss, and their defaults: table of the losses.",
        **_loss_options(options=_PlainLossOpts),
    )


class LossConfig(Section):
    """One loss, or one term of a weighted sum of losses."""

    name: Annotated[str, Field(description=f"{', '.join(LOSSES)}; any case, with or without Loss.")]
    weight: PositiveNumber = 1.0
    """Factor of this term in the sum."""
    opts: LossOpts | None = None
    """Options of this loss."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        canonical = losses.match(name)
        if canonical is None:
            near = nearest(name, [*LOSSES, *(row.short for row in LOSSES.values())])
            raise mistake(f"unknown loss {shown(name)}{near} (allowed: {', '.join(LOSSES)})")
        return canonical

    @property
    def options(self) -> Iterator[Any]:
        """Options of this loss, and those of the losses within it."""
        if self.opts is not None:
            yield self.opts
            yield from (value for _, value in self.opts if isinstance(value, _PlainLossOpts))


def _finite(value: Any) -> Any:
    numbers = [value]
    while numbers:
        item = numbers.pop()
        numbers += item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
        if isinstance(item, float) and not abs(item) < float("inf"):
            raise mistake(f"holds {item}, which is no number that an option can have")
    return value


class ModelOpts(Section):
    """Options of a network; which architecture takes which: table of the architectures."""

    encoder_weights: Text | bool | None = "imagenet"
    """imagenet or true: pretrained (from the cache or the hub); null or false: random; or the path of a local file."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)] | None = None
    """Stages of the encoder that are used."""
    encoder_output_stride: Literal[8, 16, 32] | None = None
    """DeepLabV3, DeepLabV3Plus (8, 16), PAN (16, 32): input size over size of the deepest features."""
    encoder_indices: Indices | None = None
    """ViT encoders: the blocks whose features are used."""
    encoder_output_indices: Indices | None = None
    """DPT: the blocks whose features are used."""
    encoder_params: Annotated[dict[str, Any], AfterValidator(_finite)] | None = None
    """Passed to timm; for ViT encoders scale_factors and img_size."""
    decoder_channels: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    """Unet, UnetPlusPlus, MAnet: a list, deepest first; DeepLabV3, DeepLabV3Plus, PAN, UPerNet, DINOv2: one number."""
    decoder_attention_type: Literal["scse"] | None = None
    """Unet, UnetPlusPlus: attention in the decoder."""
    decoder_use_norm: bool | Literal["batchnorm", "identity"] | None = None
    """Normalisation in the decoder."""
    decoder_interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    """Interpolation with which the decoder enlarges its features."""
    decoder_pab_channels: Positive | None = None
    """MAnet: channels of its position-wise attention."""
    decoder_pyramid_channels: Positive | None = None
    """FPN: channels of the pyramid."""
    decoder_segmentation_channels: Positive | None = None
    """FPN, Segformer: channels before the head."""
    decoder_merge_policy: Literal["add", "cat"] | None = None
    """FPN: how the pyramid's levels are merged."""
    decoder_dropout: Fraction | None = None
    """FPN: dropout before the head."""
    decoder_atrous_rates: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None
    """DeepLabV3, DeepLabV3Plus: three dilation rates."""
    decoder_aspp_separable: bool | None = None
    """DeepLabV3, DeepLabV3Plus: separable convolutions in the pyramid pooling."""
    decoder_aspp_dropout: Fraction | None = None
    """DeepLabV3, DeepLabV3Plus: dropout in the pyramid pooling."""
    decoder_readout: Literal["cat", "add", "ignore"] | None = None
    """DPT: use of the class token."""
    decoder_intermediate_channels: Annotated[list[Positive], Field(min_length=1)] | None = None
    """DPT: channels of the reassembled features."""
    decoder_fusion_channels: Positive | None = None
    """DPT: channels of the fusion blocks."""
    psp_out_channels: Positive | None = None
    """PSPNet: channels of the pyramid pooling."""
    psp_dropout: Fraction | None = None
    """PSPNet: dropout of the pyramid pooling."""
    upsampling: Positive | None = None
    """Factor of the last enlargement; the output always has the input's size."""
    head_upsampling: PositiveNumber | None = None
    """Key of the earlier tool; accepted, not needed: the output always has the input's size."""
    drop_path_rate: BelowOne | None = None
    """AerialFormer: stochastic depth."""
    dropout: BelowOne | None = None
    """AerialFormer, DINOv2: dropout before the classifier."""


class FinetuneStage(Section):
    """A stage of staged unfreezing."""

    epoch: Index
    """First epoch of the stage, from 0."""
    unfreeze: Literal["decoder", "all"] | Positive
    """Trained part: decoder; all; or a number N: the decoder and the encoder's last N layers (of 12 at most)."""
    lr: PositiveNumber | None = None
    """Highest learning rate of the stage; default: that of segmentation_config."""


class EmaConfig(Section):
    """Exponential moving average of the weights, which is then validated, kept and exported."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the average per optimiser step; the first steps average faster."""
    start_epoch: Index = 0
    """First epoch in which weights are averaged, from 0; before that the weights themselves are used."""


class SwaConfig(Section):
    """Stochastic weight averaging: the mean of the last epochs' weights is validated, kept and exported."""

    start_epoch: Index | None = None
    """First epoch, from 0, in which the learning rate is held and weights are averaged; default: after 3/4 of them."""
    lr: PositiveNumber | None = None
    """Learning rate from then on; default: its value by then."""


_ARCHITECTURES = (
    "; ".join(
        f"{family.name}: {', '.join(family.architectures)} (default {family.default})" for family in FAMILIES.values()
    )
    + ". Any case."
)
_BACKBONES = (
    "; ".join(
        f"{family.name}: {family.backbones.allowed} (default {family.backbones.default})"
        for family in FAMILIES.values()
        if family.backbones is not None
    )
    + "; na where the architecture brings its own encoder."
)


class SegmentationConfig(Section):
    """The network, its loss and how it is optimised."""

    architecture: Annotated[str | None, Field(description=_ARCHITECTURES)] = None
    backbone: Annotated[str | None, Field(description=_BACKBONES)] = None
    opts: ModelOpts = Field(default_factory=ModelOpts)
    """Options of the network."""
    freeze_encoder: bool | None = None
    """Train the decoder alone; the encoder's normalisation layers stay as they are. Default: true with DINOv2 only."""
    finetune: Annotated[list[FinetuneStage], Field(min_length=1)] | None = None
    """Staged unfreezing, one mapping a stage: epoch, unfreeze, lr. The learning rate schedule restarts in each."""
    layer_decay: NonZeroFraction | None = None
    """Ratio of the learning rates of each of the encoder's layers and the next one; the decoder has lr."""
    ema: EmaConfig | None = None
    """Averaged weights: decay, start_epoch. Null: none."""
    swa: SwaConfig | None = None
    """Mean of the weights at the end of each of the last epochs: start_epoch, lr. Null: none."""
    gradient_checkpointing: bool = False
    """Recompute the encoder's activations instead of keeping them: less memory, a third more time."""
    num_classes: Classes | None = None
    """Shared key: 1 is background and one target (sigmoid); 2 and more are classes (softmax)."""
    num_bands: Positive | None = None
    """Shared key: bands that the network sees."""
    tile_size: TileSize | None = None
    """Shared key: side of a training window, pixels."""
    batch_size: BatchSize | None = None
    """Shared key: windows in a batch, each device; auto: what fits."""
    max_epochs: Positive | None = None
    """Shared key: epochs."""
    ignore_index: Label | None = None
    """Label value that counts nowhere; 2 when num_classes <= 2, else 255."""
    task: Task | None = None
    """Follows from num_classes; may be repeated here."""
    loss: Annotated[
        # Chosen by shape, so that a mistake in one loss is not reported a second time as "not a list".
        Annotated[LossConfig, Tag("one")] | Annotated[list[LossConfig], Field(min_length=1), Tag("sum")],
        Discriminator(lambda value: "sum" if isinstance(value, list) else "one"),
    ] = Field(default_factory=lambda: LossConfig(name="DiceLoss"))
    """One loss, or a list of losses whose weighted sum is minimised."""
    lr: PositiveNumber = 3e-4
    """Highest learning rate of AdamW."""
    weight_decay: NonNegative = 0.01
    """Weight decay of AdamW; none on norms and biases."""
    lr_scheduler: ScheduleName = "onecycle"
    """Learning rate schedule; stepped with every optimiser step."""
    warmup_period: BelowOne = 0.1
    """Share of all steps in which the learning rate rises."""

    @property
    def terms(self) -> list[LossConfig]:
        """Terms of the loss."""
        return self.loss if isinstance(self.loss, list) else [self.loss]


def default_ignore_index(num_classes: int) -> int:
    """Return the label that counts nowhere where the config doesn't say."""
    return 2 if num_classes <= 2 else 255


def default_swa_start(stage: int, epochs: int) -> int:
    """Return the first epoch of weight averaging where the config doesn't say.

    It is three quarters into the last stage of fine-tuning, or into training.

    Args:
        stage: First epoch of the last stage; 0 without stages.
        epochs: Number of epochs of the whole training.
    """
    return stage + 3 * (epochs - stage) // 4

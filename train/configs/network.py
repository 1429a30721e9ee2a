"""The section `segmentation_config`: the network, its options, its loss and how it is optimised."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator

from train.configs import tables
from train.configs.fields import BatchSize, Classes, Fraction, Label, Positive, Section, Text, TileSize, mistake
from train.configs.wording import nearest, shown


class LossOpts(Section):
    """Options of a loss; which loss takes which, and what they mean: README, "Losses"."""

    mode: Literal["binary", "multiclass"] | None = None
    """Follows from num_classes; may be repeated here."""
    from_logits: bool | None = None
    """Our networks end in logits: only true is right."""
    ignore_index: Label | None = None
    """That of segmentation_config; may be repeated here."""
    smooth: Annotated[float, Field(ge=0)] | None = None
    """Added to numerator and denominator of an overlap, in pixels (Dice, Jaccard, Tversky, FocalTversky)."""
    eps: Annotated[float, Field(gt=0)] | None = None
    """Keeps a denominator off zero (Dice, Jaccard, Tversky, FocalTversky, MCC)."""
    log_loss: bool | None = None
    """-log(overlap) in place of 1 - overlap (Dice, Jaccard, Tversky, FocalTversky)."""
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | Literal["present", "all"] | None = None
    """Only these classes enter the mean (multiclass). Lovász: also present (default) or all."""
    class_weights: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] | Literal["auto"] | None = None
    """A weight for each class (of a binary BCE or CE: background and target), or auto: pixels / (classes x pixels of the class) in the train split."""  # noqa: E501
    alpha: Annotated[float, Field(ge=0)] | list[Annotated[float, Field(ge=0)]] | None = None
    """Tversky: weight of false positives. Focal: weight of the target class, or a list of all. FocalDiceCombo: share of Focal."""  # noqa: E501
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
    reduced_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
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
            near = nearest(name, [*tables.LOSSES, *(known.removesuffix("Loss") for known in tables.LOSSES)])
            raise mistake(f"unknown loss {shown(name)}{near} (allowed: {', '.join(tables.LOSSES)})")
        return canonical


def _finite(value: Any) -> Any:
    numbers = [value]
    while numbers:
        item = numbers.pop()
        numbers += item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
        if isinstance(item, float) and not abs(item) < float("inf"):
            raise mistake(f"holds {item}, which is no number that an option can have")
    return value


class ModelOpts(Section):
    """Options of a network; which architecture takes which: README, "Networks"."""

    encoder_weights: Text | bool | None = "imagenet"
    """imagenet or true: pretrained (from the cache or the hub); null or false: random; or the path of a local file."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)] | None = None
    """Stages of the encoder that are used."""
    encoder_output_stride: Literal[8, 16, 32] | None = None
    """DeepLabV3, DeepLabV3Plus (8, 16), PAN (16, 32): input size over size of the deepest features."""
    encoder_indices: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """ViT encoders: the blocks whose features are used."""
    encoder_output_indices: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
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
    decoder_atrous_rates: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None
    """DeepLabV3, DeepLabV3Plus: three dilation rates."""
    decoder_aspp_separable: bool | None = None
    """DeepLabV3, DeepLabV3Plus: separable convolutions in the pyramid pooling."""
    decoder_aspp_dropout: Fraction | None = None
    """DeepLabV3, DeepLabV3Plus: dropout in the pyramid pooling."""
    decoder_readout: Literal["cat", "add", "ignore"] | None = None
    """DPT: what happens to the class token."""
    decoder_intermediate_channels: Annotated[list[Positive], Field(min_length=1)] | None = None
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
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] | None = None
    """AerialFormer: stochastic depth."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """AerialFormer, DINOv2: dropout before the classifier."""


class FinetuneStage(Section):
    """A stage of staged unfreezing."""

    epoch: Annotated[int, Field(ge=0)]
    """First epoch of the stage, from 0."""
    unfreeze: Literal["decoder", "all"] | Positive
    """What is trained: decoder; all; or the decoder and the encoder's last so many layers (of 12 at most)."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Highest learning rate of the stage; that of segmentation_config where it is left out."""


class EmaConfig(Section):
    """An exponential moving average of the weights, which is then what is validated, kept and exported."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that stays with each optimiser step; the first steps average faster."""
    start_epoch: Annotated[int, Field(ge=0)] = 0
    """Epoch from which on weights are averaged; until the first average the weights themselves count."""


class SwaConfig(Section):
    """Stochastic weight averaging: the mean of the last epochs' weights is what is validated, kept and exported."""

    start_epoch: Annotated[int, Field(ge=0)] | None = None
    """Epoch, from 0, from which on the learning rate is held and weights are averaged; default: after 3/4 of them."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate from then on; default: what it is by then."""


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
    finetune: Annotated[list[FinetuneStage], Field(min_length=1)] | None = None
    """Staged unfreezing, one mapping a stage: epoch, unfreeze, lr. The learning rate goes its way anew in each."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Each of the encoder's layers learns this times as fast as the one behind it; the decoder learns at lr."""
    ema: EmaConfig | None = None
    """Averaged weights: decay, start_epoch. Null: none."""
    swa: SwaConfig | None = None
    """Mean of the weights at the end of each of the last epochs: start_epoch, lr. Null: none."""
    gradient_checkpointing: bool = False
    """The encoder's activations are computed a second time in place of being kept: less memory, a third more time."""
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

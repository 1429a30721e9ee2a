"""The names that a YAML may use, as plain tables that cost no import of torch.

What stands here repeats what the libraries know, so that a typo is answered in milliseconds. A test
(`tests/train/configs/test_tables.py`) holds every table against the library it speaks of.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

MAX_EPOCH = 100  # where a config does not say

MODEL_CLASSES = ("SMPSegmentationModel", "DINOv2Segmentation", "AerialFormer")

# Options of segmentation-models-pytorch that are the same for every architecture.
_COMMON_OPTS = frozenset({"encoder_weights", "encoder_depth", "encoder_params", "encoder_indices", "head_upsampling"})

# architecture -> the options of its constructor that `segmentation_config.opts` may set. in_channels, classes and the
# encoder's name have keys of their own; activation and aux_params would change what comes out.
SMP_ARCHITECTURES: dict[str, frozenset[str]] = {
    name: _COMMON_OPTS | frozenset(opts.split())
    for name, opts in {
        "DPT": "encoder_output_indices decoder_readout decoder_intermediate_channels decoder_fusion_channels",
        "DeepLabV3": "encoder_output_stride decoder_channels decoder_atrous_rates decoder_aspp_separable "
        "decoder_aspp_dropout upsampling",
        "DeepLabV3Plus": "encoder_output_stride decoder_channels decoder_atrous_rates decoder_aspp_separable "
        "decoder_aspp_dropout upsampling",
        "FPN": "decoder_pyramid_channels decoder_segmentation_channels decoder_merge_policy decoder_dropout "
        "decoder_interpolation upsampling",
        "Linknet": "decoder_use_norm",
        "MAnet": "decoder_use_norm decoder_channels decoder_pab_channels decoder_interpolation",
        "PAN": "encoder_output_stride decoder_channels decoder_interpolation upsampling",
        "PSPNet": "psp_out_channels decoder_use_norm psp_dropout upsampling",
        "Segformer": "decoder_segmentation_channels upsampling",
        "UPerNet": "decoder_channels decoder_use_norm upsampling",
        "Unet": "decoder_use_norm decoder_channels decoder_attention_type decoder_interpolation",
        "UnetPlusPlus": "decoder_use_norm decoder_channels decoder_attention_type decoder_interpolation",
    }.items()
}
# What `decoder_channels` is where it is an option: a list with a number for each stage, or one number.
CHANNELS_LISTED = frozenset({"MAnet", "Unet", "UnetPlusPlus"})
OUTPUT_STRIDES = {"DeepLabV3": (8, 16), "DeepLabV3Plus": (8, 16), "PAN": (16, 32)}

AERIALFORMER_ARCHITECTURES = ("AerialFormer", "AerialFormer-T", "AerialFormer-S", "AerialFormer-B")
AERIALFORMER_OPTS = frozenset({"encoder_weights", "drop_path_rate", "dropout"})
DINOV2_DECODERS = ("multilevel", "linear")
DINOV2_OPTS = frozenset({"encoder_weights", "encoder_indices", "encoder_params", "decoder_channels", "dropout"})
DINOV2_BACKBONES = tuple(f"dinov2_{size}{reg}" for size in "sblg" for reg in ("", "_reg"))

SMP_ENCODERS: tuple[str, ...] = tuple(
    (
        "densenet121 densenet161 densenet169 densenet201 dpn107 dpn131 dpn68 dpn68b dpn92 dpn98 "
        + " ".join(f"efficientnet-b{i}" for i in range(8))
        + " inceptionresnetv2 inceptionv4 "
        + " ".join(f"mit_b{i}" for i in range(6))
        + " mobilenet_v2 "
        + " ".join(f"mobileone_s{i}" for i in range(5))
        + " resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x16d resnext101_32x32d resnext101_32x48d "
        "resnext101_32x4d resnext101_32x8d resnext50_32x4d se_resnet101 se_resnet152 se_resnet50 "
        "se_resnext101_32x4d se_resnext50_32x4d senet154 "
        + " ".join(f"timm-efficientnet-b{i}" for i in range(9))
        + " timm-efficientnet-l2 timm-skresnet18 timm-skresnet34 timm-skresnext50_32x4d "
        + " ".join(f"timm-tf_efficientnet_lite{i}" for i in range(5))
        + " vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn xception"
    ).split()
)

_ANY_LOSS = frozenset({"mode", "from_logits", "ignore_index"})
_REGION = _ANY_LOSS | {"smooth", "eps", "log_loss", "classes", "class_weights"}

# loss -> the options that `loss.opts` may set; their meaning stands with each loss in train/losses.py.
LOSSES: dict[str, frozenset[str]] = {
    "DiceLoss": _REGION,
    "JaccardLoss": _REGION,
    "TverskyLoss": _REGION | {"alpha", "beta", "gamma"},
    "FocalTverskyLoss": _REGION | {"delta", "gamma"},
    "LovaszLoss": _ANY_LOSS | {"per_image", "classes"},
    "FocalLoss": _ANY_LOSS | {"alpha", "gamma", "reduction", "normalized", "reduced_threshold"},
    "BCELoss": _ANY_LOSS | {"label_smoothing", "pos_weight", "class_weights"},
    "CELoss": _ANY_LOSS | {"label_smoothing", "class_weights"},
    "MCCLoss": _ANY_LOSS | {"eps"},
    "FocalDiceComboLoss": _ANY_LOSS | {"alpha", "focal_kwargs", "dice_kwargs"},
}
# Losses that are averaged over classes: with one target there is nothing to choose or to weigh.
REGION_LOSSES = frozenset(name for name, opts in LOSSES.items() if "classes" in opts)
_LOSS_ALIASES = {
    "lovász": "LovaszLoss",
    "crossentropy": "CELoss",
    "binarycrossentropy": "BCELoss",
    "bcewithlogits": "BCELoss",
    "iou": "JaccardLoss",
}

DEMO = "demo://kelp"
SPECIES_LABEL_TRANSFORM = {0: 2, 1: 0, 2: 1}

METRICS = ("loss", "accuracy", "iou", "dice", "f1", "precision", "recall")


def _folded(name: str) -> str:
    """Case, and the signs that people put between words, don't matter."""
    return re.sub(r"[\s_-]", "", name.lower().replace("+", "plus"))


def match_architecture(name: str) -> str | None:
    """The SMP architecture that `name` spells, whatever its case; None where there is none."""
    folded = {_folded(known): known for known in SMP_ARCHITECTURES}
    return folded.get(_folded(name))


def match_aerialformer(name: str) -> str | None:
    """AerialFormer-T, -S or -B, whatever the case; AerialFormer alone and `na` are the tiny one."""
    short = {"na": "AerialFormer-T", "aerialformer": "AerialFormer-T"}
    known = {_folded(architecture): architecture for architecture in AERIALFORMER_ARCHITECTURES}
    return (known | short).get(_folded(name))


def match_dinov2_decoder(name: str) -> str | None:
    """The decoder on top of a DINOv2 backbone; `na` and the class's own name are the default one."""
    folded = _folded(name)
    if folded in {"na", "dinov2", "dinov2segmentation"}:
        return DINOV2_DECODERS[0]
    return folded if folded in DINOV2_DECODERS else None


def match_loss(name: str) -> str | None:
    """The loss that `name` spells, whatever its case, with or without `Loss` at its end; None where there is none."""
    folded = {_folded(known).removesuffix("loss"): known for known in LOSSES} | _LOSS_ALIASES
    return folded.get(_folded(name).removesuffix("loss"))


@cache
def timm_models() -> frozenset[str]:
    """Names of timm's architectures, read off its source: importing timm would import torch (seconds)."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    registered = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
    return frozenset(name for file in folder.glob("*.py") for name in registered.findall(file.read_text("utf-8")))


def resolve_backbone(name: str) -> tuple[str | None, str | None]:
    """The encoder that `name` means.

    Returns:
        Its canonical name (SMP's own, or `tu-NAME` for timm's; None where nobody knows it) and a notice where the
        name had to be translated, as the names of the earlier tool (`tf_efficientnetv2_m`) have.
    """
    if name in SMP_ENCODERS:
        return name, None
    bare = name.removeprefix("tu-")
    # timm appends the weights' tag to an architecture: vit_base_patch14_dinov2.lvd142m
    if bare.split(".")[0] in timm_models():
        notice = None if name.startswith("tu-") else f"backbone {name!r} is timm's: read as 'tu-{bare}'"
        return f"tu-{bare}", notice
    return None, None


def resolve_dinov2(name: str) -> str | None:
    """The DINOv2 or DINOv3 backbone that `name` means: a short name of the earlier tool, or one of timm's."""
    bare = name.removeprefix("tu-")
    torch_hub = re.fullmatch(r"dinov2_vit([sblg])14(_reg)?", bare)
    if torch_hub:
        return f"dinov2_{torch_hub[1]}{torch_hub[2] or ''}"
    if bare in DINOV2_BACKBONES:
        return bare
    return bare if re.match("vit_.*dinov[23]", bare) and bare.split(".")[0] in timm_models() else None


def default_swa_start(stage: int, epochs: int) -> int:
    """Epoch from which on weights are averaged: three quarters into the last stage of fine-tuning, or into training."""
    return stage + 3 * (epochs - stage) // 4


def default_ignore_index(num_classes: int) -> int:
    """The label that counts nowhere where the config doesn't say."""
    return 2 if num_classes <= 2 else 255

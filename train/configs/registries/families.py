"""Registry of the networks: one row a family, and in it one row an architecture.

To add an architecture, add its row. To add a family, add its row and the class that it points to, a subclass of
`train.model.SegmentationModel`. `tests/train/configs/registries/test_families.py` compares the options of each row with
the constructor of the network.
"""

from dataclasses import dataclass
from typing import Any, Literal

from train.configs.registries.encoders import DINOV2, SMP, Backbones
from train.configs.registries.names import folded, load, spellings


@dataclass(frozen=True)
class Architecture:
    """A row of the registry.

    Attributes:
        name: Canonical name.
        meaning: What it is, and its source.
        opts: Options that `segmentation_config.opts` may set.
        aliases: Further names; case, spaces, `_` and `-` don't matter in any of them.
        channels: Form of `decoder_channels` where it is an option: a list with a number for each stage, or one number.
        strides: Values of `encoder_output_stride` where it is an option.
    """

    name: str
    meaning: str
    opts: frozenset[str]
    aliases: tuple[str, ...] = ()
    channels: Literal["list", "number"] | None = None
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Family:
    """A family of networks: value of `segmentation_model_cls`.

    Attributes:
        name: Canonical name.
        meaning: What it is.
        path: Dotted path of its LightningModule.
        architectures: Rows by name.
        default: Architecture where the config names none.
        backbones: Encoders that it takes; None where each architecture brings its own.
        freezes: Whether the encoder is frozen where the config doesn't say.
    """

    name: str
    meaning: str
    path: str
    architectures: dict[str, Architecture]
    default: str
    backbones: Backbones | None = None
    freezes: bool = False

    def match(self, name: str | None) -> str | None:
        """Return the architecture that `name` spells, the default for None; None where there is none."""
        names = {row.name: row.aliases for row in self.architectures.values()}
        return self.default if name is None else spellings(names).get(folded(name))

    def resolve(self, backbone: str | None) -> str | None:
        """Return the encoder that a name means, the default for None; None where there is none."""
        if self.backbones is None:
            return "na" if backbone is None or backbone.lower() in {"na", "none"} else None
        return self.backbones.resolve(self.backbones.default if backbone is None else backbone)

    def load(self) -> Any:
        """Import the LightningModule."""
        return load(self.path)


def _rows(*rows: Architecture) -> dict[str, Architecture]:
    return {row.name: row for row in rows}


def _smp(name: str, meaning: str, opts: str, **more: Any) -> Architecture:
    """Return the row of an architecture of segmentation-models-pytorch.

    Its options are those of its constructor, and the ones below. in_channels, classes and the encoder's name have keys
    of their own; activation and aux_params would change the output.
    """
    common = "encoder_weights encoder_depth encoder_params encoder_indices head_upsampling"
    return Architecture(name, meaning, frozenset(f"{common} {opts}".split()), **more)


_UNET = "decoder_use_norm decoder_channels decoder_attention_type decoder_interpolation"
_DEEPLAB = (
    "encoder_output_stride decoder_channels decoder_atrous_rates decoder_aspp_separable decoder_aspp_dropout upsampling"
)
_SMP = _rows(
    _smp(
        "DPT",
        "Dense Prediction Transformer (Ranftl et al. 2021, arXiv:2103.13413); ViT encoders",
        "encoder_output_indices decoder_readout decoder_intermediate_channels decoder_fusion_channels",
    ),
    _smp(
        "DeepLabV3",
        "Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587)",
        _DEEPLAB,
        channels="number",
        strides=(8, 16),
    ),
    _smp(
        "DeepLabV3Plus",
        "DeepLabV3 with a decoder (Chen et al. 2018, arXiv:1802.02611)",
        _DEEPLAB,
        channels="number",
        strides=(8, 16),
    ),
    _smp(
        "FPN",
        "Feature pyramid network (Kirillov et al. 2019, arXiv:1901.02446)",
        "decoder_pyramid_channels decoder_segmentation_channels decoder_merge_policy decoder_dropout "
        "decoder_interpolation upsampling",
    ),
    _smp("Linknet", "LinkNet (Chaurasia & Culurciello 2017, arXiv:1707.03718)", "decoder_use_norm"),
    _smp(
        "MAnet",
        "U-Net with attention over positions and scales (Fan et al. 2020, doi:10.1109/ACCESS.2020.3025372)",
        "decoder_use_norm decoder_channels decoder_pab_channels decoder_interpolation",
        channels="list",
    ),
    _smp(
        "PAN",
        "Pyramid attention network (Li et al. 2018, arXiv:1805.10180)",
        "encoder_output_stride decoder_channels decoder_interpolation upsampling",
        channels="number",
        strides=(16, 32),
    ),
    _smp(
        "PSPNet",
        "Pyramid scene parsing network (Zhao et al. 2017, arXiv:1612.01105)",
        "psp_out_channels decoder_use_norm psp_dropout upsampling",
    ),
    _smp(
        "Segformer",
        "SegFormer's all-MLP decoder (Xie et al. 2021, arXiv:2105.15203)",
        "decoder_segmentation_channels upsampling",
    ),
    _smp(
        "UPerNet",
        "Unified perceptual parsing (Xiao et al. 2018, arXiv:1807.10221)",
        "decoder_channels decoder_use_norm upsampling",
        channels="number",
    ),
    _smp("Unet", "U-Net (Ronneberger et al. 2015, arXiv:1505.04597)", _UNET, channels="list"),
    _smp("UnetPlusPlus", "U-Net++ (Zhou et al. 2018, arXiv:1807.10165)", _UNET, channels="list"),
)


def _aerial_former(variant: str, meaning: str, *aliases: str) -> Architecture:
    opts = frozenset({"encoder_weights", "drop_path_rate", "dropout"})
    return Architecture(f"AerialFormer-{variant}", meaning, opts, aliases)


_DINOV2 = frozenset({"encoder_weights", "encoder_indices", "encoder_params", "dropout"})

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "SMPSegmentationModel",
            "Any architecture of segmentation-models-pytorch on any of its encoders, those of timm included",
            "train.model:SMPSegmentationModel",
            _SMP,
            default="UnetPlusPlus",
            backbones=SMP,
        ),
        Family(
            "DINOv2Segmentation",
            "DINOv2 or DINOv3 backbone with a light decoder",
            "train.model:DINOv2Segmentation",
            _rows(
                Architecture(
                    "multilevel",
                    "Pyramid of features of several depths",
                    _DINOV2 | {"decoder_channels"},
                    ("na", "DINOv2", "DINOv2Segmentation"),
                    channels="number",
                ),
                Architecture("linear", "Linear probe of DINOv2's paper (Oquab et al. 2023, arXiv:2304.07193)", _DINOV2),
            ),
            default="multilevel",
            backbones=DINOV2,
            freezes=True,
        ),
        Family(
            "AerialFormer",
            "Swin encoder with a dilated convolutional decoder (Hanyu et al. 2023, arXiv:2306.06842)",
            "train.model:AerialFormer",
            _rows(
                _aerial_former("T", "Tiny: 42.7 M parameters", "AerialFormer", "na"),
                _aerial_former("S", "Small: 64.0 M parameters"),
                _aerial_former("B", "Base: 113.8 M parameters"),
            ),
            default="AerialFormer-T",
        ),
    )
}
DEFAULT = "SMPSegmentationModel"


def family_of(architecture: str) -> Family | None:
    """Return the one family that has an architecture of this name; None where none or several have."""
    found = [family for family in FAMILIES.values() if family.match(architecture)]
    return found[0] if len(found) == 1 else None

"""Encoders: names of segmentation-models-pytorch, of timm, and of DINOv2, and what older spellings of them mean.

A test (`tests/train/configs/registries/test_families.py`) checks each list against its library.
"""

import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SMP_ENCODERS = tuple(
    """
    densenet121 densenet161 densenet169 densenet201 dpn107 dpn131 dpn68 dpn68b dpn92 dpn98
    efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 efficientnet-b4 efficientnet-b5 efficientnet-b6
    efficientnet-b7 inceptionresnetv2 inceptionv4 mit_b0 mit_b1 mit_b2 mit_b3 mit_b4 mit_b5 mobilenet_v2
    mobileone_s0 mobileone_s1 mobileone_s2 mobileone_s3 mobileone_s4 resnet101 resnet152 resnet18 resnet34 resnet50
    resnext101_32x16d resnext101_32x32d resnext101_32x48d resnext101_32x4d resnext101_32x8d resnext50_32x4d
    se_resnet101 se_resnet152 se_resnet50 se_resnext101_32x4d se_resnext50_32x4d senet154
    timm-efficientnet-b0 timm-efficientnet-b1 timm-efficientnet-b2 timm-efficientnet-b3 timm-efficientnet-b4
    timm-efficientnet-b5 timm-efficientnet-b6 timm-efficientnet-b7 timm-efficientnet-b8 timm-efficientnet-l2
    timm-skresnet18 timm-skresnet34 timm-skresnext50_32x4d timm-tf_efficientnet_lite0 timm-tf_efficientnet_lite1
    timm-tf_efficientnet_lite2 timm-tf_efficientnet_lite3 timm-tf_efficientnet_lite4
    vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn xception
    """.split()  # noqa: SIM905 - names, several a line
)
DINOV2_BACKBONES = tuple(f"dinov2_{size}{reg}" for size in "sblg" for reg in ("", "_reg"))


@cache
def timm_models() -> frozenset[str]:
    """Return the names of timm's architectures, read from its source: importing timm would import torch (seconds)."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    registered = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
    return frozenset(name for file in folder.glob("*.py") for name in registered.findall(file.read_text("utf-8")))


def resolve_smp(name: str) -> str | None:
    """Return the canonical name of an encoder: SMP's own, or `tu-NAME` for timm's; None where there is none.

    Names of the earlier tool are timm's without the prefix (`tf_efficientnetv2_m`).
    """
    if name in SMP_ENCODERS:
        return name
    bare = name.removeprefix("tu-")
    # timm appends the weights' tag to an architecture: vit_base_patch14_dinov2.lvd142m
    return f"tu-{bare}" if bare.split(".")[0] in timm_models() else None


def resolve_dinov2(name: str) -> str | None:
    """Return the DINOv2 or DINOv3 backbone that `name` means: a short name, torch.hub's, or one of timm's."""
    bare = name.removeprefix("tu-")
    torch_hub = re.fullmatch(r"dinov2_vit([sblg])14(_reg)?", bare)
    if torch_hub:
        return f"dinov2_{torch_hub[1]}{torch_hub[2] or ''}"
    if bare in DINOV2_BACKBONES:
        return bare
    return bare if re.match("vit_.*dinov[23]", bare) and bare.split(".")[0] in timm_models() else None


@dataclass(frozen=True)
class Backbones:
    """Encoders that a family of networks takes.

    Attributes:
        kind: Word for one of them in a message.
        default: Encoder where the config names none.
        resolve: Function from a name to the canonical one; None where there is none.
        known: Function that returns all names, to find the nearest one.
        allowed: Names that are allowed, in words.
    """

    kind: str
    default: str
    resolve: Callable[[str], str | None]
    known: Callable[[], Iterable[str]]
    allowed: str


SMP = Backbones(
    kind="encoder",
    default="resnet34",
    resolve=resolve_smp,
    known=lambda: (*SMP_ENCODERS, *timm_models()),
    allowed="an encoder of segmentation-models-pytorch, such as resnet34 or mit_b3, or tu-NAME with a name of timm's",
)
DINOV2 = Backbones(
    kind="DINOv2 backbone",
    default="dinov2_s",
    resolve=resolve_dinov2,
    known=lambda: (*DINOV2_BACKBONES, *(name for name in timm_models() if "dinov" in name)),
    allowed=f"{', '.join(DINOV2_BACKBONES)}, or a vit_*dinov2* or vit_*dinov3* of timm's",
)

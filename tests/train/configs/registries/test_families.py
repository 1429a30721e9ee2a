"""Registries of networks and encoders against the libraries that they name, which the config layer does not import."""

import inspect
from typing import Literal, get_args, get_origin

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from inference.common.errors import UserError
from train.configs.network import ModelOpts
from train.configs.registries.encoders import (
    DINOV2_BACKBONES,
    SMP_ENCODERS,
    resolve_dinov2,
    resolve_smp,
    timm_models,
)
from train.configs.registries.families import FAMILIES, family_of
from train.model import MODELS, SegmentationModel
from train.models.aerial_former import AerialFormerNetwork
from train.models.aerial_former.aerial_former import VARIANTS
from train.models.dinov2 import DINOv2, timm_name

FAMILY = FAMILIES["SMPSegmentationModel"]
SMP = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
# Of SMP's constructors, what opts don't set: other keys do, or it would change what comes out.
NOT_OPTIONS = {"encoder_name", "in_channels", "classes", "activation", "aux_params", "kwargs"}
# Of opts, what SMP's constructors don't name: for encoders of timm's, and one that is accepted and not needed.
OURS = {"encoder_params", "encoder_indices", "head_upsampling"}


def parameters(cls):
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
    }


def test_architectures_are_smps():
    assert set(FAMILY.architectures) == set(SMP)


@pytest.mark.parametrize("architecture", FAMILY.architectures)
def test_options_of_an_architecture_are_its_constructors(architecture):
    signature, row = parameters(SMP[architecture]), FAMILY.architectures[architecture]
    assert row.opts == (set(signature) - NOT_OPTIONS) | OURS
    channels = signature.get("decoder_channels")
    assert row.channels == (None if channels is None else "number" if channels.annotation is int else "list")
    strides = signature.get("encoder_output_stride")
    assert row.strides == (get_args(strides.annotation) if strides else ())


def test_the_schema_has_the_options_that_some_network_takes_and_no_other():
    rows = [row for family in FAMILIES.values() for row in family.architectures.values()]
    assert set(ModelOpts.model_fields) == set().union(*(row.opts for row in rows))
    assert all((row.channels is not None) == ("decoder_channels" in row.opts) for row in rows)


def literals(field):
    found, waiting = [], [ModelOpts.model_fields[field].annotation]
    while waiting:
        part = waiting.pop()
        found += get_args(part) if get_origin(part) is Literal else []
        waiting += [] if get_origin(part) is Literal else get_args(part)
    return found


@pytest.mark.parametrize(
    ("architecture", "option", "value"),
    [("Unet", "decoder_use_norm", value) for value in (True, False, *literals("decoder_use_norm"))]
    + [("Unet", "decoder_attention_type", value) for value in literals("decoder_attention_type")]
    + [("Unet", "decoder_interpolation", value) for value in literals("decoder_interpolation")]
    + [("FPN", "decoder_merge_policy", value) for value in literals("decoder_merge_policy")],
)
def test_every_choice_of_an_option_works(architecture, option, value):
    small = {"encoder_depth": 3, "decoder_channels": [16, 16, 16]} if architecture == "Unet" else {}
    network = SMP[architecture]("mobileone_s0", encoder_weights=None, **{option: value}, **small)
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 3, 32, 64)).shape == (1, 1, 32, 64)


def test_readout_choices_are_smps():
    assert set(literals("decoder_readout")) == set(get_args(parameters(SMP["DPT"])["decoder_readout"].annotation))


def test_encoders_are_smps():
    assert set(SMP_ENCODERS) == set(smp.encoders.get_encoder_names())


def test_names_read_off_timms_source_are_those_it_registers():
    assert timm_models() == set(timm.list_models())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet34", "resnet34"),
        ("tu-resnet34", "tu-resnet34"),
        ("tf_efficientnetv2_m", "tu-tf_efficientnetv2_m"),
        ("tu-tf_efficientnetv2_m", "tu-tf_efficientnetv2_m"),
        ("maxvit_tiny_tf_512.in1k", "tu-maxvit_tiny_tf_512.in1k"),
        ("timm-efficientnet-b0", "timm-efficientnet-b0"),
        ("resnet35", None),
        ("tu-", None),
        ("", None),
        ("na", None),
    ],
)
def test_old_names_of_encoders(name, meant):
    assert resolve_smp(name) == meant


def test_aerialformer_takes_what_its_constructor_takes():
    family, own = FAMILIES["AerialFormer"], {"variant", "in_channels", "classes"}
    for row in family.architectures.values():
        assert row.opts == set(parameters(AerialFormerNetwork)) - own
    assert {name[-1] for name in family.architectures} == set(VARIANTS)
    assert [family.match(name) for name in ("na", "AerialFormer", "aerialformer_b", "aerial")] == [
        "AerialFormer-T",
        "AerialFormer-T",
        "AerialFormer-B",
        None,
    ]
    assert [family.resolve(name) for name in (None, "NA", "none", "resnet34", "")] == ["na", "na", "na", None, None]


def test_dinov2_takes_what_its_constructor_takes():
    family, own = FAMILIES["DINOv2Segmentation"], {"backbone", "in_channels", "classes", "decoder"}
    taken = set(parameters(DINOv2)) - own | {"encoder_params"}
    assert {name: row.opts for name, row in family.architectures.items()} == {
        "multilevel": taken,
        "linear": taken - {"decoder_channels"},
    }
    assert get_args(parameters(DINOv2)["decoder"].annotation) == tuple(family.architectures)


@pytest.mark.parametrize(
    "name",
    [
        *DINOV2_BACKBONES,
        "dinov2_vits14",
        "dinov2_vitb14_reg",
        "vit_base_patch14_reg4_dinov2",
        "tu-vit_small_patch16_dinov3",
        "dinov2_x",
        "resnet34",
        "convnext_small.dinov3_lvd1689m",
        "vit_base_patch16_224",
        "",
    ],
)
def test_dinov2_backbones_are_those_that_the_network_finds(name):
    resolved = resolve_dinov2(name)
    try:
        expected = timm_name(name)
    except UserError:
        expected = None
    assert (resolved and timm_name(resolved)) == expected


@pytest.mark.parametrize("name", FAMILY.architectures)
def test_every_spelling_of_an_architecture(name):
    for spelling in (name, name.lower(), name.upper(), name.replace("Plus", "+")):
        assert FAMILY.match(spelling) == name
    assert FAMILY.match(f"{name}x") is None


def test_spellings_of_the_readme():
    assert FAMILY.match("SegFormer") == "Segformer"
    assert FAMILY.match("UNet++") == "UnetPlusPlus"
    assert FAMILY.match("DeepLabV3+") == "DeepLabV3Plus"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_family_is_built_by_the_class_of_its_row(family):
    assert MODELS[family.name] is family.load()
    assert issubclass(family.load(), SegmentationModel)
    assert family.match(None) == family.default
    assert family.default in family.architectures
    assert family.resolve(None) is not None


def test_the_family_of_an_architecture():
    found = {name: family_of(name) for name in ("unet", "AerialFormer-B", "linear", "na", "Unett")}
    assert {name: family and family.name for name, family in found.items()} == {
        "unet": "SMPSegmentationModel",
        "AerialFormer-B": "AerialFormer",
        "linear": "DINOv2Segmentation",
        "na": None,  # of two families
        "Unett": None,
    }

# ruff: noqa: E501 - tables read better with a row in a line
"""The tables of names against the libraries that they speak of, which the config layer does not import."""

import inspect
from typing import Literal, get_args, get_origin

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from inference.common.errors import UserError
from train.configs import tables
from train.configs.network import LossOpts, ModelOpts
from train.data.demo import demo_data_dir
from train.losses import LOSSES
from train.metrics import scores
from train.models.aerial_former import AerialFormer
from train.models.aerial_former.aerial_former import VARIANTS
from train.models.dinov2 import DINOv2, timm_name

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
    assert set(tables.SMP_ARCHITECTURES) == set(SMP)


@pytest.mark.parametrize("architecture", tables.SMP_ARCHITECTURES)
def test_options_of_an_architecture_are_its_constructors(architecture):
    signature = parameters(SMP[architecture])
    assert tables.SMP_ARCHITECTURES[architecture] == (set(signature) - NOT_OPTIONS) | OURS
    if "decoder_channels" in signature:
        assert (signature["decoder_channels"].annotation is not int) == (architecture in tables.CHANNELS_LISTED)
    strides = signature.get("encoder_output_stride")
    assert tables.OUTPUT_STRIDES.get(architecture) == (get_args(strides.annotation) if strides else None)


def test_the_schema_has_the_options_that_some_network_takes_and_no_other():
    taken = set(tables.AERIALFORMER_OPTS | tables.DINOV2_OPTS).union(*tables.SMP_ARCHITECTURES.values())
    assert set(ModelOpts.model_fields) == taken


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
    assert set(tables.SMP_ENCODERS) == set(smp.encoders.get_encoder_names())


def test_names_read_off_timms_source_are_those_it_registers():
    assert tables.timm_models() == set(timm.list_models())


@pytest.mark.parametrize(
    ("name", "meant", "told"),
    [
        ("resnet34", "resnet34", False),
        ("tu-resnet34", "tu-resnet34", False),
        ("tf_efficientnetv2_m", "tu-tf_efficientnetv2_m", True),
        ("tu-tf_efficientnetv2_m", "tu-tf_efficientnetv2_m", False),
        ("maxvit_tiny_tf_512.in1k", "tu-maxvit_tiny_tf_512.in1k", True),
        ("timm-efficientnet-b0", "timm-efficientnet-b0", False),
        ("resnet35", None, False),
        ("tu-", None, False),
        ("", None, False),
        ("na", None, False),
    ],
)
def test_old_names_of_encoders(name, meant, told):
    found, notice = tables.resolve_backbone(name)
    assert found == meant
    assert bool(notice) is told


def test_aerialformer_takes_what_its_constructor_takes():
    own = {"variant", "in_channels", "classes"}
    assert set(parameters(AerialFormer)) - own == tables.AERIALFORMER_OPTS
    sizes = {
        tables.match_aerialformer(name)[-1] for name in (*tables.AERIALFORMER_ARCHITECTURES, "na", "aerialformer_b")
    }
    assert sizes == set(VARIANTS)


def test_dinov2_takes_what_its_constructor_takes():
    own = {"backbone", "in_channels", "classes", "decoder"}
    assert set(parameters(DINOv2)) - own | {"encoder_params"} == tables.DINOV2_OPTS
    assert get_args(parameters(DINOv2)["decoder"].annotation) == tables.DINOV2_DECODERS


@pytest.mark.parametrize(
    "name",
    [
        *tables.DINOV2_BACKBONES,
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
    resolved = tables.resolve_dinov2(name)
    try:
        expected = timm_name(name)
    except UserError:
        expected = None
    assert (resolved and timm_name(resolved)) == expected


# A value that suits each option, for num_classes = 3.
VALUES = {
    "mode": None, "from_logits": True, "smooth": 1.0, "eps": 0.1, "log_loss": True, "classes": [1], "class_weights": [1.0, 2.0, 3.0],
    "alpha": 0.5, "beta": 0.5, "gamma": 1.0, "delta": 0.5, "reduction": "mean", "normalized": True, "reduced_threshold": 0.5,
    "label_smoothing": 0.1, "pos_weight": 2.0, "per_image": True, "focal_kwargs": {"gamma": 1.0}, "dice_kwargs": {"smooth": 1.0},
}  # fmt: skip


def takes(name, option):
    classes = 1 if name == "BCELoss" else 3
    value = VALUES[option][:2] if option == "class_weights" and classes == 1 else VALUES[option]
    try:
        LOSSES[name](num_classes=classes, ignore_index=255, **{option: value})
    except TypeError:
        return False
    return True


def test_losses_are_ours():
    assert set(tables.LOSSES) == set(LOSSES)


@pytest.mark.parametrize("name", tables.LOSSES)
def test_options_of_a_loss_are_those_it_can_be_built_with(name):
    assert {option for option in VALUES if takes(name, option)} == tables.LOSSES[name] - {"ignore_index"}


def test_the_schema_has_the_options_that_some_loss_takes_and_no_other():
    assert set(LossOpts.model_fields) == set(VALUES) | {"ignore_index"} == set().union(*tables.LOSSES.values())


@pytest.mark.parametrize("name", tables.LOSSES)
def test_region_losses_are_those_that_refuse_classes_where_there_is_one(name):
    if "class_weights" in tables.LOSSES[name]:
        try:
            LOSSES[name](num_classes=1, ignore_index=255, class_weights=[1.0, 2.0])
            refused = False
        except ValueError:
            refused = True
        assert refused == (name in tables.REGION_LOSSES)
    else:
        assert name not in tables.REGION_LOSSES or "classes" in tables.LOSSES[name]


@pytest.mark.parametrize("name", tables.LOSSES)
def test_every_spelling_of_a_loss(name):
    bare = name.removesuffix("Loss")
    for spelling in (name, bare, name.lower(), bare.upper(), f" {bare} "):
        assert tables.match_loss(spelling) == name
    assert tables.match_loss(bare + "x") is None
    assert tables.match_loss("") is None
    assert tables.match_loss("loss") is None


@pytest.mark.parametrize("name", tables.SMP_ARCHITECTURES)
def test_every_spelling_of_an_architecture(name):
    for spelling in (name, name.lower(), name.upper(), name.replace("Plus", "+")):
        assert tables.match_architecture(spelling) == name
    assert tables.match_architecture(f"{name}x") is None


def test_spellings_of_the_readme():
    assert tables.match_architecture("SegFormer") == "Segformer"
    assert tables.match_architecture("UNet++") == "UnetPlusPlus"
    assert tables.match_architecture("DeepLabV3+") == "DeepLabV3Plus"
    assert tables.match_loss("Lovász") == "LovaszLoss"
    assert tables.match_loss("cross-entropy") == "CELoss"


def test_metrics_are_those_that_are_measured():
    measured = scores(torch.tensor([[3, 1], [0, 2]]), ["background", "kelp"], target_only=True)
    assert set(tables.METRICS) == {name for name in measured if "/" not in name} | {"loss"}


def test_the_demo_data_set_is_the_one_that_exists():
    with pytest.raises(UserError, match=f"allowed: '{tables.DEMO}'"):
        demo_data_dir("demo://other")


def test_default_ignore_index_is_no_class():
    assert [tables.default_ignore_index(n) for n in (1, 2, 3, 255)] == [2, 2, 255, 255]

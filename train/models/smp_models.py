"""Models of Segmentation Models PyTorch (SMP) with pretrained encoders and checked options."""

import difflib
import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

from inference.common.errors import UserError
from train.models.pretrained import (
    Weights,
    fetch_smp,
    fetch_timm,
    hint,
    local_file_options,
    one_line,
    resolve_weights,
)
from train.models.weights_file import load_smp_encoder, load_timm_encoder

_OWN_KEYS = ("encoder_name", "encoder_weights", "in_channels", "classes")  # SMP's parameters that are arguments here
_NOT_LOGITS = ("activation", "aux_params")  # options with which the output would not be logits
_DEPRECATED = ("decoder_use_batchnorm", "psp_use_batchnorm", "upscale_mode")  # SMP still accepts them, with a warning
# Without these a DPT's ViT has a classifier without a gradient, and accepts one image size only.
_DPT_OPTIONS = {"num_classes": 0, "dynamic_img_size": True}


def build_smp_model(
    architecture: str, backbone: str, in_channels: int, classes: int, encoder_weights: Weights = None, **opts: Any
) -> nn.Module:
    """Build a model of SMP and load the weights of its encoder.

    Args:
        architecture: SMP's name in any case, such as "UnetPlusPlus".
        backbone: One of SMP's encoders, or `tu-NAME` for any of timm's.
        in_channels: Bands of the image; a first layer pretrained on three bands is adapted as in timm.
        classes: Channels of the logits.
        encoder_weights: Pretrained weights, see `train.models.pretrained`.
        **opts: Further arguments of the architecture; for `tu-` encoders also of `timm.create_model`.

    Returns:
        The model, from `(N, B, H, W)` to logits `(N, C, H, W)`.

    Raises:
        UserError: The weights are not available or don't match the encoder, or SMP refuses the combination or an
            option.
    """
    is_timm, name = backbone.startswith("tu-"), backbone.removeprefix("tu-")
    _check_backbone(name, is_timm)
    cls = smp.MODEL_ARCHITECTURES_MAPPING[architecture.lower()]
    opts, timm_opts = check_options(opts, cls, more=is_timm)
    source = resolve_weights(encoder_weights)
    build = partial(_construct, cls, in_channels=in_channels, classes=classes)
    if not is_timm:
        file = fetch_smp(name, source) if isinstance(source, str) else source
        model: nn.Module = build(name, opts)
        if file is not None:
            load_smp_encoder(model.get_submodule("encoder"), file, name, in_channels)
        return model
    if cls is smp.DPT:
        opts = {**_DPT_OPTIONS, **opts}
    if isinstance(source, str):
        name, file = fetch_timm(name, source)
        model = build(f"tu-{name}", {**opts, **local_file_options(file)}, pretrained=True)
    else:
        model = build(f"tu-{name}", opts)
        if source is not None:
            load_timm_encoder(model.get_submodule("encoder"), source, name, in_channels, **timm_opts)
    if cls is smp.DPT:
        _finish_dpt(model.get_submodule("encoder.model"), opts.get("encoder_output_indices"), name)
    return model


def _finish_dpt(vit: Any, indices: Sequence[int] | None, name: str) -> None:
    """Remove the layers that DPT's decoder doesn't read; refuse a patch size without strides of 4 to 32."""
    patch = vit.patch_embed.patch_size[0]
    if patch & (patch - 1):
        raise UserError(f"DPT can't be built on {name}: its patches are {patch} pixels wide, not a power of two")
    vit.prune_intermediate_layers(indices or len(vit.blocks), prune_norm=True)


def _construct(
    cls: type, encoder_name: str, opts: dict[str, Any], *, in_channels: int, classes: int, pretrained: bool = False
) -> Any:
    weights = True if pretrained else None  # not False, which SMP treats as True
    try:
        return cls(encoder_name=encoder_name, encoder_weights=weights, in_channels=in_channels, classes=classes, **opts)
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{cls.__name__} can't be built on {encoder_name}: {one_line(error)}") from error


def check_options(opts: dict[str, Any], cls: type, *, more: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check options against an architecture of SMP, which ignores unknown ones without an error.

    Args:
        opts: Options by name.
        cls: Architecture.
        more: True if options that the architecture does not have may belong to timm, which checks its own.

    Returns:
        All options to pass on, and those of them that belong to timm.

    Raises:
        UserError: An option is unknown, or the output would not be logits.
    """
    signature = inspect.signature(cls).parameters.values()
    known = [p.name for p in signature if p.kind is not p.VAR_KEYWORD and p.name not in _OWN_KEYS + _NOT_LOGITS]
    opts = {key: value for key, value in opts.items() if key not in _NOT_LOGITS or value is not None}
    others = {key: value for key, value in opts.items() if key not in (*known, *_DEPRECATED)}
    for key in others:
        if not more or key in _NOT_LOGITS or difflib.get_close_matches(key, known, n=1, cutoff=0.9):
            raise UserError(
                f"opts.{key}: not an option of {cls.__name__}{hint(key, known)} (allowed: {', '.join(known)})"
            )
    return opts, others


def _check_backbone(name: str, is_timm: bool) -> None:
    if is_timm and not timm.is_model(name):
        raise UserError(f"backbone: timm has no model {name!r}{hint(name, timm.list_models())}")
    if not is_timm and name not in smp.encoders.encoders:
        raise UserError(f"backbone: SMP has no encoder {name!r}{hint(name, list(smp.encoders.encoders))}")

"""The one place where pretrained weights are obtained: from the Hugging Face hub, its cache, or a local file.

`encoder_weights` in a config is

- `null` or `false`: random weights; nothing is looked for, nothing is downloaded,
- `imagenet` or `true`: the encoder's usual weights (of DINOv2 those are of its own pretraining, not ImageNet's),
- another name: one of SMP's (`advprop`, `noisy-student`, `ssl`), or for an encoder of timm's a tag (`in12k_ft_in1k`),
- a path: a local `.pth`, `.pt`, `.ckpt`, `.bin` or `.safetensors` file.

Named weights become a local file first: out of the hub's cache without asking the network, else by a download.
Without a network that ends within seconds, not after the hub's minute of retries, in one line that names the
remedies.
"""

import difflib
import inspect
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from timm.models import get_pretrained_cfg, is_model_pretrained
from torch import nn

from inference.common.errors import UserError
from train.models.weights_file import load_smp_encoder, load_timm_encoder

Weights = str | Path | bool | None

_SUFFIXES = {".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar"}
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")  # in timm's own order
_OWN_KEYS = ("encoder_name", "encoder_weights", "in_channels", "classes")  # of SMP's signatures; arguments here
_NOT_LOGITS = ("activation", "aux_params")  # would make the output something else
_DEPRECATED = ("decoder_use_batchnorm", "psp_use_batchnorm", "upscale_mode")  # SMP still takes them, with a warning
# Without these a DPT's ViT has a classifier that no gradient reaches, and takes one image size only.
_DPT_OPTIONS = {"num_classes": 0, "dynamic_img_size": True}
_PROBE_S = 5.0  # how long the hub may take to answer at all, name resolution included


def load_smp(
    architecture: str, backbone: str, in_channels: int, classes: int, encoder_weights: Weights = None, **opts: Any
) -> nn.Module:
    """Builds a model of Segmentation Models PyTorch (SMP) and gives its encoder the weights asked for.

    Args:
        architecture: SMP's name in any case, such as "UnetPlusPlus".
        backbone: One of SMP's encoders, or `tu-NAME` for any of timm's.
        in_channels: Bands of the image; a first layer pretrained on three bands is adapted as timm does.
        classes: Channels of the logits.
        encoder_weights: See the module.
        **opts: What else the architecture takes; for `tu-` encoders also what `timm.create_model` takes.

    Returns:
        The model: `(N, B, H, W)` to logits `(N, C, H, W)`.

    Raises:
        UserError: The weights can't be had or don't fit, or SMP refuses the combination or an option.
    """
    is_timm, name = backbone.startswith("tu-"), backbone.removeprefix("tu-")
    _check_backbone(name, is_timm)
    cls = smp.MODEL_ARCHITECTURES_MAPPING[architecture.lower()]
    opts, timm_opts = check_options(opts, cls, more=is_timm)
    source = _resolve(encoder_weights)
    build = partial(_construct, cls, in_channels=in_channels, classes=classes)
    if not is_timm:
        file = _fetch_smp(name, source) if isinstance(source, str) else source
        model: nn.Module = build(name, opts)
        if file is not None:
            load_smp_encoder(model.get_submodule("encoder"), file, name, in_channels)
        return model
    if cls is smp.DPT:
        opts = {**_DPT_OPTIONS, **opts}
    if isinstance(source, str):
        name, file = _fetch_timm(name, source)
        model = build(f"tu-{name}", {**opts, **_from_file(file)}, pretrained=True)
    else:
        model = build(f"tu-{name}", opts)
        if source is not None:
            load_timm_encoder(model.get_submodule("encoder"), source, name, in_channels, **timm_opts)
    if cls is smp.DPT:
        _finish_dpt(model.get_submodule("encoder.model"), opts.get("encoder_output_indices"), name)
    return model


def _finish_dpt(vit: Any, indices: Sequence[int] | None, name: str) -> None:
    """Cuts off what the decoder does not read, and refuses patches from which it can't make strides of 4 to 32."""
    patch = vit.patch_embed.patch_size[0]
    if patch & (patch - 1):
        raise UserError(f"DPT can't be built on {name}: its patches are {patch} pixels wide, not a power of two")
    vit.prune_intermediate_layers(indices or len(vit.blocks), prune_norm=True)


def _construct(
    cls: type, encoder_name: str, opts: dict[str, Any], *, in_channels: int, classes: int, pretrained: bool = False
) -> Any:
    weights = True if pretrained else None  # SMP takes `False` for True
    try:
        return cls(encoder_name=encoder_name, encoder_weights=weights, in_channels=in_channels, classes=classes, **opts)
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{cls.__name__} can't be built on {encoder_name}: {_one_line(error)}") from error


def check_options(opts: dict[str, Any], cls: type, *, more: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Checks options against an architecture of SMP's, which would swallow those that it does not know.

    Args:
        opts: Options by name.
        cls: The architecture.
        more: Whether options that the architecture does not have may be meant for timm, which checks its own.

    Returns:
        The options to pass on, and those among them that are meant for timm.

    Raises:
        UserError: An option is not known, or makes the output something else than logits.
    """
    signature = inspect.signature(cls).parameters.values()
    known = [p.name for p in signature if p.kind is not p.VAR_KEYWORD and p.name not in _OWN_KEYS + _NOT_LOGITS]
    opts = {key: value for key, value in opts.items() if key not in _NOT_LOGITS or value is not None}
    others = {key: value for key, value in opts.items() if key not in (*known, *_DEPRECATED)}
    for key in others:
        if not more or key in _NOT_LOGITS or difflib.get_close_matches(key, known, n=1, cutoff=0.9):
            raise UserError(
                f"opts.{key}: not an option of {cls.__name__}{_hint(key, known)} (allowed: {', '.join(known)})"
            )
    return opts, others


def _from_file(file: Path) -> dict[str, Any]:
    """Has timm load what timm publishes, as it knows the oddities of its files, but from this file, without the hub."""
    return {"pretrained_cfg_overlay": {"file": str(file)}}


def build_timm(
    name: str,
    in_channels: int,
    encoder_weights: Weights = None,
    *,
    indices: Sequence[int],
    keep_norm: bool = True,
    **kwargs: Any,
) -> Any:
    """Builds a timm backbone that has what its intermediate features need and nothing else.

    What lies behind the last feature (blocks, norm, classifier) is cut off: it would cost memory, and parameters that
    no gradient reaches stop distributed training.

    Args:
        name: timm's name, with or without a tag.
        in_channels: Bands of the image; a first layer pretrained on three bands is adapted as timm does.
        encoder_weights: See the module.
        indices: The blocks or stages whose output is used, from 0.
        keep_norm: Whether the final norm is used too.
        **kwargs: What else `timm.create_model` takes.

    Returns:
        The timm model, with `forward_intermediates`.

    Raises:
        UserError: The weights can't be had or don't fit.
    """
    source = _resolve(encoder_weights)
    extra: dict[str, Any] = {}
    if isinstance(source, str):
        name, file = _fetch_timm(name, source)
        extra = {"pretrained": True, **_from_file(file)}
    model = timm.create_model(name, in_chans=in_channels, num_classes=0, **extra, **kwargs)
    model.prune_intermediate_layers(list(indices), prune_norm=not keep_norm, prune_head=True)
    if isinstance(source, Path):
        load_timm_encoder(model, source, name, in_channels, **kwargs)
    return model


def _resolve(weights: Weights) -> str | Path | None:
    """`None` for random weights, a path, or a name; "imagenet" stands for the usual ones."""
    if weights is None or weights is False:
        return None
    if weights is True:
        return "imagenet"
    path = Path(weights).expanduser()
    if isinstance(weights, Path) or len(path.parts) > 1 or path.suffix.lower() in _SUFFIXES:
        if not path.is_file():
            raise UserError(f"encoder_weights: there is no file {path}")
        return path
    # As the earlier tool's files have it: ImageNet.
    return "imagenet" if weights.lower() == "imagenet" else weights


def _fetch_smp(name: str, weights: str) -> Path:
    """The local file of weights for one of SMP's own encoders."""
    settings = smp.encoders.encoders[name]["pretrained_settings"]
    if weights not in settings:
        raise _no_such_weights(weights, name, list(settings))
    return _fetch(settings[weights]["repo_id"], ["model.safetensors"], settings[weights]["revision"], weights, name)


def _fetch_timm(name: str, weights: str) -> tuple[str, Path]:
    """The full name, tag included, and the local file of weights for a model of timm's."""
    if weights != "imagenet":
        name = f"{name.partition('.')[0]}.{weights}"
    architecture = name.partition(".")[0]
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if not is_model_pretrained(name):
        raise _no_such_weights(weights, architecture, tags)
    config = get_pretrained_cfg(name)
    if not config.hf_hub_id:
        raise UserError(
            f"encoder_weights: timm has the weights of {name} at {config.url} only: download them, "
            "then give the file (encoder_weights: /path/to/file)"
        )
    files = [config.hf_hub_filename] if config.hf_hub_filename else _TIMM_FILES
    return name, _fetch(config.hf_hub_id, files, None, config.tag or weights, architecture)


def _fetch(repo: str, files: Sequence[str], revision: str | None, weights: str, name: str) -> Path:
    """The first of these files that the hub's cache has, else that the hub has."""
    for file in files:
        cached = try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    reason = _why_unreachable()
    if reason is None:
        for file in files:
            try:
                return Path(hf_hub_download(repo, file, revision=revision))
            except EntryNotFoundError as error:
                reason = _one_line(error)
            except (
                Exception
            ) as error:  # the hub's client has let through a different HTTP library's errors in each version
                reason = _one_line(error)
                break
    raise UserError(
        f"encoder_weights: can't get the {weights!r} weights of {name} ({constants.ENDPOINT}/{repo}): {reason}; "
        f"nor are they in the cache {constants.HF_HUB_CACHE}. "
        "Give a local file (encoder_weights: /path/to/file) or start from random weights (encoder_weights: null)"
    )


def _why_unreachable() -> str | None:
    """Asks the hub once, as a download would (same proxies, same certificates): why it does not answer, or None."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            status = get_session().head(constants.ENDPOINT, timeout=3).status_code
            outcome.append(f"the hub answers with status {status}" if status >= 500 else None)
        except Exception as error:  # whatever the reason, a download would fail for it as well
            outcome.append(f"the hub can't be reached ({_one_line(error)})")

    # A daemon thread, since nothing else puts a limit on name resolution, and none may hold up the exit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_S)
    return outcome[0] if outcome else f"the hub does not answer within {_PROBE_S:.0f} s"


def _no_such_weights(weights: str, name: str, choices: list[str]) -> UserError:
    if not choices:
        return UserError(
            f"encoder_weights: nobody publishes pretrained weights for {name}: "
            "give a local file (encoder_weights: /path/to/file) or encoder_weights: null"
        )
    allowed = f"allowed: {', '.join(choices)}, a local file, or null"
    return UserError(f"encoder_weights: {name} has no weights {weights!r}{_hint(weights, choices)} ({allowed})")


def _check_backbone(name: str, is_timm: bool) -> None:
    if is_timm and not timm.is_model(name):
        raise UserError(f"backbone: timm has no model {name!r}{_hint(name, timm.list_models())}")
    if not is_timm and name not in smp.encoders.encoders:
        raise UserError(f"backbone: SMP has no encoder {name!r}{_hint(name, list(smp.encoders.encoders))}")


def _hint(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    return text[:200] or type(error).__name__

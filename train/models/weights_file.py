"""Loading of a local weights file into an encoder, without running code and with strict checks.

Files come from timm, SMP, torchvision, the authors of a paper, or a checkpoint of this project. They differ in nesting
(`{"state_dict": ...}`), prefixes (`module.`, `model.encoder.`), names (timm writes `stages_0` for `stages.0` in a
feature extractor) and in layers behind the features, such as a classifier. These differences are resolved here. Any
remaining difference is an error, because a network that keeps random layers is hard to tell from one that trains badly.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from inference.common.documents import check_regular_file
from inference.common.errors import UserError, first_line
from inference.common.torch_files import read_torch_file

Tensors = dict[str, Tensor]

# Keys under which checkpoints nest their tensors; averaged weights are preferred.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_IN_A_NETWORK = re.compile(r"^(?:(?:module|_orig_mod|model|net|network)\.)*encoder\.")
_OUTER_PREFIX = re.compile(r"^(?:module|_orig_mod|model|backbone)\.")
_SHOWN = 3  # names of each kind in an error


def read_tensors(path: Path) -> Tensors:
    """Read a `.safetensors` file or a PyTorch checkpoint without running code from it.

    Args:
        path: Path of the file. The format is detected from the content, not from the suffix.

    Returns:
        Names to tensors of the encoder, without the prefixes of wrappers and of the whole network.

    Raises:
        UserError: There is no such file, it has another format, it is damaged, or loading it could run code.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    if start[8:] != b"{":
        content = read_torch_file(path, torch, "weights")
    else:  # safetensors: eight bytes of length, then a JSON header
        try:
            content = load_file(path, device="cpu")
        except Exception as error:  # safetensors has exceptions of its own for a damaged file
            raise UserError(
                f"{path}: can't be read as weights, it may be damaged or truncated: {first_line(error)} (copy it again)"
            ) from None
    return _strip_prefixes(_unwrap(content, path))


def _unwrap(content: Any, path: Path) -> Tensors:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: contains no named tensors (allowed: a state_dict)")
    return tensors


def _strip_prefixes(tensors: Tensors) -> Tensors:
    """Select the encoder of a whole network, and remove the prefixes of wrappers."""
    if inside := {name: found.end() for name in tensors if (found := _IN_A_NETWORK.match(name))}:
        tensors = {name[end:]: tensors[name] for name, end in inside.items()}
    while all(_OUTER_PREFIX.match(name) for name in tensors):
        tensors = {_OUTER_PREFIX.sub("", name): tensor for name, tensor in tensors.items()}
    return tensors


def load_smp_encoder(encoder: nn.Module, path: Path, backbone: str, in_channels: int) -> None:
    """Load a file into one of SMP's own encoders (not a `tu-` one), in place.

    Args:
        encoder: Encoder of an SMP model.
        path: File with SMP's names of the tensors; many are torchvision's. A classifier is ignored.
        backbone: Name of the encoder, for messages.
        in_channels: Bands of the encoder; a first layer for three bands is adapted.

    Raises:
        UserError: The file can't be read, or does not match the encoder.
    """
    tensors = _adapt_bands(read_tensors(path), encoder.state_dict(), in_channels)
    try:
        encoder.load_state_dict(tensors)  # SMP's encoders drop the classifier and compare the rest strictly
    except RuntimeError as error:
        raise _misfit(path, backbone, encoder.state_dict(), tensors, ignored=()) from error


def load_timm_encoder(encoder: nn.Module, path: Path, name: str, in_channels: int, **kwargs: Any) -> None:
    """Load a file into a timm model (whole, pruned, or wrapped by SMP), in place.

    Args:
        encoder: Model.
        path: File with timm's names, with the names of the wrapped model, or in a format that timm can convert, such as
            the original ones of Swin and DINOv2. Layers of the whole model that the encoder does not have are ignored.
        name: timm's name of the model.
        in_channels: Bands of the encoder; a first layer for three bands is adapted.
        **kwargs: Further arguments with which the model was created.

    Raises:
        UserError: The file can't be read, or does not match the model.
    """
    tensors = read_tensors(path)
    whole = _meta_model(name, **kwargs)
    wanted = encoder.state_dict()
    ignored = whole.state_dict().keys()
    for candidate in (tensors, _convert(tensors, whole)):
        renamed = _rename(_adapt_bands(candidate, wanted, in_channels), wanted)
        if not any(_differences(wanted, renamed, ignored)):
            # Not strict, because of ignored layers and old files without num_batches_tracked.
            encoder.load_state_dict(renamed, strict=False)
            return
    raise _misfit(path, name, wanted, _rename(_adapt_bands(tensors, wanted, in_channels), wanted), ignored)


def _meta_model(name: str, **kwargs: Any) -> nn.Module:
    """Return the whole timm model on the meta device: names and shapes without storage."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, **kwargs)
    return model


def _convert(tensors: Tensors, model: nn.Module) -> Tensors:
    """Convert a foreign format with timm's converter, which each of its model families may define."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        return {name: tensor for name, tensor in convert(dict(tensors), model).items() if isinstance(tensor, Tensor)}
    except Exception:  # converters expect their own format; their errors for another one don't help the user
        return tensors


def _plain(name: str) -> str:
    """Return a name independent of timm's feature wrappers: the same for `model.stages.0.conv` and `stages_0.conv`."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return name.replace("_", ".")


def _rename(tensors: Tensors, wanted: Iterable[str]) -> Tensors:
    names = {_plain(name): name for name in wanted}
    return {names.get(_plain(name), name): tensor for name, tensor in tensors.items()}


def _adapt_bands(tensors: Tensors, wanted: Mapping[str, Tensor], in_channels: int) -> Tensors:
    """Adapt first convolutions for three bands as timm does: sum for one band, else repeat and scale."""
    shapes = {_plain(name): tensor.shape for name, tensor in wanted.items()}
    adapted = dict(tensors)
    for name, tensor in tensors.items():
        shape = shapes.get(_plain(name), tensor.shape)
        if tensor.ndim == len(shape) == 4 and tensor.shape[1] == 3 and shape[1] == in_channels != 3:
            adapted[name] = adapt_input_conv(in_channels, tensor)
    return adapted


def _differences(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ignored: Iterable[str]
) -> tuple[list[str], list[str], list[str]]:
    """Return the names that are missing, that are unexpected, and that have another shape."""
    known = {_plain(name) for name in ignored}
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in tensors if n not in wanted and _plain(n) not in known]
    reshaped = [
        f"{n} is {tuple(tensors[n].shape)}, not {tuple(wanted[n].shape)}"
        for n in wanted
        if n in tensors and tensors[n].shape != wanted[n].shape
    ]
    return missing, unexpected, reshaped


def _misfit(
    path: Path, name: str, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ignored: Iterable[str]
) -> UserError:
    kinds = zip(("missing", "unexpected", "of another shape"), _differences(wanted, tensors, ignored), strict=True)
    found = [
        f"{len(names)} {kind} ({', '.join(n.removeprefix('model.') for n in names[:_SHOWN])}"
        f"{', ...' if len(names) > _SHOWN else ''})"
        for kind, names in kinds
        if names
    ]
    return UserError(f"{path}: these are not weights of {name}: {'; '.join(found) or 'the tensors differ'}")

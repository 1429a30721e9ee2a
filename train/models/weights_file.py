"""Weights from a local file into an encoder: read safely, renamed where names differ, strict about what fits.

Files come from everywhere: timm, SMP, torchvision, the authors of a paper, a checkpoint of our own. They differ in
wrapping (`{"state_dict": ...}`), prefixes (`module.`, `model.encoder.`), names (timm writes `stages_0` for `stages.0`
once a model is cut into features) and in the layers behind the features, such as a classifier. All that is evened out
here; whatever then still differs is an error, since a network that silently keeps random layers looks much like one
that trains badly.
"""

import pickle
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from inference.common.errors import UserError

Tensors = dict[str, Tensor]

# The nesting that checkpoints keep their tensors in; a running average of the weights is the better choice.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_IN_A_NETWORK = re.compile(r"^(?:(?:module|_orig_mod|model|net|network)\.)*encoder\.")
_OUTER_PREFIX = re.compile(r"^(?:module|_orig_mod|model|backbone)\.")
_SHOWN = 3  # names an error lists of each kind


def read_tensors(path: Path) -> Tensors:
    """Reads a `.safetensors` file or a PyTorch checkpoint without running any code that is in it.

    Args:
        path: The file. Its content decides what it is, not its suffix.

    Returns:
        The encoder's tensors by name, without the prefixes of wrappers and networks around it.

    Raises:
        UserError: There is no such file, it is no weights file, it is damaged, or loading it could run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from error
    if start.lstrip().startswith(b"<"):
        raise UserError(f"{path}: this is a web page, not weights: the download has failed (a login or error page?)")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: this is a Git LFS pointer, not the weights: fetch the file itself (git lfs pull)")
    try:
        if start[8:9] == b"{":  # safetensors: eight bytes of length, then a JSON header
            content: Any = load_file(path, device="cpu")
        else:
            with warnings.catch_warnings(action="ignore"):  # about pickles that it then refuses
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if unsafe := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: refused: it holds `{unsafe[1]}`, and loading that could run code; "
                "save the tensors alone (torch.save(model.state_dict(), ...) or .safetensors)"
            ) from error
        raise UserError(f"{path}: not a PyTorch or safetensors file, or a damaged one") from error
    except Exception as error:  # zip, pickle and safetensors each have their own exceptions for a damaged file
        raise UserError(f"{path}: can't be read as weights: damaged, or not downloaded whole?") from error
    return _peel(_unwrap(content, path))


def _unwrap(content: Any, path: Path) -> Tensors:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors by name (a state_dict is wanted)")
    return tensors


def _peel(tensors: Tensors) -> Tensors:
    """Takes the encoder out of a whole network, and off the prefixes that wrappers add."""
    if inside := {name: found.end() for name in tensors if (found := _IN_A_NETWORK.match(name))}:
        tensors = {name[end:]: tensors[name] for name, end in inside.items()}
    while all(_OUTER_PREFIX.match(name) for name in tensors):
        tensors = {_OUTER_PREFIX.sub("", name): tensor for name, tensor in tensors.items()}
    return tensors


def load_smp_encoder(encoder: nn.Module, path: Path, backbone: str, in_channels: int) -> None:
    """Loads a file into an encoder of SMP's own (not a `tu-` one), in place.

    Args:
        encoder: The encoder of an SMP model.
        path: A file with SMP's names, as its hub has them; many are torchvision's. A classifier is left out.
        backbone: The encoder's name, for errors.
        in_channels: Bands that the encoder takes; a first layer for three bands is adapted.

    Raises:
        UserError: The file can't be read, or does not fit.
    """
    tensors = _adapt_bands(read_tensors(path), encoder.state_dict(), in_channels)
    try:
        encoder.load_state_dict(tensors)  # SMP's encoders take the classifier out, strictly compare what is left
    except RuntimeError as error:
        raise _misfit(path, backbone, encoder.state_dict(), tensors, spare=()) from error


def load_timm_encoder(encoder: nn.Module, path: Path, name: str, in_channels: int, **kwargs: Any) -> None:
    """Loads a file into a timm model, whole, pruned or wrapped by SMP, in place.

    Args:
        encoder: The model.
        path: A file with timm's names, with the names of the wrapped model, or in a format that timm can convert,
            such as the authors' own for Swin and DINOv2. Layers of the whole model that the encoder does not have are
            left out.
        name: The model's name in timm.
        in_channels: Bands that the encoder takes; a first layer for three bands is adapted.
        **kwargs: What else the model was made with.

    Raises:
        UserError: The file can't be read, or does not fit.
    """
    tensors = read_tensors(path)
    whole = _outline(name, **kwargs)
    wanted = encoder.state_dict()
    spare = whole.state_dict().keys()
    for candidate in (tensors, _convert(tensors, whole)):
        renamed = _rename(_adapt_bands(candidate, wanted, in_channels), wanted)
        if not any(_differences(wanted, renamed, spare)):
            encoder.load_state_dict(renamed, strict=False)  # not strict: spare layers, old files without batch counters
            return
    raise _misfit(path, name, wanted, _rename(_adapt_bands(tensors, wanted, in_channels), wanted), spare)


def _outline(name: str, **kwargs: Any) -> nn.Module:
    """The whole timm model without storage: names and shapes only."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, **kwargs)
    return model


def _convert(tensors: Tensors, model: nn.Module) -> Tensors:
    """What timm makes of the file: each of its families keeps the converter of foreign formats under one name."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        return {name: tensor for name, tensor in convert(dict(tensors), model).items() if isinstance(tensor, Tensor)}
    except Exception:  # written for files that fit; what a foreign one makes it raise says nothing of use
        return tensors


def _plain(name: str) -> str:
    """A name as timm's feature wrappers leave it comparable: `model.stages.0.conv` and `stages_0.conv` are one."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return name.replace("_", ".")


def _rename(tensors: Tensors, wanted: Iterable[str]) -> Tensors:
    names = {_plain(name): name for name in wanted}
    return {names.get(_plain(name), name): tensor for name, tensor in tensors.items()}


def _adapt_bands(tensors: Tensors, wanted: Mapping[str, Tensor], in_channels: int) -> Tensors:
    """Fits first convolutions for three bands to other counts, as timm does: sum for one, else repeat and scale."""
    shapes = {_plain(name): tensor.shape for name, tensor in wanted.items()}
    adapted = dict(tensors)
    for name, tensor in tensors.items():
        shape = shapes.get(_plain(name), tensor.shape)
        if tensor.ndim == len(shape) == 4 and tensor.shape[1] == 3 and shape[1] == in_channels != 3:
            adapted[name] = adapt_input_conv(in_channels, tensor)
    return adapted


def _differences(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], spare: Iterable[str]
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, not expected, and of another shape."""
    known = {_plain(name) for name in spare}
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in tensors if n not in wanted and _plain(n) not in known]
    reshaped = [
        f"{n} is {tuple(tensors[n].shape)}, not {tuple(wanted[n].shape)}"
        for n in wanted
        if n in tensors and tensors[n].shape != wanted[n].shape
    ]
    return missing, unexpected, reshaped


def _misfit(
    path: Path, name: str, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], spare: Iterable[str]
) -> UserError:
    kinds = zip(("missing", "unexpected", "of another shape"), _differences(wanted, tensors, spare), strict=True)
    found = [
        f"{len(names)} {kind} ({', '.join(n.removeprefix('model.') for n in names[:_SHOWN])}"
        f"{', ...' if len(names) > _SHOWN else ''})"
        for kind, names in kinds
        if names
    ]
    return UserError(f"{path}: these are not weights of {name}: {'; '.join(found) or 'the tensors differ'}")

"""Source of pretrained weights: the Hugging Face hub, its local cache, or a local file.

`encoder_weights` in a config is

- `null` or `false`: random weights, without any access to the cache or the network,
- `imagenet` or `true`: the encoder's usual weights (for DINOv2 those of its own pretraining, not ImageNet's),
- another name: one of SMP's (`advprop`, `noisy-student`, `ssl`), or a tag of timm's (`in12k_ft_in1k`),
- a path: a local `.pth`, `.pt`, `.ckpt`, `.bin` or `.safetensors` file.

Named weights are read from the hub's cache without a request, or else downloaded. Without a network the download fails
within seconds, instead of after the hub client's minute of retries, with a message that names the alternatives.
"""

import difflib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from timm.models import get_pretrained_cfg, is_model_pretrained

from inference.common.errors import UserError
from inference.common.paths import user_path

Weights = str | Path | bool | None

_SUFFIXES = {".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar"}
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")  # in timm's order
_PROBE_S = 5.0  # time limit of a first answer of the hub in seconds, name resolution included


def resolve_weights(weights: Weights) -> str | Path | None:
    """Return `None` for random weights, the path of a local file, or the name of published weights.

    Args:
        weights: Value of `encoder_weights`; `True` stands for "imagenet".

    Raises:
        UserError: There is no such file.
    """
    if weights is None or weights is False:
        return None
    if weights is True:
        return "imagenet"
    path = user_path(weights, "encoder_weights")
    if isinstance(weights, Path) or len(path.parts) > 1 or path.suffix.lower() in _SUFFIXES:
        if not path.is_file():
            raise UserError(f"encoder_weights: there is no file {path}")
        return path
    # Configs of the earlier tool write "ImageNet".
    return "imagenet" if weights.lower() == "imagenet" else weights


def fetch_smp(name: str, weights: str) -> Path:
    """Return the local file of named weights for one of SMP's own encoders, downloading it if needed.

    Raises:
        UserError: There are no such weights, or they can't be downloaded.
    """
    settings = smp.encoders.encoders[name]["pretrained_settings"]
    if weights not in settings:
        raise _no_such_weights(weights, name, list(settings))
    return _fetch(settings[weights]["repo_id"], ["model.safetensors"], settings[weights]["revision"], weights, name)


def fetch_timm(name: str, weights: str) -> tuple[str, Path]:
    """Return timm's full name, tag included, and the local file of named weights, downloading it if needed.

    Raises:
        UserError: There are no such weights, or they can't be downloaded.
    """
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


def local_file_options(file: Path) -> dict[str, Any]:
    """Return the arguments with which timm loads published weights from a local file, with its own conversions."""
    return {"pretrained_cfg_overlay": {"file": str(file)}}


def _fetch(repo: str, files: Sequence[str], revision: str | None, weights: str, name: str) -> Path:
    """Return the first of these files in the hub's cache, or else download the first that the hub has."""
    for file in files:
        cached = try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    reason = _unreachable_reason()
    if reason is None:
        for file in files:
            try:
                return Path(hf_hub_download(repo, file, revision=revision))
            except EntryNotFoundError as error:
                reason = one_line(error)
            # The types depend on the HTTP library, which differs between versions of the hub's client.
            except Exception as error:
                reason = one_line(error)
                break
    raise UserError(
        f"encoder_weights: can't get the {weights!r} weights of {name} ({constants.ENDPOINT}/{repo}): {reason}; "
        f"nor are they in the cache {constants.HF_HUB_CACHE}. "
        "Give a local file (encoder_weights: /path/to/file) or start from random weights (encoder_weights: null)"
    )


def _unreachable_reason() -> str | None:
    """Send one request to the hub as a download would; return the reason why it does not answer, or None."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    reasons: list[str | None] = []

    def ask() -> None:
        try:
            status = get_session().head(constants.ENDPOINT, timeout=3).status_code
            reasons.append(f"the hub answers with status {status}" if status >= 500 else None)
        except Exception as error:  # a download would fail for the same reason
            reasons.append(f"the hub can't be reached ({one_line(error)})")

    # A daemon thread, because name resolution has no time limit of its own and must not delay the exit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_S)
    return reasons[0] if reasons else f"the hub does not answer within {_PROBE_S:.0f} s"


def _no_such_weights(weights: str, name: str, choices: list[str]) -> UserError:
    if not choices:
        return UserError(
            f"encoder_weights: there are no published weights for {name}: "
            "give a local file (encoder_weights: /path/to/file) or encoder_weights: null"
        )
    allowed = f"allowed: {', '.join(choices)}, a local file, or null"
    return UserError(f"encoder_weights: {name} has no weights {weights!r}{hint(weights, choices)} ({allowed})")


def hint(name: str, choices: list[str]) -> str:
    """Return "; did you mean ...?" with the nearest choice, or an empty string."""
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line of at most 200 characters."""
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    return text[:200] or type(error).__name__

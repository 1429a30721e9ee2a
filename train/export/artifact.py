"""Download of a checkpoint from a Weights & Biases artifact into a cache, with its digest verified."""

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import platformdirs

from inference.common.errors import UserError
from inference.common.paths import split_address, user_path
from inference.common.text import print_line
from train.export.artifact_manifest import (
    ManifestFile,
    cache_path,
    choose_checkpoint,
    damage,
    is_intact,
    starts_like_web_page,
)
from train.export.artifact_process import ClientProcess

SCHEME = "wandb-artifact://"
PAGE = "https://wandb.ai/ENTITY/PROJECT/artifacts/TYPE/NAME/VERSION"
_PART = r"[^/:\\#?%\x00-\x1f\x7f]+"
NAME = re.compile(rf"({_PART}/){{0,2}}{_PART}(:{_PART})?")
MODEL_FILES = (".ckpt", ".pt", ".pth", ".onnx")
# Longer than any download: a temporary folder of this age (in seconds) belongs to a process that was killed.
STALE_AFTER = 24 * 3600.0


@dataclass(frozen=True)
class Artifact:
    """A checkpoint downloaded from W&B.

    Attributes:
        name: `ENTITY/PROJECT/COLLECTION:VERSION`, the alias resolved.
        checkpoint: Path of the .ckpt file; its size and digest are those of the manifest.
        metadata: Metadata stored with the artifact, for instance `{"score": 0.91}`.
    """

    name: str
    checkpoint: Path
    metadata: dict[str, Any]


def is_artifact_name(source: str) -> bool:
    """Return True if a string has the form of an artifact's name or address.

    The caller checks first that no local path of that name exists. The path of a model file (`runs/kelp/last.ckpt`)
    and a single word don't qualify.
    """
    if source.startswith((SCHEME, "https://", "http://")):
        return True
    if source.startswith((".", "~", "/")) or source.lower().endswith(MODEL_FILES):
        return False
    return bool(re.search("[/:]", source)) and NAME.fullmatch(source) is not None


def fetch(source: str, *, timeout: float = 15.0) -> Artifact:
    """Return the checkpoint of an artifact, downloading it unless it is cached.

    Every call asks W&B for the version, since an alias may have moved. The file is kept in `artifacts/` of the cache
    folder (`HAKAI_CACHE_DIR`), under its digest, and its digest is verified again on every use.

    Args:
        source: `ENTITY/PROJECT/NAME:VERSION`, with an alias in place of the version, without the entity, or without
            the version (then the latest); or the URL of its page.
        timeout: Seconds in which the server must answer, and the longest time a download may make no progress.

    Raises:
        UserError: The server can't be reached or refuses the key, there is no such artifact, the artifact doesn't have
            exactly one checkpoint, or the file differs from the manifest.
    """
    name, host = parse_name(source)
    cache = _cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _clear_stale(cache)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=cache))
    except OSError as error:
        raise UserError(
            f"{cache}: can't write the artifact there ({error}); "
            "set the environment variable HAKAI_CACHE_DIR to a folder that you may write to"
        ) from error
    try:
        with ClientProcess(name, host, timeout, temporary) as client:
            found = client.find()
            name = found["name"]
            file = choose_checkpoint(name, [ManifestFile(**entry) for entry in found["files"]])
            cached = cache_path(name, cache, file)
            if not is_intact(cached, file):
                cached.unlink(missing_ok=True)
                _download(client, name, file, temporary / "files", cached)
        return Artifact(name, cached, found["metadata"])
    except OSError as error:
        raise UserError(f"{name}: can't be stored in {cache} ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def parse_name(source: str) -> tuple[str, str]:
    """Return the artifact's name with its version, and the host of its page (empty if `source` is not a URL).

    Raises:
        UserError: `source` is neither a name nor the URL of an artifact.
    """
    name, host = source.removeprefix(SCHEME).strip("/"), ""
    if source.startswith(("https://", "http://")):
        address = split_address(source)
        host = address.hostname or ""
        match [unquote(part) for part in address.path.split("/") if part]:
            case [entity, project, "artifacts", _, collection, *rest]:
                name = f"{entity}/{project}/{collection}:{rest[0] if rest else 'latest'}"
            case _:
                raise UserError(f"{source}: not the page of a W&B artifact (allowed: {PAGE})")
    if NAME.fullmatch(name) is None:
        raise UserError(f"{source}: not the name of a W&B artifact (allowed: ENTITY/PROJECT/NAME:VERSION, or {PAGE})")
    return (name if ":" in name else f"{name}:latest"), host


def _cache_folder() -> Path:
    """Return the cache folder of artifacts, which lies beside that of the demo data set."""
    chosen = os.environ.get("HAKAI_CACHE_DIR")
    base = (
        user_path(chosen, "HAKAI_CACHE_DIR")
        if chosen
        else platformdirs.user_cache_path("hakai-ml-train", appauthor=False)
    )
    return base.absolute() / "artifacts"


def _clear_stale(cache: Path) -> None:
    """Remove the temporary folders of killed processes."""
    for leftover in cache.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(leftover, ignore_errors=True)


def _download(client: ClientProcess, name: str, file: ManifestFile, folder: Path, target: Path) -> None:
    """Download into a temporary folder of this call, verify, and rename the file to its place in the cache."""
    size = f" ({file.size / 1e6:.1f} MB)" if file.size is not None else ""
    print_line(f"downloading {name}{size}")
    client.download(file, folder)
    path = folder / file.path
    if not is_intact(path, file):
        raise UserError(f"{name}: {damage(path, file)}; nothing was kept, try again")
    if starts_like_web_page(path):
        raise UserError(f"{name}: {file.path} is a web page, not a checkpoint, and was uploaded as such")
    with path.open("rb") as content:
        os.fsync(content.fileno())
    target.parent.mkdir(exist_ok=True)
    path.replace(target)

"""Manifest of a W&B artifact: choice of the checkpoint among its files, and verification of a file against it."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from inference.common.errors import UserError
from inference.common.paths import leaves_folder

_MAX_LISTED = 10  # file names that a message shows


@dataclass(frozen=True)
class ManifestFile:
    """An entry of the manifest.

    Attributes:
        path: Path within the artifact.
        digest: Digest in base64.
        algorithm: Algorithm of the digest, "MD5" or "XXH128".
        size: Bytes; None where the manifest doesn't say.
        ref: URL of a file that is not stored at W&B; None for one that is.
    """

    path: str
    digest: str
    algorithm: str
    size: int | None
    ref: str | None


def choose_checkpoint(name: str, files: list[ManifestFile]) -> ManifestFile:
    """Return the only checkpoint of an artifact, or the one called `model.ckpt` or `best.ckpt`.

    Raises:
        UserError: There is none, there are several, it is stored elsewhere, or a path of the manifest leads out of the
            artifact's folder.
    """
    for file in files:
        if leaves_folder(file.path):
            raise UserError(f"{name}: lists the file {file.path!r}, which would leave its folder (refused)")
    checkpoints = [file for file in files if file.path.lower().endswith(".ckpt")]
    if not checkpoints:
        raise UserError(f"{name}: has no .ckpt file (it holds {_listed(files)}); give the artifact of a checkpoint")
    if len(checkpoints) > 1:
        # The names that W&B's Lightning logger and this project use.
        usual = [f for f in checkpoints if PurePosixPath(f.path).name in ("model.ckpt", "best.ckpt")]
        if len(usual) != 1:
            raise UserError(
                f"{name}: has several checkpoints ({_listed(checkpoints)}) and no unique model.ckpt or best.ckpt; "
                "download the one you want and give the file"
            )
        checkpoints = usual
    (file,) = checkpoints
    if file.ref is not None:
        raise UserError(
            f"{name}: {file.path} is not stored at W&B but at {file.ref}; download it from there and give the file"
        )
    return file


def _listed(files: list[ManifestFile]) -> str:
    names = sorted(file.path for file in files)
    more = [f"and {len(names) - _MAX_LISTED} more"] if len(names) > _MAX_LISTED else []
    return ", ".join(names[:_MAX_LISTED] + more) or "nothing"


def cache_path(name: str, cache: Path, file: ManifestFile) -> Path:
    """Return the path of a file in the cache: in a folder named by its digest, so that equal files are kept once.

    Raises:
        UserError: The manifest has no usable digest, or the folder is a symbolic link.
    """
    try:
        digest = base64.b64decode(file.digest, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16 or file.algorithm not in ("MD5", "XXH128"):
        raise UserError(f"{name}: has no digest to verify {file.path} with (download it and give the file)")
    folder = cache / f"{file.algorithm.lower()}-{digest.hex()}"
    if folder.is_symlink():
        raise UserError(f"{folder}: is a symbolic link, which is not allowed in the cache of checkpoints (remove it)")
    return folder / PurePosixPath(file.path).name


def is_intact(path: Path, file: ManifestFile) -> bool:
    """Return True if a file on disk has the size and digest of the manifest, which W&B's client does not check."""
    if path.is_symlink() or not path.is_file() or file.size not in (None, path.stat().st_size):
        return False
    if file.algorithm == "XXH128":
        import xxhash  # installed with the versions of wandb that write such digests

        make: Any = xxhash.xxh128
    else:
        make = lambda: hashlib.md5(usedforsecurity=False)  # noqa: E731 # detects damage, not forgery
    with path.open("rb") as content:
        return base64.b64encode(hashlib.file_digest(content, make).digest()).decode() == file.digest


def damage(path: Path, file: ManifestFile) -> str:
    """Describe, for a message, how a downloaded file differs from the manifest."""
    if not path.is_file():
        return f"{file.path} was not sent"
    if starts_like_web_page(path):
        return f"a web page was sent for {file.path} (does the network show a login page?)"
    if path.stat().st_size != file.size:
        return f"{file.path} arrived damaged ({path.stat().st_size} bytes of {file.size})"
    return f"{file.path} arrived damaged (its digest differs from the manifest's)"


def starts_like_web_page(path: Path) -> bool:
    """Return True if a file begins with `<`, as HTML and XML do and no checkpoint does."""
    with path.open("rb") as content:
        return content.read(64).lstrip()[:1] == b"<"

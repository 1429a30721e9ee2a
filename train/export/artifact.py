"""Fetches a checkpoint from Weights & Biases: that file alone, once, and only if its digest is right."""

import base64
import binascii
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import platformdirs

from inference.common.errors import UserError

SCHEME = "wandb-artifact://"
PAGE = "https://wandb.ai/ENTITY/PROJECT/artifacts/TYPE/NAME/VERSION"
NAME = re.compile(r"([^/:\\#?%\r\n]+/){0,2}[^/:\\#?%\r\n]+(:[^/:\\#?%\r\n]+)?")
MODEL_FILES = (".ckpt", ".pt", ".pth", ".onnx")
# Longer than any download lasts: a folder of this age was left by a process that was killed.
STALE_AFTER = 24 * 3600.0
LISTED = 10
# W&B's client takes one second to start, but many from a cold disk; to end it takes a tenth.
STARTING_SECONDS, ENDING_SECONDS = 60.0, 3.0


@dataclass(frozen=True)
class Artifact:
    """A checkpoint that came from W&B.

    Args:
        name: `ENTITY/PROJECT/COLLECTION:VERSION`, the alias resolved.
        checkpoint: The .ckpt on disk; its size and digest are those of the manifest.
        metadata: What was stored with the artifact, for instance `{"score": 0.91}`.
    """

    name: str
    checkpoint: Path
    metadata: dict[str, Any]


@dataclass(frozen=True)
class _File:
    """A line of the manifest; `ref` is where the file lies if not at W&B, `digest` is base64, `size` is in bytes."""

    path: str
    digest: str
    algorithm: str
    size: int | None
    ref: str | None


def is_artifact_name(source: str) -> bool:
    """Whether this can be the name or the address of an artifact; a local path of the same form goes first.

    A path to a model file (`runs/kelp/last.ckpt`) is none, nor is a bare word.
    """
    if source.startswith((SCHEME, "https://", "http://")):
        return True
    if source.startswith((".", "~", "/")) or source.lower().endswith(MODEL_FILES):
        return False
    return bool(re.search("[/:]", source)) and NAME.fullmatch(source) is not None


def fetch(source: str, *, timeout: float = 15.0) -> Artifact:
    """Gives the checkpoint of an artifact, downloading it on first use.

    W&B is asked each time, because an alias may have moved; the file is kept in `artifacts/` of our cache folder
    (`HAKAI_CACHE_DIR`), under its digest, and is verified again before it is used again.

    Args:
        source: `ENTITY/PROJECT/NAME:VERSION`, with an alias in place of the version, without an entity, or without a
            version (then the latest); or the address of its page.
        timeout: Seconds in which the server must answer, and in which a download must not stand still.

    Raises:
        UserError: The server can't be reached or refuses the key, there is no such artifact, it has not one checkpoint,
            or the file is not what the manifest says.
    """
    name, host = _parse(source)
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
        with _Client(name, host, timeout, temporary) as client:
            found = client.find()
            name = found["name"]
            file = _checkpoint(name, [_File(**entry) for entry in found["files"]])
            kept = _place(name, cache, file)
            if not _is_whole(kept, file):
                kept.unlink(missing_ok=True)
                _download(client, name, file, temporary / "files", kept)
        return Artifact(name, kept, found["metadata"])
    except OSError as error:
        raise UserError(f"{name}: can't be kept in {cache} ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _parse(source: str) -> tuple[str, str]:
    """The name with its version, and the host of the page if it was an address."""
    name, host = source.removeprefix(SCHEME).strip("/"), ""
    if source.startswith(("https://", "http://")):
        address = urlsplit(source)
        host = address.hostname or ""
        match [unquote(part) for part in address.path.split("/") if part]:
            case [entity, project, "artifacts", _, collection, *rest]:
                name = f"{entity}/{project}/{collection}:{rest[0] if rest else 'latest'}"
            case _:
                raise UserError(f"{source}: is not the page of a W&B artifact ({PAGE})")
    if NAME.fullmatch(name) is None:
        raise UserError(f"{source}: is no name of a W&B artifact (ENTITY/PROJECT/NAME:VERSION, or {PAGE})")
    return (name if ":" in name else f"{name}:latest"), host


def _cache_folder() -> Path:
    """Where the demo data set is cached as well."""
    chosen = os.environ.get("HAKAI_CACHE_DIR")
    base = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("hakai-ml-train", appauthor=False)
    return base.absolute() / "artifacts"


def _clear_stale(cache: Path) -> None:
    """Removes what killed processes left."""
    for leftover in cache.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(leftover, ignore_errors=True)


def _checkpoint(name: str, files: list[_File]) -> _File:
    """The one checkpoint among the files of an artifact."""
    for file in files:
        if _leaves_its_folder(file.path):
            raise UserError(f"{name}: lists the file {file.path!r}, which would leave its folder (refused)")
    checkpoints = [file for file in files if file.path.lower().endswith(".ckpt")]
    if not checkpoints:
        raise UserError(f"{name}: has no .ckpt file (it holds {_listed(files)}); give the artifact of a checkpoint")
    if len(checkpoints) > 1:
        # What W&B's Lightning logger and our own call it.
        usual = [f for f in checkpoints if PurePosixPath(f.path).name in ("model.ckpt", "best.ckpt")]
        if len(usual) != 1:
            raise UserError(
                f"{name}: has several checkpoints ({_listed(checkpoints)}), and not one model.ckpt or best.ckpt; "
                "download the one you mean and give the file"
            )
        checkpoints = usual
    (file,) = checkpoints
    if file.ref is not None:
        raise UserError(
            f"{name}: {file.path} is not stored at W&B but at {file.ref}; download it from there and give the file"
        )
    return file


def _leaves_its_folder(path: str) -> bool:
    """Whether a path of the manifest is anything but a relative path downwards, on any system."""
    kinds = (PurePosixPath(path), PureWindowsPath(path))
    return not kinds[0].parts or "\0" in path or any(kind.anchor or ".." in kind.parts for kind in kinds)


def _listed(files: list[_File]) -> str:
    names = sorted(file.path for file in files)
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join(names[:LISTED] + more) or "nothing"


def _place(name: str, cache: Path, file: _File) -> Path:
    """Where a file is kept: under its digest, so that two artifacts of the same bytes share it."""
    try:
        digest = base64.b64decode(file.digest, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16 or file.algorithm not in ("MD5", "XXH128"):
        raise UserError(f"{name}: has no digest that {file.path} could be checked with (download it and give the file)")
    folder = cache / f"{file.algorithm.lower()}-{digest.hex()}"
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link, and a cached checkpoint must not lie elsewhere (remove it)")
    return folder / PurePosixPath(file.path).name


def _is_whole(path: Path, file: _File) -> bool:
    """Whether a file on disk has the size and the digest of the manifest, which W&B's client does not check."""
    if path.is_symlink() or not path.is_file() or file.size not in (None, path.stat().st_size):
        return False
    if file.algorithm == "XXH128":
        import xxhash  # comes with the versions of wandb that write such digests

        make: Any = xxhash.xxh128
    else:
        make = lambda: hashlib.md5(usedforsecurity=False)  # noqa: E731 # a damaged file is found, not a forged one
    with path.open("rb") as content:
        return base64.b64encode(hashlib.file_digest(content, make).digest()).decode() == file.digest


def _download(client: "_Client", name: str, file: _File, folder: Path, target: Path) -> None:
    """Downloads to a folder of this call's own, and gives the file its name when it has proved to be whole."""
    size = f" ({file.size / 1e6:.1f} MB)" if file.size is not None else ""
    sys.stderr.write(f"downloading {name}{size}\n")
    sys.stderr.flush()
    client.download(file, folder)
    path = folder / file.path
    if not _is_whole(path, file):
        raise UserError(f"{name}: {_damage(path, file)}; nothing was kept, try again")
    with path.open("rb") as content:
        if content.read(64).lstrip()[:1] == b"<":
            raise UserError(f"{name}: {file.path} is a web page, not a checkpoint, and was uploaded as such")
        os.fsync(content.fileno())
    target.parent.mkdir(exist_ok=True)
    path.replace(target)


def _damage(path: Path, file: _File) -> str:
    if not path.is_file():
        return f"{file.path} was not sent"
    with path.open("rb") as content:
        if content.read(64).lstrip()[:1] == b"<":
            return f"a web page was sent for {file.path} (is there a login page in the way?)"
    if path.stat().st_size != file.size:
        return f"{file.path} arrived damaged ({path.stat().st_size} bytes of {file.size})"
    return f"{file.path} arrived damaged (its digest differs from the manifest's)"


class _Client:
    """W&B's client, in a process that ends with the block, whatever it is doing."""

    def __init__(self, name: str, host: str, timeout: float, temporary: Path) -> None:
        self.name, self.timeout, self.temporary = name, timeout, temporary
        self.server = "W&B"
        self.hangs = False
        self.began = time.monotonic()
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        # A second cache of the same file would also keep a damaged one.
        private = {"WANDB_CACHE_DIR": str(temporary / "cache"), "WANDB_SILENT": "true", "PYTHONPATH": path}
        # A service that this process has already started may have been set up for another server.
        env = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | private
        self.chatter = tempfile.TemporaryFile()  # noqa: SIM115 # closed with the client
        self.process = subprocess.Popen(
            # -P: a user's folder may hold a file of any name, wandb.py too.
            [sys.executable, "-P", "-m", "train.export.artifact_client", name, host, str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.chatter,
            env=env,
            start_new_session=True,  # Ctrl-C is for us, and we end the process
        )
        self.answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        # On its own it ends W&B's service first; otherwise that notices within two seconds that it is left alone.
        if not self.hangs and (kind is None or issubclass(kind, UserError)):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDING_SECONDS)
        self.process.kill()
        self.process.wait()
        self.chatter.close()

    def find(self) -> dict[str, Any]:
        """Waits for what W&B knows of the artifact: name, metadata and files."""
        try:
            self.server = self._receive(STARTING_SECONDS)["server"]
            # Where the client took long to start, that is not the server's fault: it still gets most of its time.
            until = max(self.began + self.timeout, time.monotonic() + self.timeout * 2 / 3)
            answer = self._receive(until - time.monotonic())
        except queue.Empty:
            self.hangs = True
            raise UserError(
                f"{self.name}: {self.server} gives no answer of use within {self.timeout:g} s; a downloaded artifact "
                "too is looked up there first: check the network, or give a local .ckpt or run folder instead"
            ) from None
        found: dict[str, Any] = answer["found"]
        return found

    def download(self, file: _File, folder: Path) -> None:
        """Has a file downloaded to a folder, as long as it takes, but not if it stands still."""
        assert self.process.stdin is not None
        order = {"file": file.path, "folder": str(folder)}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        arrived, since = -1, time.monotonic()
        while True:
            try:
                self._receive(0.2)
                return
            except queue.Empty:
                size = _size(self.temporary)
                if size != arrived:
                    arrived, since = size, time.monotonic()
                elif time.monotonic() - since > self.timeout:
                    self.hangs = True
                    raise UserError(
                        f"{self.name}: the download of {file.path} stands still (nothing for {self.timeout:g} s); "
                        "nothing was kept, try again"
                    ) from None

    def _receive(self, seconds: float) -> dict[str, Any]:
        line = self.answers.get(timeout=max(0.0, seconds))
        if not line:
            self.chatter.seek(0)
            last = self.chatter.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise UserError(f"{self.name}: W&B's client ended without an answer ({last or 'it was killed'}); try again")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, some of which may just be going."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total

"""Cache of compiled OpenVINO models, in the user's cache folder.

A file is named by a digest of everything that decides on its content: the bytes of the model, the shape of its input,
the settings, the version of OpenVINO and the CPU. It begins with a checksum of the rest. A file that can't be read or
written is never an error: the model is compiled, as without a cache.
"""

import hashlib
import json
import mmap
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.files import clear_temporaries, write_atomically
from inference.common.paths import user_path

SWITCH = "HAKAI_MODEL_CACHE"
"""Environment variable that turns the cache off."""
_OFF = {"0", "off", "no", "false"}
_FOLDER = "HAKAI_CACHE_DIR"  # of the demo data and of artifacts, too
_MOST_BYTES = 2 * 2**30  # the least recently used files above it are deleted
_SUFFIX = ".blob"
_CHECKSUM_BYTES = 4
# Key of an entry that names another file with the weights: of StringStringEntryProto, field 1, 8 bytes.
_EXTERNAL_DATA = b"\x0a\x08location"


def compile_model(core: Any, path: Path, shape: Sequence[int], options: Mapping[str, Any]) -> Any:
    """Compile a model for the CPU, or load what an earlier run has compiled.

    Args:
        core: An `openvino.Core`.
        path: Path of the ONNX file.
        shape: Shape of its input. Static shapes let OpenVINO choose faster kernels.
        options: Settings of OpenVINO.

    Returns:
        An `openvino.CompiledModel`.

    Raises:
        RuntimeError: OpenVINO can't load the model.
    """
    before = _identity(path)
    file = _cache_file(core, path, shape, options)
    blob = None if file is None else _read(file)
    if blob is not None:
        with suppress(RuntimeError):  # OpenVINO refuses it
            return core.import_model(blob, "CPU", dict(options))
    model = core.read_model(path)
    model.reshape({model.inputs[0]: list(shape)})
    compiled = core.compile_model(model, "CPU", dict(options))
    if file is not None and before == _identity(path):  # else the digest may be that of another model
        with suppress(RuntimeError):
            _write(file, compiled.export_model().getvalue())
    return compiled


def cache_folder() -> Path | None:
    """Return the folder of compiled models; None if there is to be no cache, or no place for it."""
    if os.environ.get(SWITCH, "").strip().lower() in _OFF:
        return None
    try:
        chosen = os.environ.get(_FOLDER)
        base = user_path(chosen, _FOLDER) if chosen else _user_cache()
        return base.absolute() / "openvino"
    except (UserError, RuntimeError, OSError):  # RuntimeError: this user has no home
        return None


def _user_cache() -> Path:
    """Return this project's folder in the user's cache, the same one as platformdirs, which may not be installed."""
    name = "hakai-ml-train"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / name / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / name
    chosen = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(chosen) if chosen else Path.home() / ".cache") / name


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _cache_file(core: Any, path: Path, shape: Sequence[int], options: Mapping[str, Any]) -> Path | None:
    """Return the path of a compiled model; None without a cache, or for weights that lie in files of their own."""
    import openvino

    folder = cache_folder()
    if folder is None:
        return None
    try:
        with path.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_EXTERNAL_DATA) >= 0:
                return None
            digest = hashlib.sha256(content).hexdigest()
    except (OSError, ValueError):  # OpenVINO itself reports a file that can't be read
        return None
    cpu = [str(core.get_property("CPU", name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = json.dumps([digest, list(shape), sorted(options.items()), openvino.__version__, cpu])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}{_SUFFIX}"


def _read(file: Path) -> bytes | None:
    """Return the content of a cache file; None if there is none, or if it is damaged."""
    try:
        with file.open("rb") as source:
            checksum = source.read(_CHECKSUM_BYTES)
            blob = source.read()
    except OSError:
        return None
    if not blob or checksum != _checksum(blob):
        return None
    with suppress(OSError):  # another user's file
        os.utime(file)  # used now; see `_clear`
    return blob


def _write(file: Path, blob: bytes) -> None:
    """Write a cache file, and delete the least recently used ones if they take too much room."""
    if len(blob) > _MOST_BYTES:
        return

    def write(temporary: Path) -> None:
        with temporary.open("wb") as target:
            target.write(_checksum(blob))
            target.write(blob)

    with suppress(OSError, UserError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(file, write)
        clear_temporaries(file.parent)
        _clear(file)


def _clear(newest: Path) -> None:
    """Delete the least recently used files, of all except the newest, until the rest is small enough."""
    found = {}
    for file in newest.parent.glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another process deletes files too
            found[file] = file.stat()
    total = sum(each.st_size for each in found.values())
    for file in sorted(found, key=lambda each: found[each].st_mtime_ns):
        if total > _MOST_BYTES and file != newest:
            file.unlink(missing_ok=True)
            total -= found[file].st_size


def _checksum(blob: bytes) -> bytes:
    return zlib.crc32(blob).to_bytes(_CHECKSUM_BYTES, "little")

"""Files that are whole or absent: written under a temporary name, synced, then renamed.

A temporary file lies beside its target and is called TARGET.NODE-PROCESS.writing, so that several machines can share a
folder, and files of killed processes can be told from those that are being written.
"""

import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from inference.common.errors import UserError

TEMPORARY = ".writing"
"""Suffix of temporary files."""
_STALE_SECONDS = 24 * 3600.0  # age at which a temporary file of another machine is taken for abandoned
# Earlier versions wrote TARGET.PROCESS.writing. GDAL appends suffixes of its own, such as .msk.ovr.tmp.
_PATTERN = re.compile(r"(?P<before>[.-])(?P<process>\d+)(\.cog)?" + re.escape(TEMPORARY) + r"(\.[\w.]+)?$")


def temporary_path(path: Path) -> Path:
    """Return the temporary path beside a target that this process writes to."""
    return path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}{TEMPORARY}")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that `path` holds either the old content or the new, whatever happens.

    Args:
        path: Target.
        write: Called with a temporary path in the same folder.
    """
    temporary = temporary_path(path)
    try:
        write(temporary)
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace(temporary: Path, path: Path) -> None:
    """Sync a finished file and give it its name; the rename survives a power cut if the system can sync folders."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def clear_temporaries(folder: Path, target: str = "") -> None:
    """Remove temporary files that interrupted writes left in a folder.

    Files of living processes of this machine stay, and files of other machines stay for a day.

    Args:
        folder: Where to look.
        target: Name of the target whose temporary files are removed; empty for all targets.
    """
    for found in folder.iterdir():
        match = _PATTERN.search(found.name)
        if match is None or not found.name.startswith(f"{target}." if target else ""):
            continue
        local = found.name[: match.start()].endswith(f".{platform.node()}")
        try:
            if match["before"] == "." or (local and not _alive(int(match["process"]))) or _age(found) > _STALE_SECONDS:
                found.unlink()
        except OSError:  # another user's, or gone already
            continue


def make_folder(folder: Path, option: str) -> None:
    """Make a folder for output, check that it can be written to, and clear stale temporary files in it.

    Args:
        folder: The folder; it may exist.
        option: Option or key that names it, for the error message.

    Raises:
        UserError: The folder can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_temporaries(folder)
        _probe(folder / ".probe")
    except OSError as error:
        what = error.strerror or error
        raise UserError(f"{folder}: can't be written to: {what} (choose another {option})") from None


def check_target(path: Path, source: str, option: str, overwrite: bool) -> None:
    """Check that an output can be written, before anything is computed, and clear stale temporary files beside it.

    Args:
        path: The output.
        source: The input, a file or an address.
        option: Option that names the output, for error messages.
        overwrite: True if an existing file may be replaced.

    Raises:
        UserError: The output is the input, exists already, or its folder can't be written to.
    """
    local = Path(source)
    if path.exists() and local.exists() and path.samefile(local):
        raise UserError(f"{path}: is the input itself (choose another {option})")
    if path.is_dir():
        raise UserError(f"{path}: is a folder ({option} is a file, such as {path / 'map.tif'})")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder (make it first, or choose another {option})")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already (replace it with --overwrite, or choose another {option})")
    try:
        clear_temporaries(path.parent, path.name)
        _probe(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror} (choose another {option})") from None


def check_space(folder: Path, needed: float, fix: str = "") -> None:
    """Check that a disk has room for `needed` bytes.

    Args:
        folder: Folder on the disk.
        needed: Bytes.
        fix: What else the user can do; ends the error message.

    Raises:
        UserError: There is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 2**20:.0f} MiB are free, up to {needed / 2**20:.0f} MiB may be needed (make room, or "
            f"write elsewhere{f'; {fix}' if fix else ''})"
        )


def _probe(path: Path) -> None:
    """Create and remove a temporary file; raises OSError if the folder can't be written to."""
    probe = temporary_path(path)
    probe.touch()
    probe.unlink()


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _alive(process: int) -> bool:
    """Return True if another process of this number runs; a file with our own number was left by an earlier one."""
    if process == os.getpid() or os.name == "nt":  # Windows itself refuses to remove an open file
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)

"""Files that are whole or absent: written under a temporary name, synced, then renamed.

A temporary file lies beside its target and is called TARGET.NODE-PROCESS.writing, so that several machines can share a
folder, and files of killed processes can be told from those that are being written.
"""

import errno
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inference.common.errors import UserError, first_line
from inference.common.paths import shown_path

TEMPORARY = ".writing"
"""Suffix of temporary files."""
_FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}
_ROOM = 2**20  # bytes, more than the buffers of a library
_STALE_SECONDS = 24 * 3600.0  # age at which a temporary file of another machine is taken for abandoned
# Earlier versions wrote TARGET.PROCESS.writing. GDAL appends suffixes of its own, such as .msk.ovr.tmp.
_PATTERN = re.compile(r"(?P<before>[.-])(?P<process>\d+)(\.cog)?" + re.escape(TEMPORARY) + r"(\.[\w.]+)?$")


def temporary_path(path: Path) -> Path:
    """Return the temporary path beside a target that this process writes to; beside the file that a link leads to."""
    path = _real(path)
    return path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}{TEMPORARY}")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that `path` holds either the old content or the new, whatever happens.

    Args:
        path: Target.
        write: Called with a temporary path in the same folder.

    Raises:
        UserError: The disk is full, or a quota is used up.
    """
    temporary = temporary_path(path)
    try:
        write(temporary)
        replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if (full := full_disk(error)) is not None:
            free = shutil.disk_usage(path.parent).free / 2**20
            raise UserError(
                f"{path}: can't be written: {full.strerror} ({free:.0f} MiB are free in its folder; make room, or "
                "write elsewhere)"
            ) from None
        raise


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk behind an error, which a library may have raised in its place; None if none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace(temporary: Path, path: Path) -> None:
    """Sync a finished file and give it its name; the rename survives a power cut if the system can sync folders.

    A symbolic link stays, and the file that it leads to is replaced.
    """
    path = _real(path)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def claim(temporary: Path, path: Path) -> None:
    """Sync a finished file and give it a name that no file has; of two processes, one succeeds.

    Raises:
        FileExistsError: A file of this name has appeared in the meantime; it stays, and so does the temporary one.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as FAT
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        temporary.replace(path)
    else:
        temporary.unlink()
    _sync_folder(path.parent)


def publish(temporary: Path, path: Path, overwrite: bool) -> bool:
    """Give a finished file its name; an existing file is replaced only if that is allowed.

    Args:
        temporary: The finished file.
        path: Its name.
        overwrite: True if it may replace another file.

    Returns:
        True if the name was free, so that the file may be removed again.

    Raises:
        UserError: Another command has written a file of this name in the meantime.
    """
    if overwrite:
        replace(temporary, path)
        return False
    try:
        claim(temporary, path)
    except FileExistsError:
        raise UserError(
            f"{path}: was written by another command in the meantime and is kept (replace it with --overwrite, or "
            "choose another name)"
        ) from None
    return True


@contextmanager
def write_errors(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Convert errors of the system, and `others`, into a `UserError` that says how much room is left.

    Args:
        path: File that is written.
        others: Further types of errors, of the library that writes.
    """
    errors: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except errors as error:
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        raise UserError(
            f"{shown_path(path)}: can't be written: {first_line(full_disk(error) or error)} ({free / 2**20:.0f} MiB "
            "are free in its folder)"
        ) from None


def check_room_left(folder: Path) -> None:
    """Check that a disk isn't full: libraries may drop the error of the last bytes, which they write on closing a file.

    Raises:
        OSError: It is full, or a quota is used up.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(_ROOM))  # zeros need no room on some file systems
        file.flush()
        os.fsync(file.fileno())


def clear_temporaries(folder: Path, *targets: str) -> None:
    """Remove temporary files and folders that interrupted writes left in a folder.

    Files of living processes of this machine stay, and files of other machines stay for a day.

    Args:
        folder: Where to look.
        *targets: Names of the targets whose temporary files are removed; none for all targets.
    """
    wanted, node = set(targets), f".{platform.node()}"
    for found in folder.iterdir():
        match = _PATTERN.search(found.name)
        if match is None:
            continue
        if wanted and not any(found.name[: dot.start()] in wanted for dot in re.finditer(r"\.", found.name)):
            continue
        stem = found.name[: match.start()]
        # Exactly: MAP.tif.tif may be written by this process while it clears what belongs to MAP.tif.
        local = stem.endswith(node) and (not wanted or stem.removesuffix(node) in wanted)
        earlier = match["before"] == "." and (not wanted or stem in wanted)
        try:
            if earlier or (local and not is_running(int(match["process"]))) or _age(found) > _STALE_SECONDS:
                shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()
        except OSError:  # another user's, or gone already
            continue


def clear_beside(targets: Iterable[Path]) -> None:
    """Remove temporary files that interrupted writes left beside many targets; each folder is listed once.

    A folder that can't be listed is passed over: `inference.common.targets.check_target` refuses targets in it.

    Args:
        targets: Files that are to be written.
    """
    folders: dict[Path, list[str]] = {}
    for path in map(_real, targets):
        folders.setdefault(path.parent, []).append(path.name)
    for folder, names in folders.items():
        with suppress(OSError):
            clear_temporaries(folder, *names)


def clear_temporaries_of(target: Path, node: str, process: int) -> None:
    """Remove the temporary files beside a target that a process has left which has ended, on whatever machine.

    Args:
        target: The target.
        node: Name of the machine.
        process: Number of the process.
    """
    stem = f"{_real(target).name}.{node}-{process}"
    for found in _real(target).parent.glob(f"*{TEMPORARY}*"):
        if found.name.startswith(stem) and _PATTERN.search(found.name.removeprefix(f"{_real(target).name}.{node}")):
            with suppress(OSError):
                shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()


def _real(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def _age(path: Path) -> float:
    """Return the time since a file, or anything in a folder, was changed, seconds."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return time.time() - max(float(each.lstat().st_mtime) for each in (path, *inside))


def is_running(process: int) -> bool:
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

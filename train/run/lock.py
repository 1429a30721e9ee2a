"""Lock of a run folder: one process trains in it at a time."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import IO

from inference.common.errors import UserError
from inference.common.text import quoted

NAME = "run.lock"
"""Name of the lock's file in a run folder."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class RunLock:
    """Exclusive lock of a run folder, which the system releases when the process ends, however it ends.

    A lock of the file system, and not the mere presence of a file: a killed process leaves the file, but not the lock.
    It is a POSIX record lock (`fcntl`), which NFS passes on to other machines, and which data workers don't inherit.
    Where the file system has no locks, the process that the file names is asked after; one of another machine can't
    be, and counts as ended.

    Args:
        folder: Run folder.

    Raises:
        UserError: Another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: IO[str] | None = None
        while self._file is None:
            try:
                file = self._path.open("a+", encoding="utf-8", errors="replace")
            except OSError as error:
                raise UserError(
                    f"{self._path}: can't be written: {error.strerror or error} (make the run folder writable)"
                ) from None
            if not self._lock(file):
                holder = _holder(file) or "its name is not known"
                file.close()
                raise UserError(
                    f"{folder}: another process trains in this run ({holder}); wait until it ends, or stop it"
                )
            # The process that ended in this moment has removed the file that was opened: then try again.
            if _is_file(file, self._path):
                self._file = file
            else:
                file.close()
        self._file.truncate(0)
        self._file.write(f"{platform.node()} {os.getpid()}\n")
        self._file.flush()

    @staticmethod
    def _lock(file: IO[str]) -> bool:
        """Lock a file; return False if another process holds it."""
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return False
            except OSError:  # no locks on this file system
                pass
            else:
                return True
        return not _runs_here(_holder(file))

    def release(self) -> None:
        """Remove the lock and its file."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)  # before the lock is gone: afterwards it may be another process's
            self._file.close()
            self._file = None


def _holder(file: IO[str]) -> str:
    """Return the machine and process that the file names, for a message; empty where it names none."""
    file.seek(0)
    node, _, process = file.read(300).strip().partition(" ")
    return f"process {process} on {quoted(node)}" if process.isdecimal() else ""


def _runs_here(holder: str) -> bool:
    """Return True if a holder is a living process of this machine, and not this one."""
    words = holder.split(maxsplit=3)
    if len(words) < 4 or words[3] != quoted(platform.node()) or int(words[1]) == os.getpid() or os.name == "nt":
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_file(file: IO[str], path: Path) -> bool:
    """Return True if an open file is still the one of this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False

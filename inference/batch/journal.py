"""Journal of a batch: a line of JSON for each start and each end of an attempt, appended and synced at once.

A batch that is killed at any moment finds in it what is done. A last line that was cut short is removed. One process at
a time writes: it holds a lock on the file, which the system releases when the process ends, however that comes.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from inference.common.errors import UserError, first_line
from inference.common.paths import shown_path

STARTED, DONE, FAILED, SKIPPED = "started", "done", "failed", "skipped"
"""States of an attempt, or of an image that was left out."""
STATES = (STARTED, DONE, FAILED, SKIPPED)
Record = dict[str, Any]
_LOCKED_BYTE = 2**62  # on Windows, where a locked byte can't be read


class Journal:
    """Journal that is open for writing; a context manager.

    Args:
        path: The file; made if it doesn't exist.

    Attributes:
        latest: Last line about each map, by the map's path below the folder of the batch.
        locked: False where the file system has no locks.

    Raises:
        UserError: Another process writes to it, a line is invalid, or it can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.latest: dict[str, Record] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise UserError(f"{shown_path(path)}: can't be written: {error.strerror}") from None
        try:
            self.locked = _lock(self._file, path)
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            for record in records(content[:whole], path):
                self.latest[record["output"]] = record
            if whole < len(content):
                os.ftruncate(self._file, whole)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line, which the disk holds when this returns.

        Raises:
            UserError: It can't be written.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        before = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise UserError(
                f"{shown_path(self.path)}: can't be written: {error.strerror} (make room; the same command goes on "
                "where this one stopped)"
            ) from None
        self.latest[record["output"]] = dict(record)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def read_journal(path: Path) -> dict[str, Record]:
    """Return the last line about each map, without a lock; empty if there is no journal.

    Raises:
        UserError: A line is invalid, or the file can't be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{shown_path(path)}: can't be read: {error.strerror}") from None
    whole = content.rfind(b"\n") + 1
    return {record["output"]: record for record in records(content[:whole], path)}


def records(content: bytes, path: PurePath) -> Iterator[Record]:
    """Yield the lines of a journal, after a check of what the batch relies on.

    Raises:
        UserError: A line is invalid.
    """
    fix = "restore it, or choose another OUT_DIR"
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{shown_path(path)}:{number}: isn't valid JSON: {first_line(error)} ({fix})") from None
        if not isinstance(record, dict):
            raise UserError(f"{shown_path(path)}:{number}: is no line of a journal ({fix})")
        for key in ("image", "output", "state"):
            if not isinstance(record.get(key), str):
                raise UserError(f"{shown_path(path)}:{number}: {key}: is missing or no text ({fix})")
        if record["state"] not in STATES:
            raise UserError(f"{shown_path(path)}:{number}: state: unknown (allowed: {', '.join(STATES)}; {fix})")
        yield record


def _lock(file: int, path: Path) -> bool:
    """Lock an open file; return False where the file system has no locks.

    Raises:
        UserError: Another process has locked it.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(
            f"{shown_path(path.parent)}: another batch writes to this folder (wait until it is done, or choose another "
            "OUT_DIR)"
        ) from None
    except OSError:
        return False
    return True

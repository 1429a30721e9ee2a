"""Small documents that users bring: JSON files and entries of zip archives, read with a bound on their size.

All readers of JSON go through `parse_json`, all readers of an archive's entry through `read_zip_entry`, so that
damaged, oversized and hostile files end in one line that says what is wrong.
"""

import json
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from inference.common.errors import UserError, first_line
from inference.common.text import quoted

LARGEST_DOCUMENT = 16 * 2**20
"""Largest document that is read, bytes: a model card has some kilobytes, and parsed JSON takes many times its size."""
_ZIP_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError)


def check_regular_file(path: Path) -> None:
    """Check that a path is a file with an end: no folder, device or pipe, which could be read forever.

    Raises:
        UserError: It is none, or it doesn't exist.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a folder (give a file)")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: is a device or a pipe (allowed: an ordinary file)")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: The file can't be read, is too large or isn't valid JSON.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from None
    return parse_json(content, str(path))


def parse_json(content: str | bytes, source: str) -> Any:
    """Parse JSON.

    Args:
        content: Text, or bytes in UTF-8, with or without a byte order mark.
        source: Name of the file or object that it was read from; the error message begins with it.

    Raises:
        UserError: The content is too large, isn't UTF-8, isn't valid JSON, is nested too deeply, or holds characters
            that no file can hold.
    """
    if len(content) > LARGEST_DOCUMENT:
        raise UserError(
            f"{source}: is larger than {LARGEST_DOCUMENT // 2**20} MiB, so it isn't read as JSON (choose another file)"
        )
    try:
        text = content.removeprefix("\ufeff") if isinstance(content, str) else content.decode("utf-8-sig")
        data = json.loads(text)
        # A lone half of a surrogate pair can be written in JSON, but in no text file.
        json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise UserError(
            f"{source}: is JSON that is nested too deeply to be read (allowed: some hundred levels)"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: isn't UTF-8 text: byte {error.start:,} is 0x{error.object[error.start]:02x} (save it as UTF-8)"
        ) from None
    except UnicodeEncodeError as error:
        raise UserError(
            f"{source}: holds {ascii(error.object[error.start])[1:-1]}, half of a pair of surrogates, which is no "
            "character (remove it)"
        ) from None
    except ValueError as error:
        raise UserError(f"{source}: isn't valid JSON ({first_line(error)})") from None
    return data


def read_zip_entry(path: Path, inner: str, kind: str) -> bytes | None:
    """Read an entry of a zip archive that lies in the archive's own top folder, as in PyTorch's files.

    Args:
        path: The archive.
        inner: Path of the entry inside the top folder, such as extra/model_card.json.
        kind: Noun for the error message: "can't be read as ...".

    Returns:
        Content of the entry; None if there is no such entry.

    Raises:
        UserError: The archive is damaged or encrypted, or the entry is compressed in an unknown way or too large.
    """
    check_regular_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.partition("/")[2] == inner]
            if not entries:
                return None
            # The size that the archive states can be wrong; what is read counts.
            with archive.open(entries[0]) as file:
                content = file.read(LARGEST_DOCUMENT + 1)
    # A damaged directory of the archive is met by `struct` and by look-ups in lists, too.
    except (*_ZIP_ERRORS, struct.error, LookupError, EOFError, AssertionError) as error:
        raise UserError(f"{path}: can't be read as {kind} ({_reason(error)})") from None
    if len(content) > LARGEST_DOCUMENT:
        raise UserError(
            f"{path}: its entry {quoted(entries[0].filename)} is larger than {LARGEST_DOCUMENT // 2**20} MiB unpacked "
            "(a model card has some kilobytes)"
        )
    return content


def _reason(error: BaseException) -> str:
    if isinstance(error, RuntimeError) and "password" in str(error):
        return "it is encrypted"
    if isinstance(error, zlib.error):
        return f"its compressed data are damaged: {first_line(error)}"
    return first_line(error)

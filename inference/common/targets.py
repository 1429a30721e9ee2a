"""Checks of outputs, made before anything is computed: what is written never destroys what must stay."""

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import clear_temporaries, temporary_path
from inference.common.paths import is_address, shown_path, user_path

TIFF_SUFFIXES = (".tif", ".tiff")
"""Suffixes of GeoTIFFs, in lower case."""
VECTOR_SUFFIXES = (".gpkg", ".fgb", ".geojson", ".shp", ".pmtiles")
"""Suffixes of vector files that are written, in lower case."""
GEOPACKAGE_SUFFIXES = (".gpkg",)
"""Suffix of GeoPackages, in lower case."""
TABLE_SUFFIXES = (".csv",)
"""Suffixes of tables, in lower case."""
_FORMATS = {
    TIFF_SUFFIXES: ("a GeoTIFF", "map"),
    VECTOR_SUFFIXES: ("a vector file", "polygons"),
    GEOPACKAGE_SUFFIXES: ("a GeoPackage", "sample"),
    TABLE_SUFFIXES: ("a CSV table", "sites"),
}
"""Format, and the stem of an example's name, of files with these suffixes."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def check_target(
    target: str | os.PathLike[str],
    option: str,
    *,
    overwrite: bool,
    inputs: Mapping[str | Path, str] | None = None,
    suffixes: Sequence[str] = (),
    clear: bool = True,
) -> Path:
    """Check that an output file can be written, and clear stale temporary files beside it.

    A target is an ordinary file or doesn't exist, has the suffix of its format, isn't read-only, and is none of the
    command's inputs, under whatever name (symbolic and hard links included).

    Args:
        target: The output, as the user named it.
        option: Option or key that names the output, for error messages.
        overwrite: True if an existing file may be replaced.
        inputs: Files that the command reads, each with what it is, such as "the model"; addresses are skipped.
        suffixes: Allowed suffixes, such as TIFF_SUFFIXES; empty for all.
        clear: False to clear nothing, as the whole folder is listed for that. It is for one of many targets; see
            `inference.common.files.clear_beside`.

    Returns:
        The path to write to. For a symbolic link that is the file that the link leads to, so that the link stays.

    Raises:
        UserError: The output must not or can't be written.
    """
    if is_address(os.fspath(target)):
        raise UserError(
            f"{shown_path(target)}: is an address, not a file of this machine (choose another {option}; inference.py "
            "writes the maps of several mosaics to s3://BUCKET/FOLDER)"
        )
    path = user_path(target, option)
    shown = shown_path(target)
    another = f"choose another {option}"
    written_as, stem = _FORMATS[tuple(suffixes)] if suffixes else ("", "")
    example = f"{stem}{suffixes[0]}" if suffixes else ""
    if path.is_symlink():
        path = path.resolve()
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "not an ordinary file")
        such = f", such as {shown_path(path / example)}" if suffixes and stat.S_ISDIR(mode) else ""
        raise UserError(f"{shown}: is {kind} and can't be replaced ({another}{such})")
    if str(os.fspath(target)).endswith(("/", os.sep)):
        such = f", such as {shown}{example}" if suffixes else ""
        raise UserError(f"{shown}: ends like a folder ({option} is a file{such})")
    if suffixes and Path(target).suffix.lower() not in suffixes:
        ends = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise UserError(f"{shown}: is written as {written_as} (give {option} a name that ends in {ends})")
    check_no_input(path, option, inputs or {})
    if not path.parent.is_dir():
        raise UserError(f"{shown_path(path.parent)}: no such folder (make it first, or {another})")
    if mode is not None and not overwrite:
        raise UserError(f"{shown}: exists already (replace it with --overwrite, or {another})")
    if mode is not None and not (mode & 0o222 and os.access(path, os.W_OK)):  # the superuser may write to any file
        raise UserError(f"{shown}: is read-only (allow writing with chmod u+w, or {another})")
    try:
        if clear:
            clear_temporaries(path.parent, path.name)
        else:
            os.scandir(path.parent).close()  # which is refused where listing is
        _probe(path)
    except OSError as error:
        raise UserError(f"{shown}: can't be written: {error.strerror} ({another})") from None
    return path


def check_no_input(target: Path, option: str, inputs: Mapping[str | Path, str]) -> None:
    """Check that an output is none of the command's inputs, under whatever name.

    Args:
        target: The output.
        option: Option or key that names it, for the error message.
        inputs: Files that the command reads, each with what it is, such as "the model"; addresses are skipped.

    Raises:
        UserError: It is one of them.
    """
    if not target.exists():
        return
    for file, what in inputs.items():
        if not is_address(str(file)) and Path(file).exists() and target.samefile(file):
            raise UserError(f"{shown_path(target)}: is {what} (choose another {option})")


def make_folder(folder: str | os.PathLike[str], option: str) -> Path:
    """Make a folder for output, check that it can be written to, and clear stale temporary files in it.

    Args:
        folder: The folder, as the user named it; it may exist.
        option: Option or key that names it, for the error message.

    Returns:
        Path of the folder.

    Raises:
        UserError: The folder can't be made or written to.
    """
    path = user_path(folder, option)
    try:
        path.mkdir(parents=True, exist_ok=True)
        clear_temporaries(path)
        _probe(path / ".probe")
    except OSError as error:
        what = error.strerror or error
        raise UserError(f"{shown_path(folder)}: can't be written to: {what} (choose another {option})") from None
    return path


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


def _mode(path: Path) -> int | None:
    """Return the type and permissions of what a path leads to; None if it doesn't exist."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _probe(path: Path) -> None:
    """Create and remove a temporary file; raises OSError if the folder can't be written to."""
    probe = temporary_path(path)
    try:
        probe.touch()
    finally:
        probe.unlink(missing_ok=True)  # also where a signal stops the command here

"""Paths that a user gives, on the command line or in a config, and names of files that are read from files.

Every text of a user's that names a file or folder becomes a path by `user_path`, so that all commands and keys accept
the same forms (`~`, `~NAME`, `$NAME`, `${NAME}`) and refuse the same faults before a library meets them. A name that is
read from a file becomes a path by `path_within`.
"""

import errno
import os
import posixpath
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import SplitResult, urlsplit

from inference.common.errors import UserError
from inference.common.text import clean_line, quoted

LONGEST_SHOWN = 300
"""Characters of a path that a message shows; the longest paths in use have some 250."""
_ONE_SLASH = re.compile(r"^((?:/vsi\w+/)?\w+:/)(?!/)")  # what a path makes of https://
_ROOT = re.compile(r"(?:/vsi\w+/)?(?:\w+://)?(?:\{[^{}]*\}|[^/]+)")  # of an address: bucket, host or archive
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^{}]*)\})")


class Address(PurePosixPath):
    """Address of a remote file or folder, with the parts of a path: name, stem, suffix and parent."""

    def __str__(self) -> str:
        return _ONE_SLASH.sub(r"\1/", super().__str__())

    def joined(self, relative: str) -> "Address":
        """Return the address of a file that is named relative to this folder.

        Raises:
            ValueError: It would lie outside the bucket, host or archive.
        """
        text = str(self)
        root = _ROOT.match(text)
        assert root is not None
        rest = posixpath.normpath(posixpath.join(text[root.end() :].lstrip("/"), relative))
        if rest.startswith(("..", "/")):
            raise ValueError(f"{relative} lies outside {root[0]}")
        return Address(root[0]) / rest


def shown_path(path: object) -> str:
    """Return a path as a message shows it: on one line, cleaned and shortened."""
    return clean_line(str(path), LONGEST_SHOWN) or "''"


def is_address(text: str) -> bool:
    """Return True for an address of GDAL or of the web, such as s3://, https:// or /vsicurl/; it is not a path."""
    return "://" in text or text.startswith("/vsi")


def names_a_file(text: str) -> bool:
    """Return True if a text is the name of an existing file or folder; any text is allowed, such as KEY=VALUE."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False


def user_source(text: str | os.PathLike[str], option: str) -> str:
    """Convert a user's text into what GDAL opens: an address, or XML of a VRT, as it is, and a path as `user_path`."""
    shown = os.fspath(text)
    return shown if is_address(shown) or shown.lstrip().startswith("<") else str(user_path(text, option))


def split_address(text: str) -> SplitResult:
    """Split a web address into its parts.

    Raises:
        UserError: It is malformed, such as `https://[::1`.
    """
    try:
        return urlsplit(text)
    except ValueError as error:
        raise UserError(f"{shown_path(text)}: is not a web address: {error} (correct it)") from None


def user_path(text: str | os.PathLike[str], option: str) -> Path:
    """Convert a user's text into a path.

    `~` and `~NAME` stand for home folders, `$NAME` and `${NAME}` for environment variables. A file whose own name
    contains these characters wins, and in a path object they are part of the name.

    Args:
        text: Text of the user, or a path that was made from one.
        option: Option or key that it was given to; error messages begin with it.

    Returns:
        The path, which needn't exist. The system can look it up: it is neither too long nor a circle of links.

    Raises:
        UserError: The text is empty or can't be a path, or names an unknown user or an undefined variable.
    """
    written = isinstance(text, str)
    text = os.fspath(text)
    if not text.strip():
        raise UserError(f"{option}: is empty (name a file or folder)")
    if not _exists(text, option) and written:
        text = _expanded(text, option)
        _exists(text, option)
    return Path(text)


def _expanded(text: str, option: str) -> str:
    """Return a text with its home folder and its variables replaced."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise UserError(
                f"{option}: {shown_path(text)}: the environment variable {shown_path(name)} is not set (set it, or "
                "write the path out)"
            )
        return os.environ[name]

    expanded = _VARIABLE.sub(value, text)
    if expanded.startswith("~"):
        user, _, _ = expanded.partition("/")
        try:
            Path(user).expanduser()
        except RuntimeError:
            raise UserError(
                f"{option}: {shown_path(text)}: there is no user {shown_path(user[1:])} on this machine (write the "
                "path out)"
            ) from None
        expanded = str(Path(expanded).expanduser())
    return expanded


def _exists(text: str, option: str) -> bool:
    """Return True if something has this name; raise `UserError` for a name that nothing can have."""
    try:
        Path(text).stat()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return Path(text).is_symlink()
        what = {
            errno.ENAMETOOLONG: f"the name is too long, {len(text):,} characters (at most 255 a folder or file)",
            errno.ELOOP: "symbolic links lead in a circle (name the file itself)",
        }.get(error.errno or 0, f"{error.strerror} (check the path and its permissions)")
        raise UserError(f"{option}: {shown_path(text)}: {what}") from None
    except ValueError:  # an embedded NUL, or characters that file names can't hold
        raise UserError(
            f"{option}: {shown_path(text)}: contains a character that no file name may contain (remove it)"
        ) from None
    return True


def file_name(path: str) -> str:
    """Return the file name of a file or an address, which may hold a key after its question mark."""
    return "" if path.lstrip().startswith("<") else re.split(r"[/\\]", path.partition("?")[0])[-1]


def leaves_folder(name: str) -> bool:
    """Return True unless a name is a relative path that stays below its folder, by the rules of POSIX and Windows."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not kinds[0].parts or "\0" in name or any(kind.anchor or ".." in kind.parts for kind in kinds)


def path_within(folder: Path, name: object, source: str) -> Path:
    """Return the path of a file that another file names, after checking that it lies inside a folder.

    Everything that is read from a checkpoint, a summary, a manifest or a card goes through here before it is used as
    a path: it may have been edited, damaged or written by someone else.

    Args:
        folder: Folder that must hold the file.
        name: Name as it was read, of any type.
        source: File that it was read from, and the key; the error message begins with it.

    Raises:
        UserError: The name is no text or leads out of the folder, also by a symbolic link.
    """
    if not isinstance(name, str):
        raise UserError(f"{source}: is of type {type(name).__name__}, not the name of a file in {folder} (restore it)")
    path = folder / name
    inside = not leaves_folder(name)
    if inside:
        _exists(str(path), source)
        inside = path.resolve().is_relative_to(folder.resolve())
    if not inside:
        raise UserError(f"{source}: names the file {quoted(name)}, which isn't inside {folder} (refused; restore it)")
    return path

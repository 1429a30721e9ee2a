"""Images of a batch: files, folders, patterns, manifests and prefixes of object stores, with the names of their maps.

The name of a map is the path of its image below the folder that was given, or below the fixed part of a pattern, or the
folder of a manifest; of a file that was named itself it is the file's own name.
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from inference.batch.manifest import MANIFEST_SUFFIXES, Row, read_manifest
from inference.common.errors import UserError, first_line
from inference.common.files import TEMPORARY
from inference.common.paths import file_name, is_address, leaves_folder, names_a_file, shown_path, user_path
from inference.common.remote import check_reachable, list_files, store_path
from inference.common.targets import TIFF_SUFFIXES
from inference.common.text import limited

IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".jp2", ".vrt", ".img")
"""Suffixes of images that a pattern without a suffix of its own finds, in lower case."""
OPTION = "INPUTS"
"""Name of the argument, for error messages."""
_SHOWN = 5


@dataclass(frozen=True)
class Item:
    """Image of a batch.

    Attributes:
        source: File or address.
        name: Path of the map below the folder of the batch, with slashes.
        site: Site that a manifest states; empty if it states none.
        date: Date that a manifest states, YYYY-MM-DD; empty if it states none.
    """

    source: str
    name: str
    site: str = ""
    date: str = ""

    @property
    def image(self) -> str:
        """Absolute path, or the address."""
        return self.source if is_address(self.source) else os.path.abspath(self.source)  # noqa: PTH100 - links stay

    @property
    def stem(self) -> str:
        """Name without its suffix."""
        return self.name.rpartition(".")[0]


def names_a_batch(sources: Sequence[str], target: str) -> bool:
    """Return True if arguments ask for a batch, not for a single map.

    Args:
        sources: All arguments but the last.
        target: The last argument.
    """
    if len(sources) != 1:
        return True
    (source,) = sources
    if Path(target).suffix.lower() in TIFF_SUFFIXES or not source.strip() or source.lstrip().startswith("<"):
        return False
    if is_address(source):
        return source.endswith("/") or is_address(target)
    path = user_path(source, OPTION)
    if path.is_dir() or path.suffix.lower() in MANIFEST_SUFFIXES:
        return True
    if is_address(target) or (glob.has_magic(str(path)) and not path.exists()):
        return True
    return (user_path(target, "OUT_DIR") / "batch.jsonl").exists()


def find_items(inputs: Sequence[str], folder: Path, address: str = "") -> list[Item]:
    """Return the images that arguments name, each once, in the order of the arguments and of the paths in each.

    Args:
        inputs: Files, folders, patterns, manifests and prefixes.
        folder: Folder of the batch. Where it lies in a folder of images, what is in it is no image.
        address: Address of the folder of the batch in a bucket, to which the same applies; empty if it is in none.

    Raises:
        UserError: An argument names nothing, or a manifest is invalid.
    """
    found: dict[tuple[str, str], Item] = {}
    for text in inputs:
        for item in _items(text, folder, address):
            found.setdefault((item.image, item.name), item)
    return list(found.values())


def _items(text: str, folder: Path, address: str) -> Iterable[Item]:
    if is_address(text):
        return _below_prefix(text, address) if text.endswith("/") else [_alone(text)]
    path = user_path(text, OPTION)
    if path.is_dir():
        return _below(path, folder)
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        return [_listed(row, path) for row in read_manifest(path)]
    if not path.exists() and glob.has_magic(str(path)):
        return _matching(str(path), folder)
    if not path.exists():
        raise UserError(f"{shown_path(text)}: no such file or folder")
    return [_alone(str(path))]


def map_name(path: str) -> str:
    """Return the name of the map of an image with this relative path: its own, with the suffix .tif."""
    return str(PurePosixPath(path).with_suffix(TIFF_SUFFIXES[0]))


def _alone(source: str) -> Item:
    name = unquote(file_name(source)) if is_address(source) else Path(source).name
    return Item(source, _checked(name, source))


def _checked(name: str, source: str) -> str:
    """Return the name of a map, after a check that the name of its image can be one."""
    if leaves_folder(name) or name.endswith("/"):
        raise UserError(
            f"{shown_path(source)}: has no file name that its map could have (name the map in the column output of a "
            "manifest)"
        )
    return map_name(name)


def _below(root: Path, folder: Path) -> list[Item]:
    """Return the GeoTIFFs in a folder and the folders in it, but for those of the batch."""
    if folder.exists() and folder.samefile(root):
        raise UserError(f"{shown_path(root)}: is the folder of the images itself (choose another OUT_DIR)")
    paths = sorted(path for path in _files(root, folder) if path.suffix.lower() in TIFF_SUFFIXES)
    if not paths:
        raise UserError(
            f"{shown_path(root)}: holds no GeoTIFF (name images of other formats by a pattern in quotes, such as "
            f"'{shown_path(root / '**' / '*.jp2')}')"
        )
    return [Item(str(path), map_name(path.relative_to(root).as_posix())) for path in paths]


def _files(root: Path, left_out: Path) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden; each folder is entered once, also by symbolic links."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        at = Path(place)
        kept = []
        for name in sorted(folders):
            status = (at / name).stat()
            same = left_out.exists() and os.path.samestat(status, left_out.stat())
            if not name.startswith(".") and not same and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                kept.append(name)
        folders[:] = kept
        yield from (at / name for name in files if not name.startswith(".") and TEMPORARY not in name)


def _raise(error: OSError) -> None:
    raise UserError(f"{shown_path(error.filename)}: can't be read: {error.strerror} (correct its permissions)")


def _matching(pattern: str, folder: Path) -> list[Item]:
    """Return the files that a pattern names."""
    parts = Path(pattern).parts
    fixed = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    own = Path(pattern).suffix
    inside = folder.resolve()
    # A folder of the batch within the fixed part is left out; one that the fixed part lies in has no images to hide.
    apart = root.resolve().is_relative_to(inside)
    paths = []
    for name in sorted(set(glob.glob(pattern, recursive=True))):  # noqa: PTH207 - its pattern may be absolute
        path = Path(name)
        if (glob.has_magic(own) or not own) and path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if TEMPORARY in path.name or not path.is_file() or (not apart and path.resolve().is_relative_to(inside)):
            continue
        paths.append(path)
    if not paths:
        raise UserError(f"{shown_path(pattern)}: no image has such a name (check the pattern)")
    return [Item(str(path), map_name(path.relative_to(root).as_posix())) for path in paths]


def _below_prefix(prefix: str, address: str) -> list[Item]:
    """Return the GeoTIFFs whose addresses begin with a prefix, as GDAL lists them, but for those of the batch."""
    manifest = "give a list, with an address a line"
    if store_path(prefix) is None:
        raise UserError(f"{shown_path(prefix)}: only object stores, such as s3://, list their files ({manifest})")
    left_out = store_path(f"{address}/") if address else None
    if left_out == store_path(prefix):
        raise UserError(f"{shown_path(prefix)}: is the folder of the images itself (choose another OUT_DIR)")
    check_reachable(prefix)
    try:
        listed = list_files(prefix)
    except ImportError:
        raise UserError(f"{shown_path(prefix)}: listing needs pyogrio (pip install pyogrio, or {manifest})") from None
    except OSError as error:
        raise UserError(
            f"{shown_path(prefix)}: can't be listed: {first_line(error)} (check the address and the credentials, or "
            f"{manifest})"
        ) from None
    items = []
    for relative in sorted(listed):
        hidden = any(part.startswith(".") for part in relative.split("/"))
        hidden |= left_out is not None and (store_path(prefix + relative) or "").startswith(left_out)
        if PurePosixPath(relative).suffix.lower() in TIFF_SUFFIXES and not hidden:
            items.append(Item(prefix + relative, _checked(relative, prefix + relative)))
    if not items:
        raise UserError(f"{shown_path(prefix)}: holds no GeoTIFF (check the address, or {manifest})")
    return items


def _listed(row: Row, manifest: Path) -> Item:
    """Return the image of a row of a manifest."""
    source, name = row.image, row.output
    relative = ""
    if not is_address(source):
        there = names_a_file(str(manifest.parent / source))
        path = Path(source) if there else user_path(source, f"{shown_path(manifest)}:{row.line}: image")
        relative = "" if path.is_absolute() else path.as_posix()
        source = str(manifest.parent / path)
    if not name:
        inside = relative and not leaves_folder(os.path.normpath(relative))
        name = os.path.normpath(relative) if inside else _file_name(source)
        try:
            name = _checked(name, source)
        except UserError as error:
            raise UserError(f"{shown_path(manifest)}:{row.line}: {error}") from None
    return Item(source, name, row.site, row.date)


def _file_name(source: str) -> str:
    return unquote(file_name(source)) if is_address(source) else Path(source).name


def check_inputs(items: Sequence[Item]) -> None:
    """Check that no two images have a map of one name, and that none is there twice.

    Raises:
        UserError: Some have.
    """
    by_name: dict[str, list[Item]] = {}
    by_source: dict[str, list[Item]] = {}
    for item in items:
        by_name.setdefault(item.name, []).append(item)
        by_source.setdefault(item.image, []).append(item)
    clashes = [group for group in by_name.values() if len(group) > 1]
    if clashes:
        lines = (f"{shown_path(one.source)} and {shown_path(two.source)} ({one.name})" for one, two, *_ in clashes)
        raise UserError(
            f"maps of different images would have one name: {'; '.join(limited(lines, _SHOWN, len(clashes)))} (name "
            "their common folder, or a pattern in quotes, which keeps the folders in the names, or give names in the "
            "column output of a manifest)"
        )
    twice = [group for group in by_source.values() if len(group) > 1]
    if twice:
        one, two, *_ = twice[0]
        raise UserError(
            f"{shown_path(one.source)}: is named twice, as {one.name} and {two.name} (name each image once)"
        )


def identity(source: str) -> tuple[int, int] | None:
    """Return size and time of change of a local file, by which it is known again; None for an address or no file."""
    if is_address(source):
        return None
    try:
        status = Path(source).stat()
    except (OSError, ValueError):
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

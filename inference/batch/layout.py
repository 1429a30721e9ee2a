"""Names of the files of a batch: the maps, what is written beside them, and the files of the batch itself."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference.batch.items import Item
from inference.common.errors import UserError
from inference.common.paths import is_address, leaves_folder, shown_path
from inference.common.remote import store_path
from inference.common.targets import TABLE_SUFFIXES, TIFF_SUFFIXES, VECTOR_SUFFIXES
from inference.common.text import limited, quoted
from inference.options import Options

JOURNAL, SUMMARY, INDEX, MOSAIC, SITES = "batch.jsonl", "summary.csv", "index.gpkg", "index.vrt", "sites.csv"
"""Files of the batch itself."""
NAME = "{name}"
"""Text that stands for the path of a map without its suffix, in the name of a file beside it."""
_RESERVED = {name.casefold(): name for name in (JOURNAL, SUMMARY, INDEX, MOSAIC, SITES)}
_ENDINGS = (".", "_", "-")  # beginnings of what is added to a name
_SHOWN = 5
LONGEST_KEY = 1024
"""Longest address of an object, bytes."""


@dataclass(frozen=True)
class _Further:
    """Kind of files beside the maps: suffixes, and an ending as an example."""

    suffixes: Sequence[str]
    example: str


_FURTHER = {
    "probabilities": _Further(TIFF_SUFFIXES, "_p.tif"),
    "polygons": _Further(VECTOR_SUFFIXES, ".gpkg"),
    "table": _Further(TABLE_SUFFIXES, ".csv"),
}


@dataclass(frozen=True)
class Layout:
    """Names of the files of all images.

    Attributes:
        folder: Folder of the batch.
        templates: Name of each kind of file, in which NAME stands for the path of the map without its suffix.
        style: True if a style of QGIS lies beside each map.
    """

    folder: Path
    templates: Mapping[str, str]
    style: bool = False

    def further(self, item: Item) -> dict[str, str]:
        """Return the paths below the folder of the files beside a map, by option."""
        names = {kind: template.replace(NAME, item.stem) for kind, template in self.templates.items()}
        return names | ({"qgis_style": f"{item.stem}.qml"} if self.style else {})

    def files(self, item: Item) -> list[str]:
        """Return the paths below the folder of all files of an image, the map first."""
        return [item.name, *self.further(item).values()]

    def options(self, options: Options, item: Item, *, overwrite: bool) -> Options:
        """Return the options for one image.

        Args:
            options: Options of the batch.
            item: The image.
            overwrite: True if its files may be replaced.
        """
        paths: dict[str, Any] = {
            kind: self.folder / name for kind, name in self.further(item).items() if kind in self.templates
        }
        return replace(options, overwrite=overwrite, date=item.date or options.date, **paths)

    def target(self, item: Item) -> Path:
        """Return the path of the map of an image."""
        return self.folder / item.name


def make_layout(folder: Path, options: Options) -> Layout:
    """Return the names of the files of a batch.

    Raises:
        UserError: An option gives all images the same file, or one outside the folder, or of another format.
    """
    templates, problems = {}, []
    for kind, further in _FURTHER.items():
        given = getattr(options, kind)
        if given is None:
            continue
        template = str(given)
        if template.startswith(_ENDINGS) and "/" not in template and NAME not in template:
            template = NAME + template
        allowed = (
            f"in a batch: an ending such as {further.example}, which is added to the name of each map, or a path with "
            f"{NAME} below OUT_DIR"
        )
        if NAME not in template or not template.replace(NAME, "").strip():
            problems.append(f"--{kind}: {quoted(template)} would be one file for all images ({allowed})")
        elif leaves_folder(template) or template.endswith("/"):
            problems.append(f"--{kind}: {quoted(template)} is no file within OUT_DIR ({allowed})")
        elif Path(template).suffix.lower() not in further.suffixes:
            problems.append(
                f"--{kind}: {quoted(template)} (allowed: a name that ends in {', '.join(further.suffixes)}; {allowed})"
            )
        templates[kind] = os.path.normpath(template)
    if problems:
        raise UserError("\n".join(problems))
    return Layout(folder, templates, options.qgis_style)


def check_names(layout: Layout, items: Sequence[Item]) -> None:
    """Check that no file of an image is that of another image, of the batch itself, or an image of the batch.

    Raises:
        UserError: One is.
    """
    taken: dict[str, Item] = {}
    if items and len(set(layout.files(items[0]))) < len(layout.files(items[0])):
        raise UserError(
            f"two files of each image would have one name, such as {', '.join(layout.files(items[0]))} (choose other "
            "endings)"
        )
    problems = []
    for item in items:
        own = layout.files(item)
        for name in own:
            if name.casefold() in _RESERVED:
                problems.append(f"{shown_path(item.source)}: its file {name} has a name of the batch's own files")
            elif name in taken:
                other = shown_path(taken[name].source)
                problems.append(f"{shown_path(item.source)}: a file of {other} and of this one would be {name}")
            taken[name] = item
    if problems:
        raise UserError(
            "\n".join(
                f"{line} (choose other endings, or names in the column output of a manifest)"
                for line in limited(problems, _SHOWN)
            )
        )
    _check_sources(layout, items)


def check_keys(layout: Layout, items: Sequence[Item], address: str) -> None:
    """Check that the files of a batch can be objects in a bucket, and that none replaces an image.

    Raises:
        UserError: One can't, or would.
    """
    sources = {store_path(item.source): item.source for item in items if is_address(item.source)}
    for item in items:
        for name in layout.files(item):
            try:
                length = len(f"{address}/{name}".encode())
            except UnicodeEncodeError:
                length = 0
            if not 0 < length <= LONGEST_KEY:
                raise UserError(
                    f"{shown_path(item.source)}: its file {shown_path(name)} can't be an object in a bucket (allowed: "
                    f"Unicode of at most {LONGEST_KEY} bytes; name the map in the column output of a manifest)"
                )
            found = sources.get(store_path(f"{address}/{name}"))
            if found is not None:
                raise UserError(
                    f"{shown_path(address)}/{name}: is an image of the batch, {shown_path(found)} (choose another "
                    "OUT_DIR)"
                )


def _check_sources(layout: Layout, items: Sequence[Item]) -> None:
    """Check that no image would be replaced by a file of the batch, under whatever name."""
    sources: dict[tuple[int, int], str] = {}
    for item in items:
        if not is_address(item.source):
            try:
                status = Path(item.source).stat()
            except (OSError, ValueError):
                continue
            sources[status.st_dev, status.st_ino] = item.source
    base = str(layout.folder)
    for item in items:
        for name in layout.files(item):
            try:
                status = Path(base, name).stat()
            except OSError:
                continue
            found = sources.get((status.st_dev, status.st_ino))
            if found is not None:
                raise UserError(
                    f"{shown_path(layout.folder / name)}: is an image of the batch, {shown_path(found)} (choose "
                    "another OUT_DIR)"
                )

"""`prepare.json`: what a preparation was made from, so that the next one does only what has changed."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.documents import read_json
from inference.common.errors import UserError
from inference.common.files import write_text
from train.data.prepared import Block, Source
from train.preparation.cells import Rectangle

RECORD = "prepare.json"
"""File name of the record."""
_VERSION = 1
_SHAPEFILE = (".dbf", ".prj", ".shx", ".cpg", ".qpj")


@dataclass
class SourceRecord:
    """Label file of an image.

    Attributes:
        key: Digest of all that its labels follow from; empty if they can't be told from others.
        label: SHA-256 of the label file.
        classes: Pixels of each class.
        unlabelled: Pixels without a label.
        polygons: Polygons of each class on the image, by index.
        overlaps: Ground that polygons of two classes claim: the classes, m², pixels.
        notices: Lines about what was repaired or left out.
        counts: Pixels of rectangles, by "first row,last row,first column,last column".
    """

    key: str
    label: str
    classes: list[int]
    unlabelled: int
    polygons: dict[str, int] = field(default_factory=dict)
    overlaps: list[tuple[int, int, float | None, float]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    counts: dict[str, list[int]] = field(default_factory=dict)

    def known(self, area: Rectangle) -> list[int] | None:
        """Return the counts of a rectangle; None if they aren't known."""
        return self.counts.get(_name(area))

    def remember(self, areas: Iterable[Rectangle], counts: NDArray[np.int64]) -> None:
        """Add the counts of rectangles."""
        self.counts |= {_name(area): found for area, found in zip(areas, counts.tolist(), strict=True)}

    def keep(self, counts: Mapping[Rectangle, list[int]]) -> None:
        """Forget the counts of all other rectangles, so that the record doesn't depend on earlier layouts."""
        self.counts = {_name(area): found for area, found in counts.items()}


def _name(area: Rectangle) -> str:
    return ",".join(map(str, area))


@dataclass
class Record:
    """Record of a preparation.

    Attributes:
        sources: Label file of each image, by its name.
        blocks: Digest of the splits and the selection that were written.
        overview: Digest of what the overview shows.
    """

    sources: dict[str, SourceRecord] = field(default_factory=dict)
    blocks: str = ""
    overview: str = ""

    def write(self, folder: Path) -> None:
        """Write the record to a folder."""
        write_text(folder / RECORD, json.dumps({"version": _VERSION} | asdict(self), indent=1) + "\n")


def read_record(folder: Path) -> Record | None:
    """Read the record of a folder; None if there is none that can be used."""
    try:
        content = read_json(folder / RECORD)
        if content["version"] != _VERSION:
            return None
        sources = {name: SourceRecord(**record) for name, record in content["sources"].items()}
        return Record(sources, str(content["blocks"]), str(content["overview"]))
    except (UserError, KeyError, TypeError, AttributeError, ValueError):
        return None


def blocks_digest(blocks: Sequence[Block]) -> str:
    """Return a digest of what a user may change in the table of blocks: split, fold and selection of each."""
    lines = sorted(repr((b.block, b.row, b.col, b.height, b.width, b.split, b.fold, b.selected)) for b in blocks)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def overview_digest(blocks: Sequence[Block], sources: Iterable[Source], records: Mapping[str, SourceRecord]) -> str:
    """Return a digest of what the overview of a data set shows: images, labels and blocks."""
    images = [(source.name, source.sha256, records[source.name].label) for source in sources]
    return hashlib.sha256(repr((images, blocks_digest(blocks))).encode()).hexdigest()


def source_key(image: str, files: Sequence[str | None], options: Any) -> str:
    """Return a digest of all that the labels of an image follow from; empty if a file can't be told from others.

    Args:
        image: Digest of the image.
        files: Digests of labels and areas; None for none, empty for an address.
        options: Options, as JSON holds them.
    """
    if "" in files:
        return ""
    text = json.dumps([_VERSION, image, *files, options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, and of those that belong to it: parts of a Shapefile, pages that SQLite holds back.

    Raises:
        UserError: It can't be read.
    """
    digest = hashlib.sha256()
    beside = [path.with_suffix(suffix) for suffix in _SHAPEFILE] if path.suffix.lower() == ".shp" else []
    beside += [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", ".msk", ".aux.xml")]
    try:
        for part in [path, *(file for file in beside if file.is_file())]:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror} (give a file that can be read)") from None
    return digest.hexdigest()

"""Manifests: lists of images in a text file, or in a CSV table with the columns image, output, site and date."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.common.documents import check_regular_file
from inference.common.errors import UserError, first_line
from inference.common.paths import leaves_folder, shown_path
from inference.common.targets import TIFF_SUFFIXES
from inference.common.text import quoted
from inference.vector.options import is_date

MANIFEST_SUFFIXES = (".txt", ".csv")
"""Suffixes of manifests, in lower case."""
COLUMNS = ("image", "output", "site", "date")
"""Columns of a manifest; the first is required."""
LARGEST = 256 * 2**20
"""Largest manifest that is read, bytes: a million rows have some 100 MiB."""


@dataclass(frozen=True)
class Row:
    """Row of a manifest.

    Attributes:
        line: Number of the line, from 1.
        image: File or address, as it is written.
        output: Path of the map below the folder of the batch, with a suffix; empty if the row names none.
        site: Site; empty if the row names none.
        date: Date, YYYY-MM-DD; empty if the row names none.
    """

    line: int
    image: str
    output: str = ""
    site: str = ""
    date: str = ""


def read_manifest(path: Path) -> list[Row]:
    """Read a manifest: a line an image in a text file, with # for comments, or a table with a header in a CSV file.

    Raises:
        UserError: It can't be read, has no image, or a row is invalid; the message names the line.
    """
    shown = shown_path(path)
    text = _text(path)
    rows = list(_table(text, shown) if path.suffix.lower() == ".csv" else _lines(text))
    if not rows:
        raise UserError(f"{shown}: names no image (write one a line)")
    return rows


def _text(path: Path) -> str:
    shown = shown_path(path)
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{shown}: can't be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UserError(f"{shown}: is larger than {LARGEST // 2**20} MiB, so it isn't read as a manifest (divide it)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{shown}:{line}: isn't UTF-8 text: byte 0x{content[error.start]:02x} (save it as UTF-8)"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{shown}:{line}: holds a NUL, so it is no text (name a manifest, or the image itself)")
    return text


def _lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield Row(number, line)


def _table(text: str, shown: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header, shown)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{shown}:{reader.line_num}: has {len(cells)} cells, the header {len(header)} (put a cell that "
                    "holds a comma in quotes)"
                )
            yield _row(reader.line_num, dict(zip(header, map(str.strip, cells), strict=True)), shown)
    except csv.Error as error:
        raise UserError(f"{shown}:{reader.line_num}: isn't valid CSV: {first_line(error)} (correct it)") from None


def _check_header(header: list[str], shown: str) -> None:
    allowed = f"allowed: {', '.join(COLUMNS)}; the first is required"
    unknown = [name for name in header if name not in COLUMNS]
    if "image" not in header:
        raise UserError(f"{shown}:1: has no column image ({allowed}; a list of files alone is a .txt)")
    if unknown:
        raise UserError(f"{shown}:1: unknown column {quoted(unknown[0])} ({allowed})")
    if len(set(header)) < len(header):
        raise UserError(f"{shown}:1: names a column twice ({allowed})")


def _row(line: int, cells: dict[str, str], shown: str) -> Row:
    place = f"{shown}:{line}"
    if not cells["image"]:
        raise UserError(f"{place}: image: is empty (name a file or an address, or delete the row)")
    output, date = cells.get("output", ""), cells.get("date", "")
    if output:
        if leaves_folder(output) or output.endswith("/"):
            raise UserError(f"{place}: output: {quoted(output)} is no file within OUT_DIR (give a relative path)")
        suffix = Path(output).suffix.lower()
        if not suffix:
            output += TIFF_SUFFIXES[0]
        elif suffix not in TIFF_SUFFIXES:
            raise UserError(f"{place}: output: {quoted(output)} (allowed: a name that ends in .tif or .tiff)")
        output = str(Path(output).as_posix())
    if date and not is_date(date):
        raise UserError(f"{place}: date: {quoted(date)} (allowed: YYYY-MM-DD, such as 2026-07-31)")
    return Row(line, cells["image"], output, cells.get("site", ""), date)

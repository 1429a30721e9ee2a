"""Files about all maps of a batch, written anew at its end: a table, an index with footprints, and one map of all.

They say what the maps are, not how long they took, so that they are the same however often a batch was stopped.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.batch.entries import Entry, entry
from inference.batch.journal import DONE, Record
from inference.batch.layout import INDEX, JOURNAL, MOSAIC, SITES, SUMMARY
from inference.batch.mosaic import Unfit, make_mosaic
from inference.common.csv_text import cell_text, column_stems
from inference.common.errors import UserError, first_line
from inference.common.files import write_text
from inference.common.paths import path_within, shown_path

REPORT_CARD_COLUMN = "Site"
"""First column of a table of the kelp report card, which can have no further ones."""


def write_files(folder: Path, latest: Mapping[str, Record]) -> tuple[list[Path], list[str]]:
    """Write the files about all maps.

    Args:
        folder: Folder of the batch.
        latest: Last line of the journal about each map.

    Returns:
        The files, and why others were not written, a line each.

    Raises:
        UserError: One can't be written.
    """
    entries = [entry(record) for _, record in sorted(latest.items())]
    paths, lines = [folder / SUMMARY], []
    write_text(folder / SUMMARY, summary_text(entries))
    if entries:
        try:
            _write_index(folder / INDEX, entries)
            paths.append(folder / INDEX)
        except UserError as error:
            lines.append(f"{INDEX}: not written: {error}")
    tables = [each for each in entries if each.state == DONE and each.table]
    if tables:
        try:
            write_text(folder / SITES, sites_text(folder, tables))
            paths.append(folder / SITES)
        except UserError as error:
            lines.append(f"{SITES}: not written: {error}")
    try:
        mosaic = make_mosaic([each for each in entries if each.state == DONE])
        write_text(folder / MOSAIC, mosaic.text)
        paths.append(folder / MOSAIC)
        if mosaic.left_out:
            lines.append(f"{MOSAIC}: maps that aren't georeferenced are left out, {mosaic.left_out:,}")
        if not mosaic.exact:
            lines.append(f"{MOSAIC}: the grids of the maps differ; each is drawn to the nearest pixel")
    except Unfit as error:
        (folder / MOSAIC).unlink(missing_ok=True)  # an earlier one shows fewer maps
        lines.append(f"{MOSAIC}: not written: {error}")
    return paths, lines


def sites_text(folder: Path, maps: Sequence[Entry]) -> str:
    """Return the tables of the sites of all maps as one, which begins with a column that names the map.

    A table of the kelp report card gets no further column.

    Raises:
        UserError: A table can't be read, or they have different columns.
    """
    rows: list[list[str]] = []
    columns: list[str] = []
    for each in maps:
        path = path_within(folder, each.table, f"{JOURNAL}: table")
        try:
            found = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{shown_path(path)}: can't be read: {first_line(error)}") from None
        if not found or (columns and found[0] != columns):
            raise UserError(f"{shown_path(path)}: has other columns than the tables of other maps")
        columns = found[0]
        more = [] if columns[0] == REPORT_CARD_COLUMN else [each.output]
        rows += [[*more, *row] for row in found[1:]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns if columns[0] == REPORT_CARD_COLUMN else ["map", *columns])
    writer.writerows(rows)
    return text.getvalue()


def _write_index(path: Path, entries: Sequence[Entry]) -> None:
    from inference.common.vector import vector_libraries

    vector_libraries()
    from inference.batch.index import write_index  # needs pyogrio and shapely

    write_index(path, entries, table(entries))


def table(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Return the columns of the table: of each image its state, its map, and pixels and areas by class."""
    names = _class_names(entries)
    columns: dict[str, list[Any]] = {
        key: [getattr(each, key) for each in entries] for key in ("image", "output", "state", "reason", "site", "date")
    }
    columns["pixels"] = [each.pixels for each in entries]
    columns["invalid_pixels"] = [each.invalid for each in entries]
    for stem, name in zip(column_stems(names), names, strict=True):
        areas = [None if each.areas is None else each.areas.get(name) for each in entries]
        columns[f"{stem}_pixels"] = [
            None if each.class_pixels is None else each.class_pixels.get(name) for each in entries
        ]
        columns[f"{stem}_m2"] = [None if area is None else float(area) for area in areas]
        columns[f"{stem}_ha"] = [None if area is None else area / 1e4 for area in areas]
    for key in ("model", "revision", "sha256"):
        columns[key] = [getattr(each, key) for each in entries]
    return columns


def summary_text(entries: Sequence[Entry]) -> str:
    """Return the table as CSV: RFC 4180 in UTF-8, except that lines end with a line feed alone."""
    columns = table(entries)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        ["" if value is None else cell_text(value) for value in row] for row in zip(*columns.values(), strict=True)
    )
    # A file name may hold bytes that are no text.
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


def _class_names(entries: Iterable[Entry]) -> list[str]:
    """Return the names of the classes of all maps, in the order of the first map that has each."""
    return list(dict.fromkeys(name for each in entries for name in each.class_pixels or ()))

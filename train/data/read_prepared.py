"""Tables of a prepared data set, read with SQLite alone: as they are now, after any edit in QGIS.

Columns are found by name; other columns, any order of columns and rows, and rows without a polygon are accepted.
"""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from inference.common.documents import check_regular_file
from inference.common.errors import UserError
from inference.common.paths import Address, leaves_folder
from inference.common.text import limited, quoted
from inference.common.vector import read_tables
from train.configs.data import SPLITS
from train.data.prepared import (
    BLOCKS_TABLE,
    DATASET,
    SETTINGS_TABLE,
    SOURCES_TABLE,
    Block,
    PreparedSet,
    Settings,
    Source,
)
from train.data.remote_folder import RemoteFolder

Record = TypeVar("Record", Source, Block, Settings)
VERSION = 1
"""Newest version of the layout that is read."""
_AGAIN = "run python -m train.prepare again"
_TABLES = (SOURCES_TABLE, BLOCKS_TABLE, SETTINGS_TABLE)
_SHARE = re.compile(r"share_(\d+)(_.*)?")
_WAIT = 5.0  # seconds, for another program that is writing
_MOST = 10  # lines about one file
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list"}


def is_prepared(folder: Path | RemoteFolder) -> bool:
    """Return True if a folder holds a prepared data set."""
    return DATASET in folder.files if isinstance(folder, RemoteFolder) else (folder / DATASET).exists()


def read_prepared(folder: Path | Address) -> PreparedSet:
    """Read the tables of a prepared data set, in a folder or at an address.

    Raises:
        UserError: They can't be read, lack a table or a column, or hold a value that isn't allowed; one line per
            problem.
    """
    path = folder / DATASET
    tables = _tables(path) if isinstance(path, Path) else _remote_tables(path)
    for name in _TABLES:
        if name not in tables:
            raise UserError(
                f"{path}: has no table {name} (it must be one that python -m train.prepare wrote: {_AGAIN})"
            )
        if not tables[name]:
            raise UserError(f"{path}: {name}: is empty ({_AGAIN})")
    settings = _settings(path, tables[SETTINGS_TABLE])
    problems = _missing_columns(Source, tables[SOURCES_TABLE][0], f"{path}: {SOURCES_TABLE}")
    problems += _missing_columns(Block, tables[BLOCKS_TABLE][0] | {"shares": ()}, f"{path}: {BLOCKS_TABLE}")
    if problems:
        raise UserError("\n".join(problems))
    sources = {}
    for number, row in enumerate(tables[SOURCES_TABLE], 1):
        source = _record(Source, row, f"{path}: {SOURCES_TABLE}: row {number}", problems)
        if source is not None and not _names_a_file(source.name):
            problems.append(
                f"{path}: {SOURCES_TABLE}: {quoted(source.name)} can't be the name of a label file ({_AGAIN})"
            )
        elif source is not None and source.name in sources:
            problems.append(f"{path}: {SOURCES_TABLE}: {quoted(source.name)} stands twice ({_AGAIN})")
        elif source is not None:
            sources[source.name] = source
    blocks: dict[str, Block] = {}
    shares = _share_columns(path, tables[BLOCKS_TABLE], settings)
    for number, row in enumerate(tables[BLOCKS_TABLE], 1):
        where = f"{path}: {BLOCKS_TABLE}: {quoted(row['block']) if row.get('block') else f'row {number}'}"
        block = _record(Block, row | {"shares": [row[name] or 0.0 for name in shares]}, where, problems)
        if block is None:
            continue
        problems += _block_problems(block, where, sources, settings)
        if block.block in blocks:
            problems.append(f"{where} stands twice (delete one, or {_AGAIN})")
        blocks[block.block] = block
    if problems:
        raise UserError("\n".join(limited(problems, _MOST)))
    return PreparedSet(folder, settings, sources, list(blocks.values()))


def prepared_splits(prepared: PreparedSet, fold: int | None) -> dict[str, list[Block]]:
    """Return the selected blocks of each split that has any, sorted by name as their chips are.

    Args:
        prepared: The data set.
        fold: Fold that is the val split, from 1; the others are the train split. None for the splits of the table.

    Raises:
        UserError: The data set has no folds, or none of this number.
    """
    path = prepared.folder / DATASET
    folds = prepared.settings.folds
    if fold is not None and folds is None:
        raise UserError(
            f"data_module.fold: {fold}, but {path} has no folds (leave it out, or prepare the data with split.folds: K)"
        )
    if fold is not None and folds is not None and not 1 <= fold <= folds:
        raise UserError(f"data_module.fold: {fold} (allowed: 1 to {folds}, the folds of {path})")
    splits: dict[str, list[Block]] = {split: [] for split in SPLITS}
    for block in prepared.blocks:
        if block.selected:
            splits[split_of(block, fold)].append(block)
    return {split: sorted(blocks, key=lambda block: f"{block.block}.tif") for split, blocks in splits.items() if blocks}


def split_of(block: Block, fold: int | None) -> str:
    """Return the split of a block, where a fold is the val split; None for the split of the table."""
    if fold is None or block.split == "test":
        return block.split
    return "val" if block.fold == fold else "train"


def _tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables that a file has of those that are wanted."""
    check_regular_file(path)
    try:
        with closing(_connect(path)) as database:
            found = {n for (n,) in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
            return {name: _rows(database, name) for name in _TABLES if name in found}
    except sqlite3.Error as error:
        raise UserError(_unreadable(path, error)) from None


def _remote_tables(path: Address) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables at an address, which SQLite itself can't open."""
    return {
        name: [
            {column: None if value != value else value for column, value in zip(table.columns, row, strict=True)}
            for row in zip(*(values.tolist() for values in table.columns.values()), strict=True)
        ]  # an empty number is NaN
        for name, table in read_tables(str(path), _TABLES).items()
    }


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database for reading only; a folder in which nothing can be written must do."""
    address = path.resolve().as_uri()
    database = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=_WAIT)
    try:
        database.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        # QGIS leaves files in a mode that needs a file beside them, unless nothing is waiting to be written there.
        database.close()
        if "locked" in str(error) or path.with_name(f"{path.name}-wal").exists():
            raise
        database = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True)
        database.execute("SELECT count(*) FROM sqlite_master")
    return database


def _rows(database: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table by column, in the order of the file."""
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _unreadable(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text:
        return f"{path}: another program is writing it (save the edits and close it there, then try again)"
    if "malformed" in text or "not a database" in text:
        return f"{path}: is damaged or no GeoPackage: {text} ({_AGAIN}, or restore the file)"
    return f"{path}: can't be read: {text} (give yourself access to it and its folder)"


def _settings(path: Path | Address, rows: Sequence[Mapping[str, Any]]) -> Settings:
    """Return the settings; rows of other keys are left out."""
    found: dict[str, Any] = {}
    where = f"{path}: {SETTINGS_TABLE}"
    for row in rows:
        try:
            found[str(row["key"])] = json.loads(row["value"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{where}: {quoted(row.get('key', '?'))} has no value in JSON ({_AGAIN})") from None
    version = found.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise UserError(
            f"{where}: version {quoted(version)} of the layout (allowed: up to {VERSION}; update this code)"
        )
    problems = _missing_columns(Settings, found, where)
    settings = None if problems else _record(Settings, found, where, problems)
    if settings is None:
        raise UserError("\n".join(problems))
    if not settings.class_names or not all(isinstance(name, str) for name in settings.class_names):
        raise UserError(f"{where}: class_names is no list of names ({_AGAIN})")
    return settings


def _share_columns(path: Path | Address, rows: Sequence[Mapping[str, Any]], settings: Settings) -> list[str]:
    """Return the columns of the shares of the classes, in their order."""
    found = {int(match[1]): name for name in rows[0] if (match := _SHARE.fullmatch(name))}
    if missing := [index for index in range(len(settings.class_names)) if index not in found]:
        raise UserError(
            f"{path}: {BLOCKS_TABLE}: has no column share_{missing[0]}_... of class "
            f"{quoted(settings.class_names[missing[0]])} ({_AGAIN})"
        )
    return [found[index] for index in range(len(settings.class_names))]


def _types(kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the types that each field of a record may have."""
    hints = get_type_hints(kind)
    return {
        each.name: get_args(hint) if type(None) in get_args(hint := hints[each.name]) else (get_origin(hint) or hint,)
        for each in fields(kind)
    }


_TYPES = {kind.__name__: _types(kind) for kind in (Source, Block, Settings)}


def _missing_columns(kind: type[Any], row: Mapping[str, Any], where: str) -> list[str]:
    """Return a line for each column of a record that a table lacks."""
    return [f"{where}: has no {each.name} ({_AGAIN})" for each in fields(kind) if each.name not in row]


def _record(kind: type[Record], row: Mapping[str, Any], where: str, problems: list[str]) -> Record | None:
    """Build a record from the columns of its names; None, and problems, where one is of another type."""
    values: dict[str, Any] = {}
    before = len(problems)
    for name, allowed in _TYPES[kind.__name__].items():
        value, sound = _converted(row[name], allowed)
        if not sound:
            problems.append(f"{where}: {name} is {_shown(row[name])} (allowed: {_WANTED[allowed[0]]})")
        values[name] = value
    return None if len(problems) > before else kind(**values)


def _converted(value: Any, allowed: Sequence[Any]) -> tuple[Any, bool]:
    """Return a value of a column in a type of its field, and whether it is allowed there; SQLite has few types."""
    if type(None) in allowed and value in (None, ""):
        return None, True
    if allowed[0] is bool:
        return bool(value), value in (0, 1)
    if allowed[0] is str and value is None:  # QGIS writes an empty text as none
        return "", True
    if allowed[0] is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if allowed[0] is float and isinstance(value, int):
        value = float(value)
    if allowed[0] is tuple and isinstance(value, list):
        value = tuple(value)
    return value, isinstance(value, tuple(allowed)) and not isinstance(value, bool)


def _names_a_file(name: str) -> bool:
    return not leaves_folder(name) and "/" not in name and "\\" not in name


def _shown(value: Any) -> str:
    return "empty" if value is None else quoted(value)


def _block_problems(block: Block, where: str, sources: Mapping[str, Source], settings: Settings) -> list[str]:
    """Return what a block has that isn't allowed."""
    if not _names_a_file(block.block):
        return [f"{where}: can't be the name of a chip (allowed: the name of a file, without folders)"]
    source = sources.get(block.source)
    if source is None:
        return [f"{where}: source {quoted(block.source)} is not in table {SOURCES_TABLE} ({_AGAIN})"]
    problems = []
    if block.split not in SPLITS:
        problems.append(f"{where}: split is {_shown(block.split)} (allowed: {', '.join(SPLITS)})")
    inside = block.row >= 0 and block.col >= 0 and block.height > 0 and block.width > 0
    if not inside or block.row + block.height > source.height or block.col + block.width > source.width:
        problems.append(
            f"{where}: rows {block.row} to {block.row + block.height}, columns {block.col} to "
            f"{block.col + block.width} don't lie inside {block.source} of {source.width}x{source.height} pixels "
            f"({_AGAIN})"
        )
    folds = settings.folds
    needed = block.selected and block.split in SPLITS[:2]
    if folds is not None and needed and (block.fold is None or not 1 <= block.fold <= folds):
        problems.append(f"{where}: fold is {_shown(block.fold)} (allowed: 1 to {folds})")
    return problems

"""Reading of a sample file: the record of what was drawn, after checking that no value of it has been edited."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from eval.sampling.design import Floats, Ints, Strata, Totals
from eval.sampling.draw import Drawn
from eval.sampling.record import VERSION, Design, SampleRecord
from eval.sampling.sample_file import (
    CHECKSUM,
    DESIGN,
    DRAWN,
    ID,
    MEMBERS,
    POINTS,
    SITE_TOTALS,
    STRATA,
)
from inference.common.errors import UserError
from inference.common.paths import shown_path
from inference.common.text import quoted
from inference.common.vector import Table, read_tables

_RESTORE = "take the file that eval/area.py sample wrote, and change labels and notes alone"


def read_sample(path: Path) -> tuple[SampleRecord, Table]:
    """Read a sample file.

    Columns are found by name; other columns and layers, and any order of layers, columns and rows, are accepted.

    Returns:
        The record of what was drawn, and the points as they are now.

    Raises:
        UserError: It isn't a sample file, or the record of what was drawn was edited.
    """
    shown = shown_path(path)
    needed = (POINTS, DESIGN, STRATA, DRAWN)
    tables = read_tables(path, (*needed, SITE_TOTALS, MEMBERS))
    if missing := [name for name in needed if name not in tables]:
        raise UserError(
            f"{shown}: has no table {quoted(missing[0])}, so that it isn't a sample, or only a part of one "
            f"({_RESTORE}; an exported layer lacks the design)"
        )
    values = _key_values(shown, tables[DESIGN])
    version = values.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise UserError(
            f"{shown}: version {quoted(version)} of sample files (allowed: up to {VERSION}; update this code)"
        )
    try:
        design = _design(values)
        record = SampleRecord(design, _strata(design, tables), *_units(design, tables))
        sound = record.checksum() == values[CHECKSUM]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        sound = False
    if not sound:
        raise UserError(
            f"{shown}: a table of the design was edited or is damaged: {', '.join((DESIGN, STRATA, DRAWN))} and those "
            f"of the sites must stay as they were drawn ({_RESTORE})"
        )
    return record, tables[POINTS]


def _key_values(shown: str, table: Table) -> dict[str, Any]:
    try:
        pairs = zip(table.columns["key"], table.columns["value"], strict=True)
        return {str(key): json.loads(value) for key, value in pairs}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{shown}: its table {quoted(DESIGN)} can't be read ({_RESTORE})") from None


def _design(values: Mapping[str, Any]) -> Design:
    chosen: dict[str, Any] = {field.name: values[field.name] for field in fields(Design)}
    tuples: dict[str, Any] = {name: tuple(value) for name, value in chosen.items() if isinstance(value, list)}
    return Design(**(chosen | tuples))


def _strata(design: Design, tables: Mapping[str, Table]) -> Strata:
    columns = tables[STRATA].columns
    order = np.argsort(_whole(columns["stratum"]), kind="stable")
    names = tuple(str(name) for name in columns["name"][order])
    domains = []
    if design.sites_file is not None:
        of_sites = tables[SITE_TOTALS].columns
        site, stratum = _whole(of_sites["site"]), _whole(of_sites["stratum"])
        for number in range(int(site.max()) + 1):
            rows = np.flatnonzero(site == number)
            rows = rows[np.argsort(stratum[rows], kind="stable")]
            domains.append((str(of_sites["name"][rows[0]]), _totals(design, of_sites, rows)))
    kind: Any = design.strata
    return Strata(kind, design.class_names, names, _totals(design, columns, order), tuple(domains))


def _totals(design: Design, columns: Mapping[str, Any], rows: Ints) -> Totals:
    def by_class(name: str) -> Floats:
        return np.stack([_real(columns[f"{name}_{k}"])[rows] for k in range(len(design.class_names))], axis=1)

    with_chances = design.probabilities_file is not None
    return Totals(
        _real(columns["units"])[rows],
        _real(columns["area"])[rows],
        by_class("mapped"),
        by_class("probability") if with_chances else None,
        by_class("variance") if with_chances else None,
    )


def _units(design: Design, tables: Mapping[str, Table]) -> tuple[Ints, Ints, Drawn]:
    """Return numbers, phases and the units, by ascending number."""
    columns = tables[DRAWN].columns
    ids = _whole(columns[ID])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    probability = membership = None
    if design.probabilities_file is not None:
        probability = np.stack([_real(columns[f"probability_{k}"]) for k in range(len(design.class_names))], axis=1)
        probability = probability[order]
    if design.sites_file is not None:
        number = int(_whole(tables[SITE_TOTALS].columns["site"]).max()) + 1
        membership = np.zeros((len(ids), number))
        if MEMBERS in tables:
            members = tables[MEMBERS].columns
            at = np.searchsorted(ids, _whole(members[ID]))
            membership[at, _whole(members["site"])] = _real(members["share"])
    row, col, stratum, mapped = (_whole(columns[name])[order] for name in ("row", "col", "stratum", "mapped"))
    drawn = Drawn(row, col, stratum, mapped, _real(columns["area"])[order], probability, membership)
    return ids, _whole(columns["phase"])[order], drawn


def _whole(values: Any) -> Ints:
    numbers = np.asarray(values, np.float64)
    if not (numbers == np.round(numbers)).all():
        raise ValueError("not whole numbers")
    return numbers.astype(np.int64)


def _real(values: Any) -> Floats:
    return np.asarray(values, np.float64)

"""Sample as a GeoPackage for QGIS: points and pixels to label, and tables with the design.

The layers `points` and `pixels` show nothing of what the map says, so that the interpreter isn't led; the tables that
do are not shown by the form. Edits of any layer are told from what was drawn, see `eval.sampling.labels`.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from eval.sampling.design import Totals
from eval.sampling.record import SampleRecord
from inference.common.errors import UserError
from inference.common.geopackage import finish, write_layer
from inference.common.palette import OVERLAY_COLOURS, class_colours
from inference.common.qgis_style import Category, Form, point_style, polygon_style
from inference.common.signals import finishing
from inference.output.staged import StagedFile

POINTS, PIXELS, DESIGN, STRATA, SITE_TOTALS, DRAWN, MEMBERS = (
    "points", "pixels", "design", "strata", "site_totals", "drawn", "site_members",
)  # fmt: skip
"""Layers and tables of a sample."""
CHECKSUM = "checksum"
ID, LABEL, NOTE, MAP = "id", "label", "note", "map"
"""Columns of the points."""
_COMPANIONS = ("-wal", "-shm", "-journal")  # of SQLite, beside an open database
_TO_DO = "#FFFFFF"
_UNSURE = "#808080"


def write_sample(path: Path, record: SampleRecord, overwrite: bool) -> None:
    """Write a sample without labels; the file is whole or absent, and the same sample gives the same bytes.

    Args:
        path: GeoPackage to write.
        record: The sample.
        overwrite: True to replace an existing file.

    Raises:
        UserError: The file can't be written.
    """
    _stage(path, overwrite, lambda file: _write(file, record))


def extend_sample(path: Path, record: SampleRecord, first: int) -> None:
    """Add units to a sample file; labels, notes, columns and styles of the others stay as they are.

    Args:
        path: The file.
        record: The whole sample.
        first: Index of the first unit that the file doesn't have yet.

    Raises:
        UserError: The file can't be written; it is unchanged.
    """

    def write(file: Path) -> None:
        shutil.copyfile(path, file)
        _write_units(file, record, first)
        _update_tables(file, record)

    _stage(path, True, write)


def _stage(path: Path, overwrite: bool, write: Callable[[Path], None]) -> None:
    check_not_in_use(path)
    staged = StagedFile(path, overwrite, _COMPANIONS)
    try:
        with staged.failing():
            write(staged.file)
            for ending in _COMPANIONS:
                staged.file.with_name(f"{staged.file.name}{ending}").unlink(missing_ok=True)
        with finishing():
            staged.publish()
    except BaseException:
        staged.discard()
        raise


def _write(path: Path, record: SampleRecord) -> None:
    _write_units(path, record, 0)
    _write_tables(path, record)
    finish(path, {POINTS: _point_style(record), PIXELS: _pixel_style()})


def _write_units(path: Path, record: SampleRecord, first: int) -> None:
    """Write the units from an index on to the layers and tables that have a row for each."""
    design, drawn = record.design, record.drawn
    order = first + np.argsort(record.ids[first:], kind="stable")
    top, left, bottom, right = design.corners(drawn.row[order], drawn.col[order])
    x, y = design.affine @ ((left + right) / 2, (top + bottom) / 2)
    none = [None] * len(order)
    columns: dict[str, Any] = {ID: record.ids[order], LABEL: none, NOTE: none}
    if design.show_map:
        columns[MAP] = [design.class_names[k] for k in drawn.mapped[order]]
    write_layer(path, POINTS, shapely.points(x, y), columns, design.crs, "Point")
    edges = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    ring = np.stack([np.stack(design.affine @ corner, axis=-1) for corner in edges], axis=1)
    write_layer(path, PIXELS, shapely.polygons(ring), {ID: record.ids[order]}, design.crs)
    rows: dict[str, Any] = {ID: record.ids[order], "phase": record.phase[order]}
    rows |= {name: getattr(drawn, name)[order] for name in ("row", "col", "stratum", "mapped", "area")}
    rows |= _by_class("probability", None if drawn.probability is None else drawn.probability[order])
    write_layer(path, DRAWN, None, rows)
    if drawn.membership is not None:
        unit, site = np.nonzero(drawn.membership[order])
        shares = drawn.membership[order][unit, site]
        if first == 0 or len(unit):
            write_layer(path, MEMBERS, None, {ID: record.ids[order][unit], "site": site, "share": shares})


def _write_tables(path: Path, record: SampleRecord) -> None:
    """Write the tables of the design; each must be new."""
    strata = record.strata
    drawn = np.bincount(record.drawn.stratum, minlength=len(strata.names))
    columns: dict[str, Any] = {"stratum": np.arange(len(strata.names)), "name": list(strata.names)}
    columns |= _totals(strata.totals)
    columns |= {"points": drawn, "inclusion_probability": drawn / strata.totals.units}
    write_layer(path, STRATA, None, columns)
    if strata.domains:
        names = [name for name, _ in strata.domains]
        height = len(strata.names)
        stratum = np.tile(np.arange(height), len(names))
        columns = {"site": np.repeat(np.arange(len(names)), height), "stratum": stratum}
        columns |= {"name": [name for name in names for _ in range(height)]}
        parts = [_totals(totals) for _, totals in strata.domains]
        columns |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        write_layer(path, SITE_TOTALS, None, columns)
    write_layer(path, DESIGN, None, _design_columns(record))


def _design_columns(record: SampleRecord) -> dict[str, Any]:
    values = asdict(record.design) | {CHECKSUM: record.checksum()}
    return {"key": list(values), "value": [json.dumps(value, ensure_ascii=False) for value in values.values()]}


def _update_tables(path: Path, record: SampleRecord) -> None:
    """Bring the tables of the design in a sample file up to date: phases, numbers of points, checksum."""
    values = dict(zip(*_design_columns(record).values(), strict=True))
    drawn = np.bincount(record.drawn.stratum, minlength=len(record.strata.names))
    share = drawn / record.strata.totals.units
    with closing(sqlite3.connect(path)) as database, database:
        for key, value in values.items():
            database.execute(f"UPDATE {DESIGN} SET value = ? WHERE key = ?", (value, key))
        for stratum, (points, chance) in enumerate(zip(drawn.tolist(), share.tolist(), strict=True)):
            database.execute(
                f"UPDATE {STRATA} SET points = ?, inclusion_probability = ? WHERE stratum = ?",
                (points, chance, stratum),
            )


def _totals(totals: Totals) -> dict[str, Any]:
    columns = {"units": totals.units, "area": totals.area}
    for name in ("mapped", "probability", "variance"):
        columns |= _by_class(name, getattr(totals, name))
    return columns


def _by_class(name: str, values: Any) -> dict[str, Any]:
    return {} if values is None else {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


def _point_style(record: SampleRecord) -> str:
    """Return the style of the points: their label in colours, and a form that offers the classes."""
    design = record.design
    colours = class_colours(len(design.class_names), None, OVERLAY_COLOURS)
    categories = [Category(name, name, colours[k]) for k, name in enumerate(design.class_names)]
    categories += [Category(design.unsure, design.unsure, _UNSURE), Category("", "to be labelled", _TO_DO)]
    form = Form(
        choices={LABEL: (*design.class_names, design.unsure)},
        read_only=(ID, MAP) if design.show_map else (ID,),
        hidden=("fid",),
        empty="to be labelled",
    )
    return point_style(f"coalesce(\"{LABEL}\", '')", categories, form)


def _pixel_style() -> str:
    form = Form(read_only=(ID,), hidden=("fid",))
    return polygon_style("'pixel'", [Category("pixel", "pixel to be judged", "#FFFF00", 0.0)], form=form)


def check_not_in_use(path: Path) -> None:
    """Check that a sample file can be replaced: no other program has it open, with changes beside the file.

    Raises:
        UserError: One has.
    """
    for ending in ("-wal", "-journal"):
        log = path.with_name(f"{path.name}{ending}")
        if log.exists():
            raise UserError(
                f"{path}: another program has it open: it keeps changes in {log.name} (save the edits, remove the "
                "layers from QGIS or close it, then try again)"
            )

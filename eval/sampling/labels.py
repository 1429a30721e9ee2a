"""Labels of a sample: which class each drawn point was given, and checks that the points are those that were drawn."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as to_crs

from eval.sampling.design import UNLABELLED, UNSURE, Floats, Ints
from eval.sampling.record import Design, SampleRecord
from eval.sampling.sample_file import ID, LABEL, POINTS
from inference.common.areas import pixel_sides_at
from inference.common.errors import UserError, first_line
from inference.common.qgis_style import NO_VALUE
from inference.common.raster import GDAL_ERRORS
from inference.common.text import limited, quoted
from inference.common.vector import Table, read_tables, value_text
from inference.common.vector_grid import inverse_transform

_TOLERANCE = 0.5 + 1e-3  # pixels; the rounding of a projection there and back is far below
_SHOWN = 10
_NONE = {"", "null", "none", "na", "n/a", "nan", NO_VALUE.casefold()}
"""Texts that stand for no label, unless a class is called so."""


def read_labels(record: SampleRecord, points: Table, path: str) -> Ints:
    """Return the label of each drawn unit, (n,): a class, UNLABELLED or UNSURE, in the order of `record.ids`.

    Args:
        record: What was drawn.
        points: The layer of points as it is now.
        path: File, for error messages.

    Raises:
        UserError: A point was moved, added, removed or copied, or a label is no class; a line for each kind of problem.
    """
    where = f"{path}: layer {quoted(POINTS)}"
    ids_column, labels_column = (_column(points, name, where) for name in (ID, LABEL))
    ids = _ids(points.columns[ids_column])
    problems = list(_number_problems(record, ids, where))
    index = np.array([0 if number is None else number for number in ids], np.int64) - 1
    known = (index >= 0) & (index < len(record.ids))
    index[~known] = 0
    problems += _place_problems(record, points, index, known, where)
    labels = np.full(len(record.ids), UNLABELLED, np.int64)
    wrong: dict[str, list[int]] = {}
    for at in np.flatnonzero(known):
        text = value_text(points.columns[labels_column][at]).strip()
        label = label_of(record.design, text)
        if label is None:
            wrong.setdefault(text, []).append(int(record.ids[index[at]]))
        else:
            labels[index[at]] = label
    design = record.design
    allowed = f"{', '.join(design.class_names)}, {design.unsure}, or empty"
    for text, numbers in list(wrong.items())[:_SHOWN]:
        problems.append(f"{where}: {_points(numbers)}: label {quoted(text)} is no class (allowed: {allowed})")
    if problems:
        raise UserError("\n".join(limited(problems)))
    return labels


def label_of(design: Design, text: str) -> int | None:
    """Return the class that a label stands for: a name in any case, or the number of a class; None if it is neither."""
    if text in design.class_names:
        return design.class_names.index(text)
    folded = text.casefold()
    names = [name.casefold() for name in design.class_names]
    if folded in names:
        return names.index(folded)
    if folded in {design.unsure.casefold(), "?"}:
        return UNSURE
    if folded in _NONE:
        return UNLABELLED
    try:
        value = float(text)
    except ValueError:
        return None
    return design.class_values.index(int(value)) if value in design.class_values else None


def _column(points: Table, name: str, where: str) -> str:
    """Return the column of a name, in any case."""
    found = [column for column in points.columns if column.casefold() == name]
    if len(found) != 1:
        has = ", ".join(quoted(column) for column in points.columns) or "none"
        what = f"no column {quoted(name)}" if not found else f"several columns {quoted(name)}"
        raise UserError(f"{where}: has {what} (it has {has}; rename the column with the labels, or restore the file)")
    return found[0]


def _ids(values: NDArray[Any]) -> list[int | None]:
    """Return the number of each point; None where there is none."""
    numbers: list[int | None] = []
    for value in values:
        text = value_text(value).strip()
        numbers.append(int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else None)
    return numbers


def _number_problems(record: SampleRecord, ids: Sequence[int | None], where: str) -> Iterator[str]:
    """Yield a line for points that were added, copied or removed."""
    drawn = set(record.ids.tolist())
    without = sum(number is None for number in ids)
    added = sorted({number for number in ids if number is not None} - drawn)
    counts = Counter(number for number in ids if number in drawn)
    twice = sorted(number for number, count in counts.items() if number is not None and count > 1)
    missing = sorted(drawn - {number for number in ids if number is not None})
    if without:
        yield f"{where}: {without} points without a number in column {quoted(ID)} weren't drawn (delete them)"
    if added:
        yield (
            f"{where}: {_points(added)} {_be(added)} not drawn (delete; points that were chosen by hand would bias the "
            "areas; eval/area.py sample --more N draws more)"
        )
    if twice:
        yield f"{where}: {_points(twice)} {'stands' if len(twice) == 1 else 'stand'} there twice (delete the copies)"
    if missing:
        yield (
            f"{where}: {_points(missing)} {_be(missing)} missing (restore from a copy of the file; a point that can't "
            f"be judged is labelled {quoted(record.design.unsure)})"
        )


def _place_problems(
    record: SampleRecord, points: Table, index: Ints, known: NDArray[np.bool_], where: str
) -> list[str]:
    """Return a line for points that don't lie where they were drawn."""
    design, drawn = record.design, record.drawn
    if points.geometries is None or points.crs is None:
        what = "has no points" if points.geometries is None else "has no coordinate reference system"
        raise UserError(f"{where}: {what} (restore the file)")
    shapes = points.geometries
    single = np.array([shape is not None and len(shapely.get_coordinates(shape)) == 1 for shape in shapes], np.bool_)
    lost = np.flatnonzero(known & ~single)
    problems = []
    if len(lost):
        problems.append(f"{where}: {_points(record.ids[index[lost]])} {_be(lost)} no longer a point (restore the file)")
    checked = np.flatnonzero(known & single)
    at = _map_coordinates(design, shapely.get_coordinates(shapes[checked]), points.crs, where)
    c0, c1, c2, c3, c4, c5 = inverse_transform(design.affine)
    col, row = c0 + at[:, 0] * c1 + at[:, 1] * c2, c3 + at[:, 0] * c4 + at[:, 1] * c5
    top, left, bottom, right = design.corners(drawn.row[index[checked]], drawn.col[index[checked]])
    away = np.stack([row - (top + bottom) / 2, col - (left + right) / 2])
    moved = np.flatnonzero(~(np.abs(away).max(axis=0) <= _TOLERANCE))
    if len(moved):
        numbers = record.ids[index[checked[moved]]]
        worst = moved[np.argmax(np.nan_to_num(np.abs(away[:, moved]).max(axis=0), nan=np.inf))]
        first = int(record.ids[index[checked[worst]]])
        x, y = design.affine @ (((left + right) / 2)[worst], ((top + bottom) / 2)[worst])
        problems.append(
            f"{where}: {_points(numbers)} {'was' if len(numbers) == 1 else 'were'} moved, point {first} by "
            f"{_distance(design, top[worst], left[worst], away[:, worst])} (allowed: half a pixel; put point {first} "
            f"back to {x:.10g}, {y:.10g}, or restore the file)"
        )
    return problems


def _map_coordinates(design: Design, at: Floats, crs: str, where: str) -> Floats:
    """Convert coordinates to the CRS of the map, (n, 2)."""
    try:
        source, target = CRS.from_user_input(crs), CRS.from_wkt(design.crs)
        if source == target or not len(at):
            return at
        placed: Floats = np.array(to_crs(source, target, at[:, 0], at[:, 1])).T
    except (*GDAL_ERRORS, CRSError, ValueError) as error:
        raise UserError(f"{where}: its CRS can't be used: {first_line(error)} (restore the file)") from None
    return placed


def _distance(design: Design, row: Any, col: Any, away: Floats) -> str:
    sides = pixel_sides_at(CRS.from_wkt(design.crs), design.affine, np.array([float(row)]), np.array([float(col)]))
    pixels = f"{np.hypot(*away):,.1f} pixels"
    return pixels if sides is None else f"{np.hypot(*(away * sides[:, 0])):,.2f} m ({pixels})"


def _points(numbers: Any) -> str:
    numbers = [int(number) for number in numbers]
    shown = ", ".join(limited(map(str, numbers), _SHOWN, len(numbers)))
    return f"point{'' if len(numbers) == 1 else 's'} {shown}"


def _be(numbers: Any) -> str:
    return "is" if len(numbers) == 1 else "are"


def count_labels(path: Path) -> int:
    """Return how many points of a file have a label; 0 if it isn't a sample or can't be read."""
    try:
        columns: Mapping[str, Any] = read_tables(path, (POINTS,))[POINTS].columns
    except (UserError, KeyError):
        return 0
    name = next((column for column in columns if column.casefold() == LABEL), None)
    return 0 if name is None else sum(value_text(v).strip().casefold() not in _NONE for v in columns[name])

"""Options of polygons and of tables of sites: names, defaults and allowed values; imports nothing that is slow."""

import argparse
import datetime
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from inference.common.targets import VECTOR_SUFFIXES
from inference.common.text import quoted

Connectivity = Literal[4, 8]
CONNECTIVITIES: tuple[int, ...] = get_args(Connectivity)
TableFormat = Literal["plain", "kelp-report-card"]
TABLE_FORMATS: tuple[str, ...] = get_args(TableFormat)
LARGEST_SIMPLIFY = 100.0
"""Largest tolerance of --simplify, pixels."""


@dataclass(frozen=True, kw_only=True)
class VectorOptions:
    """Options of polygons and of tables of sites, of the commands `inference.py` and `polygons.py`.

    Attributes:
        polygons: File for the polygons; None to write none.
        min_area: Smallest ground area of a polygon, m²; smaller ones are dropped.
        fill_holes: Largest ground area of a hole that is filled, m².
        simplify: Tolerance of the simplification of outlines, pixels; 0 for none.
        connectivity: 8 if pixels that share a corner belong to one polygon, else 4.
        erase: File of polygons whose area is cut out.
        clip: File of polygons outside which all is cut off.
        classes: Names or numbers of the classes to make polygons of; None for all but the background.
        dissolve: True for one feature a class.
        date: Date of the image, YYYY-MM-DD; None to take it from the file, where it has one.
        sites: File of the outlines of sites.
        site_column: Column of `sites` that names the sites; None to choose it.
        table: CSV file for the table of sites.
        table_format: Columns of the table.
        qgis_style: True to write a style of QGIS beside the map.
    """

    polygons: str | Path | None = None
    min_area: float = 0.0
    fill_holes: float = 0.0
    simplify: float = 0.0
    connectivity: Connectivity = 4
    erase: str | Path | None = None
    clip: str | Path | None = None
    classes: Sequence[str] | None = None
    dissolve: bool = False
    date: str | None = None
    sites: str | Path | None = None
    site_column: str | None = None
    table: str | Path | None = None
    table_format: TableFormat = "plain"
    qgis_style: bool = False

    def vector_problems(self, map_option: str) -> list[str]:
        """Return a line for each invalid option.

        Args:
            map_option: Option or argument that names the file of polygons, for error messages.
        """
        problems = []
        for option, area in (("--min-area", self.min_area), ("--fill-holes", self.fill_holes)):
            if not 0 <= area < math.inf:
                problems.append(f"{option}: {area:g} (allowed: an area in m², 0 or more)")
        if not 0 <= self.simplify <= LARGEST_SIMPLIFY:
            problems.append(f"--simplify: {self.simplify:g} (allowed: 0 to {LARGEST_SIMPLIFY:g} pixels)")
        if self.connectivity not in CONNECTIVITIES:
            problems.append(f"--connectivity: {self.connectivity} (allowed: 4, 8)")
        if self.table_format not in TABLE_FORMATS:
            problems.append(f"--table-format: {self.table_format} (allowed: {', '.join(TABLE_FORMATS)})")
        if self.date is not None and not is_date(self.date):
            problems.append(f"--date: {quoted(self.date)} (allowed: YYYY-MM-DD, such as 2026-07-31)")
        if self.polygons is None:
            given = [field.name for field in fields(VectorOptions) if getattr(self, field.name) != field.default]
            problems += [
                f"--{name.replace('_', '-')}: has no effect without polygons (add {map_option}, or leave it out)"
                for name in _OF_POLYGONS
                if name in given
            ]
        if (self.sites is None) != (self.table is None):
            one, other = ("--sites", "--table") if self.table is None else ("--table", "--sites")
            problems.append(f"{one}: needs {other}, too (the outlines of the sites, and the CSV file to write)")
        elif self.sites is None:
            if self.site_column is not None:
                problems.append("--site-column: has no effect without --sites (add --sites, or leave it out)")
            if self.table_format != "plain":
                problems.append("--table-format: has no effect without --table (add --table, or leave it out)")
        return problems


_OF_POLYGONS = ("min_area", "fill_holes", "simplify", "connectivity", "erase", "clip", "classes", "dissolve")


def is_date(text: str) -> bool:
    """Return True for a day of the calendar as YYYY-MM-DD."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is None:
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def class_list(text: str) -> list[str]:
    """Convert the text of an option, such as kelp,mussels, to names."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} (allowed: names or numbers, separated by commas, such as kelp,mussels)"
        )
    return names


def class_names(text: str) -> dict[int, str]:
    """Convert the text of an option, such as 0=water,5=kelp or water,kelp (of 0, 1, ...), to names by value."""
    names: dict[int, str] = {}
    parts = text.split(",")
    if "=" not in text:
        parts = [f"{value}={name}" for value, name in enumerate(parts)]
    for part in parts:
        value, equals, name = part.partition("=")
        try:
            number = int(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip() or number in names:
            raise argparse.ArgumentTypeError(
                f"{quoted(part)} in {quoted(text)} (allowed: such as water,kelp or 0=water,5=kelp)"
            )
        names[number] = name.strip()
    return names


def add_vector_options(arguments: argparse.ArgumentParser, option: str | None) -> None:
    """Add the options of polygons and sites; an option that isn't given is absent from the result.

    Args:
        arguments: Parser of a command.
        option: Option that names the file of polygons; None where that is an argument of the command.
    """
    from inference.common.cli import number, whole_number

    def group(title: str) -> Callable[..., Any]:
        return partial(arguments.add_argument_group(title).add_argument, default=argparse.SUPPRESS)

    add = group("polygons")
    if option is not None:
        add(option, metavar="OUT.gpkg", help=f"write the map as polygons, too ({', '.join(VECTOR_SUFFIXES)})")
    add("--min-area", type=number, metavar="M2", help="drop polygons with a smaller ground area, m²")
    add("--fill-holes", type=number, metavar="M2", help="fill holes up to this ground area, m²")
    add(
        "--simplify",
        type=number,
        metavar="PX",
        help="simplify outlines, tolerance in pixels; neighbours keep common outlines",
    )
    add(
        "--connectivity",
        type=whole_number,
        metavar="4|8",
        help="8: pixels that share a corner belong to one polygon (default: 4)",
    )
    add("--erase", metavar="MASK.gpkg", help="cut these polygons out")
    add("--clip", metavar="AREA.gpkg", help="keep what lies in these polygons")
    add("--classes", type=class_list, metavar="A,B", help="classes, by name or number (default: all but background)")
    add("--dissolve", action="store_true", help="write one feature a class")
    add("--date", metavar="YYYY-MM-DD", help="date of the image (default: the file's, where it has one)")
    add("--qgis-style", action="store_true", help="write a style of QGIS beside the map, OUT.qml")
    add = group("sites")
    add("--sites", metavar="SITES.gpkg", help="outlines of sites, for a table of their areas")
    add("--site-column", metavar="NAME", help="column that names the sites (default: the only text column)")
    add("--table", metavar="SITES.csv", help="write the table of sites")
    add("--table-format", choices=TABLE_FORMATS, help="columns of the table (default: plain)")

"""Tables of sites as CSV: a registry of formats, each of which turns totals into rows of named columns.

The text is that of RFC 4180 in UTF-8, except that lines end with a line feed alone. Names stand in it as in the file of
sites, so that tables can be joined by them.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inference.common.csv_text import cell_text, column_stems
from inference.common.errors import UserError
from inference.common.text import limited, quoted
from inference.vector.area_intervals import AreaIntervals
from inference.vector.report_card import check_report_card, report_card_rows
from inference.vector.site_totals import SiteRow
from inference.vector.sites import Sites

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SHOWN = 10


class Classes(Protocol):
    """Classes of a map."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each class."""

    @property
    def background(self) -> int | None:
        """Class that is no target; None if all are."""


@dataclass(frozen=True)
class Format:
    """Format of a table.

    Attributes:
        rows: Function that returns a mapping from columns to values for each site, all with the same columns.
        check: Function that raises a `UserError` if the sites or the classes don't fit the format, and returns notices.
    """

    rows: Callable[[Sequence[SiteRow], Classes], list[dict[str, Any]]]
    check: Callable[[Sites, Classes], list[str]]


def plain_rows(rows: Sequence[SiteRow], classes: Classes) -> list[dict[str, Any]]:
    """Return all totals of each site; areas of classes in m² and ha."""
    stems = column_stems(classes.names)
    table = []
    for row in rows:
        columns: dict[str, Any] = {"site": row.name, "date": row.date, "site_m2": row.area}
        for stem, area in zip(stems, row.classes, strict=True):
            columns |= {f"{stem}_m2": area, f"{stem}_ha": area / 1e4}
        columns |= {
            "invalid_m2": row.invalid,
            "outside_m2": row.outside,
            "unmapped_share": row.unmapped,
            "mean_probability": row.probability,
            "pixels": row.pixels,
        }
        table.append(columns)
    return table


FORMATS = {
    "plain": Format(plain_rows, lambda sites, classes: []),
    "kelp-report-card": Format(
        lambda rows, classes: report_card_rows(rows, classes.names, classes.background),
        lambda sites, classes: check_report_card(sites, classes.names, classes.background),
    ),
}
"""Formats by name."""


def check_table(sites: Sites, classes: Classes, table_format: str) -> tuple[str, ...]:
    """Check that a table of sites can be made, before the map is.

    Args:
        sites: Sites.
        classes: Classes of the map.
        table_format: Name of the format, see FORMATS.

    Returns:
        Notices for the user, a line each.

    Raises:
        UserError: The sites or the classes don't fit the format.
    """
    notices = FORMATS[table_format].check(sites, classes)
    formulas = [quoted(name) for name in dict.fromkeys(sites.names) if name.startswith(_FORMULA)]
    if formulas:
        notices.append(
            f"{sites.path}: names of sites that a spreadsheet takes for formulas are written as they are: "
            f"{', '.join(limited(formulas, _SHOWN))} (import their column as text)"
        )
    return tuple(notices)


def site_table(
    rows: Sequence[SiteRow], classes: Classes, table_format: str, intervals: AreaIntervals | None = None
) -> str:
    """Return the text of a table of sites.

    Args:
        rows: Totals of each site.
        classes: Classes of the map.
        table_format: Name of the format, see FORMATS.
        intervals: Estimated areas of the same sites, for further columns.

    Raises:
        UserError: The estimates are of another map, or columns would have the same name.
    """
    table = FORMATS[table_format].rows(rows, classes)
    if intervals is not None:
        stems = column_stems(classes.names)
        more = [intervals.columns(number, row, stems, classes.names) for number, row in enumerate(rows)]
        if twice := set(table[0]) & set(more[0]):
            raise UserError(
                f"--areas: the table would have two columns {min(twice)} (name the classes with --class-names)"
            )
        table = [columns | other for columns, other in zip(table, more, strict=True)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table[0])
    writer.writerows([cell_text(value) for value in row.values()] for row in table)
    return text.getvalue()

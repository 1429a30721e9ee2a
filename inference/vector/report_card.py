"""Table of sites for the report cards of the Hakai Institute's kelp drone programme.

Columns and their contents: https://hakaiinstitute.github.io/kelp-drone-report-card/kelp-drone-report-card-methods,
section 2.1: Dom_sp is macro or nereo, Date is YYYY-MM-DD, Year has four digits; Month is its number here.
"""

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any

from inference.common.errors import UserError
from inference.common.text import limited, quoted
from inference.vector.options import is_date
from inference.vector.site_totals import SiteRow
from inference.vector.sites import Sites

_SPECIES = {"macro": re.compile(r"macro(?![\W_]*alga)", re.IGNORECASE), "nereo": re.compile("nereo", re.IGNORECASE)}
_SHOWN = 10
_OTHERWISE = "or choose --table-format plain"


def report_card_rows(rows: Sequence[SiteRow], names: Sequence[str], background: int | None) -> list[dict[str, Any]]:
    """Return the columns of a report card for each site; sites and classes have been checked.

    Where the map tells both species apart, the dominant one is that of the sites, or else the one with the larger
    area; it is empty for a site without canopy. Where the map has a single class of kelp, its area is that of the
    dominant species.

    Args:
        rows: Totals of each site.
        names: Name of each class.
        background: Class that is no canopy; None if there is none.
    """
    canopies, kelp = _canopies(names, background), _kelp(names, background)
    table = []
    for row in rows:
        own = _species(row.species)
        areas = {species: sum(row.classes[value] for value in values) for species, values in canopies.items()}
        if not any(canopies.values()) and own is not None and kelp is not None:
            areas[own] = row.classes[kelp]
        larger = max(areas, key=lambda species: areas[species])
        day = datetime.date.fromisoformat(row.date) if row.date else None
        table.append(
            {
                "Site": row.name,
                "Dom_sp": own or (larger if areas[larger] else ""),
                "Date": row.date,
                "Year": f"{day.year:04}" if day else "",
                "Month": day.month if day else "",
                "Tide_height_m": float(row.tide) if row.tide else "",
                "Site_m2": row.area,
                "Canopy_macro_m2": float(areas["macro"]),
                "Canopy_nereo_m2": float(areas["nereo"]),
            }
        )
    return table


def check_report_card(sites: Sites, names: Sequence[str], background: int | None) -> list[str]:
    """Check that sites and classes have what a report card needs; return notices.

    Raises:
        UserError: A species, a date or a tide can't be read, or the species of the canopy isn't known.
    """
    for name, species, day, tide in zip(sites.names, sites.species, sites.dates, sites.tides, strict=True):
        where = f"{sites.path}: site {quoted(name)}"
        if species and _species(species) is None:
            raise UserError(f"{where}: Dom_sp is {quoted(species)} (allowed: macro, nereo, or nothing)")
        if day and not is_date(day):
            raise UserError(f"{where}: its date is {quoted(day)} (allowed: YYYY-MM-DD, such as 2026-07-31)")
        if tide and not _is_number(tide):
            raise UserError(f"{where}: its tide is {quoted(tide)} (allowed: a number of metres, or nothing)")
    if not any(_canopies(names, background).values()):
        kelp = _kelp(names, background)
        if kelp is None:
            has = ", ".join(limited((quoted(name) for name in names), _SHOWN, len(names)))
            raise UserError(
                f"--table-format kelp-report-card: the map has no class of a kelp (it has {has}; allowed: classes with "
                f"macro or nereo in their names, or a single class of kelp; use a map with these, {_OTHERWISE})"
            )
        unknown = [quoted(name) for name, species in zip(sites.names, sites.species, strict=True) if not species]
        if unknown:
            raise UserError(
                f"{sites.path}: no species of {', '.join(limited(unknown, _SHOWN))}: the map has the class "
                f"{quoted(names[kelp])} for all kelp (give the sites a column Dom_sp with macro or nereo, {_OTHERWISE})"
            )
    dateless = [quoted(name) for name, day in zip(sites.names, sites.dates, strict=True) if not day]
    if not dateless:
        return []
    return [
        f"{sites.path}: Date, Year and Month are empty for {', '.join(limited(dateless, _SHOWN))}, which have no date "
        "(give the sites a column date, or the map its date with --date)"
    ]


def _species(text: str) -> str | None:
    """Return macro or nereo, whichever a text names; None for neither and for both."""
    found = [species for species, pattern in _SPECIES.items() if pattern.search(text)]
    return found[0] if len(found) == 1 else None


def _canopies(names: Sequence[str], background: int | None) -> dict[str, list[int]]:
    """Return the classes of each species."""
    return {
        species: [value for value, name in enumerate(names) if value != background and _species(name) == species]
        for species in _SPECIES
    }


def _kelp(names: Sequence[str], background: int | None) -> int | None:
    """Return the class of all kelp: the only one but the background, or the only one with kelp in its name."""
    targets = [value for value in range(len(names)) if value != background]
    kelps = [value for value in targets if "kelp" in names[value].casefold()]
    chosen = targets if len(targets) == 1 else kelps
    return chosen[0] if len(chosen) == 1 else None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

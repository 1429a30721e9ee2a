"""Intervals of the areas of classes in sites, from `area.json` of `eval/area.py estimate`, for the table of sites."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.common.documents import check_regular_file
from inference.common.errors import UserError
from inference.common.text import limited, quoted
from inference.vector.site_totals import SiteRow
from inference.vector.sites import Sites

OPTION = "--areas"
_KEYS = {"estimate": "area", "se": "standard_error", "low": "low", "high": "high"}
_TOLERANCE = 1e-6  # of a site's area
_SHOWN = 10


def site_keys(names: Sequence[str], dates: Sequence[str]) -> list[str]:
    """Return a name for each site that no other has: with the date where several have the same name."""
    counts = Counter(names)
    return [f"{name} ({date})" if counts[name] > 1 else name for name, date in zip(names, dates, strict=True)]


@dataclass(frozen=True)
class AreaIntervals:
    """Intervals of the areas of classes in sites.

    Attributes:
        path: File that they were read from.
        sites: Entry of each site of the table, in its order.
    """

    path: str
    sites: tuple[dict[str, Any], ...]

    def columns(self, number: int, row: SiteRow, stems: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
        """Return the columns of a site: estimate, standard error and bounds of each class in m², and checked points.

        Args:
            number: Place of the site in the table, from 0.
            row: Totals of the site.
            stems: Beginning of the columns of each class.
            names: Name of each class.

        Raises:
            UserError: The estimate is of another map, or of another outline of the site.
        """
        entry = self.sites[number]
        mapped, estimated = sum(row.classes), float(entry["area"])
        if abs(mapped - estimated) > _TOLERANCE * max(mapped, estimated):
            raise UserError(
                f"{OPTION}: {self.path}: site {quoted(entry['name'])} has {estimated:,.2f} m², on this map it has "
                f"{mapped:,.2f} m² (give the estimate of a sample of this map and these sites)"
            )
        classes = {each["name"]: each for each in entry["classes"]}
        columns: dict[str, Any] = {
            f"{stem}_{column}_m2": float(classes[name][key])
            for stem, name in zip(stems, names, strict=True)
            for column, key in _KEYS.items()
        }
        return columns | {"checked_points": int(entry["points"])}


def read_intervals(path: str, sites: Sites, names: Sequence[str]) -> AreaIntervals:
    """Read the intervals of sites.

    Args:
        path: `area.json`.
        sites: Sites of the table.
        names: Name of each class of the map.

    Raises:
        UserError: The file can't be read, or lacks a site or a class.
    """
    check_regular_file(Path(path))
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        found = {str(entry["name"]): entry for entry in content["sites"]}
        for entry in found.values():
            numbers = [
                entry["area"],
                entry["points"],
                *(each[key] for each in entry["classes"] for key in _KEYS.values()),
            ]
            _ = [float(number) for number in numbers], [str(each["name"]) for each in entry["classes"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{OPTION}: {path}: can't be read as the result of an estimate (allowed: area.json that eval/area.py "
            "estimate writes)"
        ) from None
    keys = site_keys(sites.names, sites.dates)
    if missing := [quoted(key) for key in keys if key not in found]:
        raise UserError(
            f"{OPTION}: {path}: has no estimate for site {', '.join(limited(missing, _SHOWN))} (draw the sample with "
            f"--sites {sites.path})"
        )
    for key in keys:
        known = {str(each["name"]) for each in found[key]["classes"]}
        if lacking := [name for name in names if name not in known]:
            raise UserError(
                f"{OPTION}: {path}: has no estimate of class {quoted(lacking[0])} (it has "
                f"{', '.join(quoted(name) for name in sorted(known))}; give both commands the same --class-names)"
            )
    return AreaIntervals(path, tuple(found[key] for key in keys))

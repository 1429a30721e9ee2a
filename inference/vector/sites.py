"""Outlines of sites on the grid of a map, with their names, dates and what else the table of sites says of them."""

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.areas import FIX_GEOREFERENCE, ground_sample_distance, why_no_areas
from inference.common.errors import UserError
from inference.common.paths import shown_path
from inference.common.raster import Header
from inference.common.text import limited, quoted
from inference.common.vector import VectorLayer, column_types, read_layer, value_text
from inference.common.vector_grid import valid_pixels

NAME_COLUMNS = ("site", "site_name", "sitename", "name")
"""Columns that name the sites, in any case, the first that there is; else the only column of text does."""
DATE_COLUMNS = ("date",)
"""Columns with the date of a site, in any case."""
TIDE_COLUMNS = ("tide_height_m", "tide_height", "tide_m", "tide")
"""Columns with the height of the tide, m, in any case."""
SPECIES_COLUMNS = ("dom_sp",)
"""Columns with the dominant species, in any case."""
_SLIVER = 1e-3  # of the smaller site: an overlap that is the rounding of a common outline
_SHOWN = 10


class NoSiteOnMap(UserError):
    """No site lies on the map."""


@dataclass(frozen=True)
class Sites:
    """Sites on the grid of a map, one for each name and date.

    Attributes:
        path: File of the outlines.
        names: Name of each site.
        dates: Date of each, YYYY-MM-DD where it could be read; empty if there is none.
        tides: Height of the tide, m, as the file has it; empty if there is none.
        species: Dominant species, as the file has it; empty if there is none.
        geometries: (n,) valid Polygons and MultiPolygons in pixel coordinates; they may overlap, and reach beyond the
            map.
        notices: Notices for the user, a line each.
    """

    path: str
    names: tuple[str, ...]
    dates: tuple[str, ...]
    tides: tuple[str, ...]
    species: tuple[str, ...]
    geometries: NDArray[Any]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def read_sites(
    path: str | Path,
    header: Header,
    *,
    column: str | None = None,
    date_column: str | None = None,
    date: str = "",
    layer: str | None = None,
    every: bool = True,
) -> Sites:
    """Read the outlines of sites, and place them on the grid of a map.

    Features of one name and date are one site: where they overlap, their common area counts once.

    Args:
        path: Vector file.
        header: Header of the map, or of another raster on its grid.
        column: Column that names the sites; None to choose it, see NAME_COLUMNS.
        date_column: Column with their dates; None for that of DATE_COLUMNS, if there is one.
        date: Date of the map, of sites that have none.
        layer: Name of the layer; None if the file has a single one.
        every: False to leave out sites that don't lie on the map.

    Raises:
        UserError: The file can't be read, a site has no name, no site lies on the map, or the ground areas of the map
            aren't known.
    """
    option = "--sites"
    types = column_types(path, layer, option)
    others = {
        "date": date_column or _named(types, DATE_COLUMNS),
        "tide": _named(types, TIDE_COLUMNS),
        "species": _named(types, SPECIES_COLUMNS),
    }
    column = _name_column(types, others.values(), shown_path(path)) if column is None else column
    wanted = dict.fromkeys([column, *(other for other in others.values() if other is not None)])
    read = read_layer(path, layer, list(wanted), option)
    if not len(read.geometries):
        raise UserError(f"{read.path}: layer {quoted(read.name)} has no sites (it needs a polygon for each)")
    if (
        header.georeferenced
        and ground_sample_distance(header.crs, header.transform, header.height, header.width) is None
    ):
        raise UserError(
            f"{header.path}: the areas of sites aren't known, because {why_no_areas(header)} ({FIX_GEOREFERENCE})"
        )
    names = [value_text(value).strip() for value in read.columns[column]]
    _check_names(read, names, column)
    placed, lines = valid_pixels(read, header)
    notices = list(lines)

    def values(kind: str) -> list[str]:
        name = others[kind]
        if name is None:
            return [""] * len(names)
        return [(date_text if kind == "date" else value_text)(value).strip() for value in read.columns[name]]

    own_dates = values("date")
    keys = [(name, own or date) for name, own in zip(names, own_dates, strict=True)]
    sites = list(dict.fromkeys(keys))
    number = {key: at for at, key in enumerate(sites)}
    features: list[list[int]] = [[] for _ in sites]
    for at, key in enumerate(keys):
        features[number[key]].append(at)
    geometries = np.full(len(sites), None, object)
    geometries[:] = [placed[own[0]] if len(own) == 1 else shapely.union_all(placed[own]) for own in features]
    _check_extent(read, geometries, header)
    found = Sites(
        path=read.path,
        names=tuple(name for name, _ in sites),
        dates=tuple(day for _, day in sites),
        tides=_common(read, sites, features, values("tide"), others["tide"]),
        species=_common(read, sites, features, values("species"), others["species"]),
        geometries=geometries,
    )
    if not every:
        kept = np.flatnonzero(_on_map(found.geometries, header)).tolist()
        sites = [sites[at] for at in kept]
        lists = {
            name: tuple(getattr(found, name)[at] for at in kept) for name in ("names", "dates", "tides", "species")
        }
        found = Sites(found.path, **lists, geometries=found.geometries[kept])
    notices += [*_date_notice(read, sites, date), *_outside_notice(found, header), *_overlap_notice(found)]
    return Sites(**{**found.__dict__, "notices": tuple(notices)})


def date_text(value: Any) -> str:
    """Return a date of a column as YYYY-MM-DD; a value that is no date of the order year, month, day as it is."""
    if isinstance(value, np.datetime64):
        return "" if np.isnat(value) else str(value.astype("datetime64[D]"))
    text = value_text(value).strip()
    found = re.match(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)", text) or re.match(r"(\d{4})()(\d\d)(\d\d)$", text)
    if found is None:
        return text
    try:
        return datetime.date(int(found[1]), int(found[3]), int(found[4])).isoformat()
    except ValueError:
        return text


def _named(types: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the column that has one of some names in any case, the first of them that there is; None if none has."""
    by_name = {column.casefold(): column for column in reversed(list(types))}
    return next((by_name[name] for name in names if name in by_name), None)


def _name_column(types: Mapping[str, str], taken: Iterable[str | None], shown: str) -> str:
    """Return the column that names the sites, where the user has named none."""
    named = _named(types, NAME_COLUMNS)
    if named is not None:
        return named
    texts = [column for column, kind in types.items() if kind == "object" and column not in set(taken)]
    if len(texts) == 1:
        return texts[0]
    has = ", ".join(limited((quoted(column) for column in types), _SHOWN, len(types))) or "none"
    what = "several columns could name the sites" if texts else "no column of text names the sites"
    raise UserError(f"{shown}: {what} (choose one with --site-column; it has {has})")


def _check_names(layer: VectorLayer, names: Sequence[str], column: str) -> None:
    fids = range(len(names)) if layer.fids is None else layer.fids.tolist()
    nameless = [str(fid) for fid, name in zip(fids, names, strict=True) if not name]
    if nameless:
        one = len(nameless) == 1
        raise UserError(
            f"{layer.path}: {'feature' if one else 'features'} {', '.join(limited(nameless, _SHOWN))} "
            f"{'has' if one else 'have'} no name in column {quoted(column)} (give every site a name, delete what is no "
            "site, or choose another column with --site-column)"
        )


def _common(
    layer: VectorLayer,
    sites: Sequence[tuple[str, str]],
    features: Sequence[Sequence[int]],
    values: Sequence[str],
    column: str | None,
) -> tuple[str, ...]:
    """Return the value of a column for each site, in which all of its features that have one agree."""
    result = []
    for (name, _), own in zip(sites, features, strict=True):
        found = list(dict.fromkeys(values[at] for at in own if values[at]))
        if len(found) > 1:
            raise UserError(
                f"{layer.path}: the features of site {quoted(name)} differ in column {quoted(column)}: "
                f"{', '.join(quoted(value) for value in found[:_SHOWN])} (give all the same value, or each its own "
                "name or date)"
            )
        result.append(found[0] if found else "")
    return tuple(result)


def _whole(header: Header) -> Any:
    return shapely.box(0, 0, header.width, header.height)


def _on_map(geometries: NDArray[Any], header: Header) -> NDArray[np.bool_]:
    """Return True for polygons that have an area in common with the map, (n,)."""
    whole = _whole(header)
    return np.asarray(shapely.intersects(geometries, whole) & ~shapely.touches(geometries, whole))


def _check_extent(layer: VectorLayer, geometries: NDArray[Any], header: Header) -> None:
    """Check that a site lies on the map."""
    if _on_map(geometries, header).any():
        return
    if shapely.is_empty(geometries).all():
        raise UserError(f"{layer.path}: layer {quoted(layer.name)} has no site with an area (draw their outlines anew)")

    def reach(bounds: Any) -> str:
        corners = np.array([[bounds[i], bounds[j]] for i in (0, 2) for j in (1, 3)]).T
        x, y = header.transform @ (corners[0], corners[1])
        return f"x {x.min():.9g} to {x.max():.9g}, y {y.min():.9g} to {y.max():.9g}"

    name = ":".join(header.crs.to_authority() or ["its CRS"])
    raise NoSiteOnMap(
        f"{layer.path}: no site lies on {header.path}: the sites reach {reach(shapely.total_bounds(geometries))}, the "
        f"map {reach((0, 0, header.width, header.height))} in {name} (check the coordinate reference systems of both)"
    )


def _date_notice(layer: VectorLayer, sites: Sequence[tuple[str, str]], date: str) -> list[str]:
    other = [f"{quoted(name)} ({day})" for name, day in sites if date and day != date]
    if not other:
        return []
    return [
        f"{layer.path}: sites with another date than the map's, {date}, which are measured on this map all the same: "
        f"{', '.join(limited(other, _SHOWN))}"
    ]


def _outside_notice(sites: Sites, header: Header) -> list[str]:
    empty = shapely.is_empty(sites.geometries)
    notices = []
    for what, found in (
        (f"sites outside {header.path}, 100 % unmapped", ~_on_map(sites.geometries, header) & ~empty),
        ("sites without an area", empty),
    ):
        names = limited((quoted(sites.names[at]) for at in np.flatnonzero(found)), _SHOWN, int(found.sum()))
        if names:
            notices.append(f"{sites.path}: {what}: {', '.join(names)}")
    return notices


def _overlap_notice(sites: Sites) -> list[str]:
    one, other = shapely.STRtree(sites.geometries).query(sites.geometries, predicate="intersects")
    # Sites of one name have different dates.
    apart = np.array([a < b and sites.names[a] != sites.names[b] for a, b in zip(one, other, strict=True)], np.bool_)
    one, other = one[apart], other[apart]
    common = shapely.area(shapely.intersection(sites.geometries[one], sites.geometries[other]))
    smaller = np.minimum(shapely.area(sites.geometries[one]), shapely.area(sites.geometries[other]))
    found = np.flatnonzero(common > _SLIVER * smaller)
    if not len(found):
        return []
    pairs = (f"{quoted(sites.names[one[at]])} and {quoted(sites.names[other[at]])}" for at in found)
    return [
        f"{sites.path}: sites that overlap count in full each, so that a sum over sites counts their common area more "
        f"than once: {', '.join(limited(pairs, _SHOWN, len(found)))}"
    ]

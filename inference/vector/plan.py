"""Plan of the vector outputs of a map: all checks, and the polygons to read, before the map is made or read."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path, user_source
from inference.common.raster import Header
from inference.common.targets import TABLE_SUFFIXES, VECTOR_SUFFIXES, check_no_input, check_target
from inference.common.text import quoted
from inference.common.vector import check_vector_path, read_layer
from inference.vector.area_intervals import OPTION, read_intervals
from inference.vector.cuts import Mask
from inference.vector.features import MapInfo
from inference.vector.formats import FORMATS
from inference.vector.ground import Ground
from inference.vector.options import VectorOptions
from inference.vector.outputs import TablePlan, VectorPlan
from inference.vector.polygon_writer import PolygonPlan
from inference.vector.site_tables import check_table
from inference.vector.sites import read_sites


def plan_vectors(
    options: VectorOptions,
    info: MapInfo,
    *,
    overwrite: bool,
    map_path: str | Path,
    inputs: Mapping[str | Path, str],
    targets: Mapping[Path, str],
    argument: str,
    areas: str | Path | None = None,
    every_site: bool = True,
    clear: bool = True,
) -> VectorPlan:
    """Make the plan of the vector outputs of a map; writes nothing.

    Args:
        options: Options of the user, which have been checked.
        info: Contents of the map.
        overwrite: True if existing files may be replaced.
        map_path: The map, beside which its style is written.
        inputs: Files that the command reads, each with what it is.
        targets: Further files that the command writes, each with what it is.
        argument: Option or argument that names the file of polygons.
        areas: File with the estimated areas of the sites; None for none.
        every_site: False to leave out sites that don't lie on the map.
        clear: False where stale temporary files beside the outputs were cleared, see `check_target`.

    Raises:
        UserError: An input or an option is invalid.
    """
    files = {}
    for option, file in (("--erase", options.erase), ("--clip", options.clip), ("--sites", options.sites)):
        if file is not None:
            files[option] = user_source(file, option)
    inputs = {**inputs, **{str(file).partition("|")[0]: f"what {option} reads" for option, file in files.items()}}
    common: dict[str, Any] = {"overwrite": overwrite, "inputs": inputs, "clear": clear}
    taken = dict(targets)

    def target(path: str | Path, option: str, suffixes: Sequence[str] = ()) -> Path:
        checked = check_target(path, option, suffixes=suffixes, **common)
        for other, what in taken.items():
            if checked.resolve() == other.resolve():
                raise UserError(f"{option}: {checked} is {what} (choose another file)")
            check_no_input(checked, option, {other: what})
        taken[checked] = f"the file of {option}"
        return checked

    header = info.header
    polygons = table = style = None
    if options.polygons is not None:
        path = target(options.polygons, argument, VECTOR_SUFFIXES)
        check_vector_path(path)
        _check_companions(path, overwrite, inputs, argument)
        _check_georeference(header, options, argument)
        if FORMATS[path.suffix.lower()].placed and not Ground(header).known:
            raise UserError(
                f"{header.path} can't be placed on the Earth, as {path.suffix} demands (give {argument} a name that "
                "ends in .gpkg, or the map its CRS)"
            )
    if options.table is not None:
        table_path = target(options.table, "--table", TABLE_SUFFIXES)
        _check_georeference(header, options, "--table")
    if options.qgis_style:
        if is_address(str(map_path)) or not Path(map_path).name or str(map_path).lstrip().startswith("<"):
            raise UserError(
                f"--qgis-style: {shown_path(map_path)} is no file, so there is no place beside it (leave it out)"
            )
        style = target(Path(map_path).with_suffix(".qml"), "--qgis-style")
    notices: list[str] = []
    if options.polygons is not None:
        masks: dict[str, Mask | None] = {"--erase": None, "--clip": None}
        for option in masks:
            if option in files:
                masks[option] = mask = Mask(read_layer(files[option], option=option), header)
                notices += mask.notices
        polygons = PolygonPlan(
            info=info,
            path=path,
            classes=_classes(options, info),
            overwrite=overwrite,
            min_area=options.min_area,
            fill_holes=options.fill_holes,
            simplify=options.simplify,
            diagonal=options.connectivity == 8,
            dissolve=options.dissolve,
            erase=masks["--erase"],
            clip=masks["--clip"],
        )
    if options.table is not None:
        sites = read_sites(files["--sites"], header, column=options.site_column, date=info.date, every=every_site)
        notices += [*sites.notices, *check_table(sites, info, options.table_format)]
        intervals = None if areas is None else read_intervals(user_source(areas, OPTION), sites, info.names)
        table = TablePlan(sites, table_path, options.table_format, intervals)
    return VectorPlan(info, overwrite, polygons, table, style, tuple(notices))


def _classes(options: VectorOptions, info: MapInfo) -> list[int]:
    """Return the indices of the classes that the user has named; by default all but the background."""
    if options.classes is None:
        if not info.targets:
            raise UserError(f"{info.header.path}: has no class but the background, so there are no polygons to write")
        return info.targets
    by_name: dict[str, list[int]] = {}
    for at, name in enumerate(info.names):
        by_name.setdefault(name.strip().casefold(), []).append(at)
    by_name = {str(value): [at] for at, value in enumerate(info.numbers)} | by_name
    unknown = [name for name in options.classes if name.strip().casefold() not in by_name]
    if unknown:
        known = ", ".join(f"{quoted(name)} ({value})" for name, value in zip(info.names, info.numbers, strict=True))
        raise UserError(f"--classes: the map has no class {quoted(unknown[0])} (it has {known})")
    return sorted({at for name in options.classes for at in by_name[name.strip().casefold()]})


def _check_georeference(header: Header, options: VectorOptions, option: str) -> None:
    if not header.georeferenced:
        raise UserError(
            f"{header.path}: isn't georeferenced, so {option} can't be made (give it its CRS and transform; "
            "ground control points alone don't place pixels: gdalwarp IN.tif OUT.tif)"
        )
    if header.transform.is_degenerate or not all(map(math.isfinite, header.transform)):
        raise UserError(
            f"{header.path}: its pixels have no extent or no place, so {option} can't be written (correct the "
            f"transform {', '.join(f'{number:g}' for number in tuple(header.transform)[:6])})"
        )
    if not Ground(header).known:
        for name, given in (("--min-area", options.min_area), ("--fill-holes", options.fill_holes)):
            if given:
                raise UserError(
                    f"{name}: {header.path} can't be placed on the Earth, so no areas are known (leave it out)"
                )
        if option == "--table":
            raise UserError(
                f"--table: {header.path} can't be placed on the Earth, so no areas are known (leave it out)"
            )


def _check_companions(path: Path, overwrite: bool, inputs: Mapping[str | Path, str], option: str) -> None:
    """Check that the further files of a format, such as .dbf, don't exist, or may be replaced."""
    kind = FORMATS[path.suffix.lower()]
    for name in kind.companion_names(path):
        found = path.with_name(name)
        check_no_input(found, option, inputs)
        if found.exists() and not overwrite:
            raise UserError(f"{found}: exists already (replace it with --overwrite, or choose another {option})")

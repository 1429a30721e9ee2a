"""Polygons and tables of sites of a map that exists; the function behind the command `polygons.py`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference.common.areas import FIX_GEOREFERENCE, georeference_problem, usable_crs, why_no_areas
from inference.common.errors import UserError
from inference.common.paths import user_source
from inference.common.progress import Progress
from inference.common.raster import Header
from inference.common.signals import Cancelled, DeferredInterrupt
from inference.common.text import print_line
from inference.common.vector import vector_libraries
from inference.output.summary import ClassCounter, ClassTotal, class_table
from inference.vector.class_map import ClassMap, open_class_map
from inference.vector.options import VectorOptions
from inference.vector.outputs import VectorOutputs
from inference.vector.plan import plan_vectors


@dataclass(frozen=True, kw_only=True)
class PolygonizeOptions(VectorOptions):
    """Options of the command `polygons.py` and of `polygonize`, beside those of `VectorOptions`.

    Attributes:
        probabilities: Raster of probabilities on the grid of the map; None if there is none.
        class_names: Names of the classes by value, or of 0, 1, ...; None to take them from the map, or to number them.
        nodata: Value of unmapped pixels in place of the file's; "none" for no value.
        areas: `area.json` of `eval/area.py estimate`, for interval columns in the table of sites; None for none.
        overwrite: True to replace existing files.
    """

    probabilities: str | Path | None = None
    class_names: Mapping[int, str] | Sequence[str] | None = None
    nodata: float | str | None = None
    areas: str | Path | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Check the values; raise `UserError` with a line for each invalid option."""
        problems = self.vector_problems("OUT.gpkg")
        if isinstance(self.nodata, str) and self.nodata != "none":
            problems.append(f"--nodata: {self.nodata} (allowed: a number, nan, none)")
        if self.polygons is None and self.table is None and not self.qgis_style and not problems:
            problems.append("nothing to write (give OUT.gpkg, --sites with --table, or --qgis-style)")
        if self.areas is not None and (self.table is None or self.table_format != "plain"):
            problems.append(
                "--areas: adds columns to the plain table of sites (add --sites and --table, or leave it out)"
            )
        if self.class_names is not None and len(self.class_names) > 256:
            problems.append(f"--class-names: {len(self.class_names)} names (a map has 256 classes at most)")
        if problems:
            raise UserError("\n".join(problems))


@dataclass(frozen=True)
class PolygonSummary:
    """Summary of the polygons of a map; `str` formats it for the terminal.

    Attributes:
        classes: Totals by class of the whole map, in the order of their values.
        invalid: Number of invalid pixels.
        lines: Lines about the polygons.
        seconds: Run time.
        paths: Files that were written.
        notices: Notices for the user, a line each.
        no_areas: Reason why areas aren't known, where they aren't.
    """

    classes: Sequence[ClassTotal]
    invalid: int
    lines: Sequence[str]
    seconds: float
    paths: Sequence[str]
    notices: Sequence[str]
    no_areas: str

    def __str__(self) -> str:
        lines = [*class_table(self.classes, self.invalid, self.no_areas), *self.lines, f"took: {self.seconds:.1f} s"]
        return "\n".join(lines + [f"wrote: {path}" for path in self.paths])


def polygonize(
    source: str | Path, polygons: str | Path | None = None, progress: bool = False, **options: Any
) -> PolygonSummary:
    """Write the polygons of a map of classes, a table of sites, or both.

    Args:
        source: Map that `predict` wrote, or any raster of one band of class numbers.
        polygons: File for the polygons; its suffix chooses the format.
        progress: True to show progress and notices on stderr.
        **options: Fields of `PolygonizeOptions`.

    Raises:
        UserError: Invalid input or options. Nothing has been written; existing files are unchanged.
    """
    started = time.monotonic()
    chosen = PolygonizeOptions(polygons=polygons, **options)
    chosen.check()
    vector_libraries()
    path = user_source(source, "MAP.tif")
    floats = None if chosen.probabilities is None else user_source(chosen.probabilities, "--probabilities")
    names = chosen.class_names
    if names is not None and not isinstance(names, Mapping):
        names = dict(enumerate(names))
    found = open_class_map(path, probabilities=floats, names=names, nodata=chosen.nodata)
    if chosen.date is not None:
        found = replace(found, info=replace(found.info, date=chosen.date))
    header = found.info.header
    inputs: dict[str | Path, str] = {}
    for each, what in ((found.probabilities, "the file of probabilities"), (header, "the map itself")):
        if each is not None:
            inputs |= {**dict.fromkeys(each.files, f"a part of {each.path}"), each.path: what}
    if chosen.areas is not None:
        inputs[user_source(chosen.areas, "--areas")] = "the estimate of the areas"
    plan = plan_vectors(
        chosen,
        found.info,
        overwrite=chosen.overwrite,
        map_path=path,
        inputs=inputs,
        targets={},
        argument="OUT.gpkg",
        areas=chosen.areas,
    )
    notices = (*found.notices, *_georeference_notices(header), *plan.notices)
    if progress:
        for notice in notices:
            print_line(notice)
    with DeferredInterrupt() as interrupt:
        outputs = VectorOutputs(plan)
        try:
            counter = _feed(found, outputs, interrupt, progress)
            outputs.complete()
            interrupt.finish()
            outputs.publish()
        except BaseException:
            outputs.discard()
            raise
    areas = counter.areas
    return PolygonSummary(
        classes=[
            ClassTotal(name, int(value), int(counter.pixels[at]), None if areas is None else float(areas[at]))
            for at, (name, value) in enumerate(zip(found.info.names, found.info.numbers, strict=True))
        ],
        invalid=counter.invalid,
        lines=outputs.lines,
        seconds=time.monotonic() - started,
        paths=[str(written) for written in outputs.paths],
        notices=notices,
        no_areas=why_no_areas(header).replace("mosaic", "map"),
    )


def _feed(found: ClassMap, outputs: VectorOutputs, interrupt: DeferredInterrupt, progress: bool) -> ClassCounter:
    """Read the map and pass its rows on; return the totals by class."""
    header = found.info.header
    counter = ClassCounter(len(found.info.names), usable_crs(header), header.transform, header.width)
    with Progress(header.height, "polygons", "rows", progress) as bar:
        for rows in found.rows():
            if interrupt.stop.is_set():
                raise Cancelled
            counter.add(rows.row, rows.values, rows.invalid)
            outputs.add(rows.row, rows.values, rows.invalid, rows.probability)
            bar.show(rows.row + len(rows.values))
    return counter


def _georeference_notices(header: Header) -> list[str]:
    problem = georeference_problem(header.crs, header.transform, header.height, header.width)
    if problem is None:
        return []
    return [f"{header.path}: its georeference is wrong: {problem} ({FIX_GEOREFERENCE}); areas aren't known"]

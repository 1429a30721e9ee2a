"""Vector outputs of a map: polygons, the table of sites and the style of QGIS, fed with the rows of the map."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.output.staged import StagedFile
from inference.vector.area_intervals import AreaIntervals
from inference.vector.features import MapInfo
from inference.vector.polygon_writer import PolygonCounts, PolygonPlan, PolygonWriter
from inference.vector.site_tables import site_table
from inference.vector.site_totals import SiteRow, SiteTotals
from inference.vector.sites import Sites


@dataclass(frozen=True)
class TablePlan:
    """Plan of a table of sites.

    Attributes:
        sites: Sites, on the grid of the map.
        path: CSV file to write.
        format: Name of the columns, see `TABLE_FORMATS`.
        intervals: Estimated areas of the sites, for further columns; None for none.
    """

    sites: Sites
    path: Path
    format: str
    intervals: AreaIntervals | None = None


@dataclass(frozen=True)
class VectorPlan:
    """Plan of the vector outputs of a map.

    Attributes:
        info: Contents of the map.
        overwrite: True if files may be replaced.
        polygons: Plan of the polygons; None to write none.
        table: Plan of the table of sites; None to write none.
        style: File for the style of QGIS of the map; None to write none.
        notices: Notices for the user, a line each.
    """

    info: MapInfo
    overwrite: bool
    polygons: PolygonPlan | None
    table: TablePlan | None
    style: Path | None
    notices: tuple[str, ...] = ()


class VectorOutputs:
    """Vector outputs that are being written.

    Args:
        plan: What to write.

    Raises:
        UserError: A file can't be written.
    """

    def __init__(self, plan: VectorPlan) -> None:
        self._plan = plan
        self._files: list[StagedFile | PolygonWriter] = []
        self._polygons: PolygonWriter | None = None
        self._table: StagedFile | None = None
        self._totals: SiteTotals | None = None
        self._rows: list[SiteRow] = []  # of the table, once it is complete
        try:
            if plan.polygons is not None:
                self._polygons = PolygonWriter(plan.polygons)
                self._files.append(self._polygons)
            if plan.table is not None:
                self._totals = SiteTotals(
                    plan.table.sites, plan.info.header, len(plan.info.names), plan.info.background
                )
                self._table = StagedFile(plan.table.path, plan.overwrite)
                self._files.append(self._table)
            if plan.style is not None:
                style = StagedFile(plan.style, plan.overwrite)
                self._files.append(style)
                style.write_text(plan.info.raster_style())
        except BaseException:
            self.discard()
            raise

    def add(
        self,
        row: int,
        values: NDArray[np.uint8],
        invalid: NDArray[np.bool_] | None,
        probability: NDArray[np.float32] | None,
    ) -> None:
        """Add the next rows of the map, see `PolygonWriter.add`."""
        if self._polygons is not None:
            self._polygons.add(row, values, invalid, probability)
        if self._totals is not None:
            self._totals.add(row, values, invalid, probability)

    def complete(self) -> None:
        """Complete all files; they keep their temporary names."""
        if self._totals is not None and self._table is not None and self._plan.table is not None:
            table = self._plan.table
            self._rows = self._totals.rows()
            text = site_table(self._rows, self._plan.info, table.format, table.intervals)
            self._table.write_text(text)
        for file in self._files:
            file.complete()

    def publish(self) -> None:
        """Give all files their names."""
        for file in self._files:
            file.publish()

    def discard(self) -> None:
        """Remove what was written."""
        for file in self._files:
            file.discard()

    @property
    def paths(self) -> list[Path]:
        """Files that are written."""
        polygons, table = self._plan.polygons, self._plan.table
        paths = [
            polygons.path if polygons is not None and self._polygons is not None and self._polygons.written else None,
            None if table is None else table.path,
            self._plan.style,
        ]
        return [path for path in paths if path is not None]

    @property
    def lines(self) -> list[str]:
        """Lines for the summary of the command."""
        lines = []
        if self._plan.polygons is not None and self._polygons is not None:
            lines += count_lines(self._polygons.counts, self._plan.polygons)
            if not self._polygons.written:
                lines.append(f"{self._plan.polygons.path}: not written, as vector tiles can't be empty")
        if self._totals is not None:
            area = sum(row.area for row in self._rows)
            unmapped = sum(row.invalid + row.outside for row in self._rows) / area if area else 0.0
            lines.append(f"sites: {len(self._rows):,} ({area:,.1f} m², {unmapped:.1%} unmapped)")
        return lines


def count_lines(counts: PolygonCounts, plan: PolygonPlan) -> list[str]:
    """Return what became of the polygons of a map, a line for each step that was asked for."""

    def area(square_metres: float) -> str:
        return f" ({square_metres:,.1f} m²)" if np.isfinite(square_metres) else ""

    lines = [f"polygons: {counts.written.number:,}{area(counts.written.area)}"]
    if plan.dissolve:
        lines[0] += ", dissolved to one feature a class"
    if plan.min_area:
        lines.append(f"dropped: {counts.dropped.number:,} below {plan.min_area:g} m²{area(counts.dropped.area)}")
    if plan.fill_holes:
        lines.append(f"filled: {counts.filled.number:,} holes up to {plan.fill_holes:g} m²{area(counts.filled.area)}")
    for done, count, mask in (("erased", counts.erased, plan.erase), ("clipped", counts.clipped, plan.clip)):
        if mask is not None:
            lines.append(f"{done}: parts of {count.number:,} polygons{area(count.area)}, by {mask.path}")
    return lines

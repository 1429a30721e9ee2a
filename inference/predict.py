"""Map a mosaic, by one process or from row bands that several processes have predicted."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.areas import why_no_areas
from inference.common.raster import environment
from inference.common.signals import DeferredInterrupt
from inference.common.text import print_line
from inference.model.backends import Backend, open_backend
from inference.options import Options
from inference.output.map import MapWriter, Validity
from inference.output.summary import Summary
from inference.output.survey import Survey
from inference.plan import Plan, make_plan
from inference.predicted_rows import Rows, TileCounts, predict_rows, resampled_grid
from inference.tiles.row_bands import whole
from inference.tiles.value_range import value_range

Produce = Callable[[Rows, Survey, DeferredInterrupt], TileCounts]
"""Function that passes all rows of a mosaic to a destination, its strips to a survey, and counts tiles."""


def predict(source: str | Path, target: str | Path, progress: bool = False, **options: Any) -> Summary:
    """Map a mosaic; the function behind the command `inference.py`.

    Args:
        source: Path or address of the mosaic: anything that GDAL reads, `/vsicurl/` and `s3://` included.
        target: Path of the map, a GeoTIFF on the mosaic's grid.
        progress: Whether to show progress and notices on stderr.
        **options: Fields of `inference.options.Options`.

    Returns:
        Summary of the map: pixels and areas by class, number of tiles, run time, notices.

    Raises:
        UserError: Invalid input or options. Nothing has been written; an existing map is unchanged.
    """
    return Mapper().predict(source, target, progress, **options)


class Mapper:
    """Maps mosaics one after another and keeps the model loaded as long as the next mosaic uses the same one."""

    def __init__(self) -> None:
        self._loaded: tuple[object, Backend] | None = None

    def predict(self, source: str | Path, target: str | Path, progress: bool = False, **options: Any) -> Summary:
        """Map a mosaic; arguments, result and exceptions as for the function `predict`."""
        started = time.monotonic()
        plan = make_plan(source, target, Options(**options))
        if progress:
            for notice in plan.notices:
                print_line(notice)
        return self.carry_out(plan, progress, started=started)

    def carry_out(
        self,
        plan: Plan,
        progress: bool = False,
        *,
        show: Callable[[int, int], None] | None = None,
        started: float | None = None,
    ) -> Summary:
        """Map a mosaic by a plan that was made before, perhaps in another thread.

        Args:
            plan: The plan.
            progress: Whether to show progress and further notices on stderr.
            show: Called with the numbers of finished tiles and of all tiles.
            started: `time.monotonic()` at the start of the run; None if it starts with this call.

        Raises:
            UserError: The model can't be loaded, or a file can't be read or written.
        """
        started = time.monotonic() if started is None else started
        plan = with_range(plan, progress)
        backend = self.load(plan)

        def produce(rows: Rows, survey: Survey, interrupt: DeferredInterrupt) -> TileCounts:
            return predict_rows(
                plan, backend, whole(plan.rows), rows, interrupt, survey=survey, progress=progress, show=show
            )[0]

        return write_map(plan, backend.title, produce, progress=progress, started=started)

    def load(self, plan: Plan) -> Backend:
        """Load the model of a plan, unless it is loaded already."""
        file = plan.request.path.stat()
        # Include the file's identity: another model may have been exported to the same path meanwhile.
        wanted = plan.backend, plan.request, file.st_ino, file.st_size, file.st_mtime_ns
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # free the old model before the new one is loaded
            self._loaded = wanted, open_backend(plan.backend, plan.request)
        return self._loaded[1]


def with_range(plan: Plan, progress: bool = False) -> Plan:
    """Return a plan that scales pixels by the range of the mosaic's valid pixels, with a notice, if its card says so.

    Args:
        plan: The plan.
        progress: Whether to show progress and the notice on stderr.
    """
    if plan.card.normalization == "standard":
        return plan
    with environment():
        lowest, highest = value_range(plan.source, progress)
    if plan.card.normalization == "min_max":
        lowest[:], highest[:] = lowest.min(), highest.max()
    span = highest - lowest
    ranges = sorted({f"{low:g} to {high:g}" for low, high in zip(lowest, highest, strict=True)})
    notice = (
        f"{plan.source.header.path}: normalization: {plan.card.normalization}: pixels are scaled by the range of the "
        f"whole mosaic, {'; '.join(ranges)}, measured in an extra pass (habitat-mapper: of each tile)"
    )
    if progress:
        print_line(notice)
    # A single value is scaled to 0, whatever the divisor.
    return replace(plan, mean=lowest, std=np.where(span > 0, span, 1), notices=(*plan.notices, notice))


class _MapRows:
    """Rows of the network's grid as rows of the map."""

    def __init__(self, plan: Plan, writer: MapWriter) -> None:
        self._writer, self._grid = writer, resampled_grid(plan)

    def add_validity(self, validity: Validity) -> None:
        self._writer.add_validity(validity)

    def add(self, rows: NDArray[np.float32]) -> None:
        self._writer.add_rows(rows if self._grid is None else self._grid.to_mosaic(rows))

    def complete(self) -> None:
        self._writer.complete()


def write_map(plan: Plan, title: str, produce: Produce, *, progress: bool = False, started: float) -> Summary:
    """Write the files of a mosaic; delete unfinished ones on failure or interruption.

    Args:
        plan: Plan of the run.
        title: Title of the back end.
        produce: Produces the rows.
        progress: Whether to show notices on stderr.
        started: `time.monotonic()` at the start of the run.

    Raises:
        UserError: A file can't be read or written, or what `produce` raises.
    """
    with environment(), DeferredInterrupt() as interrupt:
        writer = MapWriter(plan, title)
        survey = Survey(plan)
        try:
            counts = produce(_MapRows(plan, writer), survey, interrupt)
            interrupt.finish()
            classes = writer.publish()
        except BaseException:
            writer.discard()
            raise
    header, card = plan.source.header, plan.card
    warnings = survey.notices(writer.counter)
    if progress:
        for warning in warnings:
            print_line(warning)
    return Summary(
        classes=classes,
        invalid=writer.counter.invalid,
        height=header.height,
        width=header.width,
        tiles=counts.predicted,
        skipped=counts.skipped,
        tile=plan.rows.tile,
        seconds=time.monotonic() - started,
        backend=title,
        model=" ".join(filter(None, [card.name, card.revision, f"({plan.request.path})"])),
        paths=[
            *(str(path) for path in (plan.target, plan.probabilities) if path is not None),
            *map(str, writer.paths),
        ],
        lines=writer.lines,
        notices=(*plan.notices, *warnings),
        no_areas=why_no_areas(header),
    )

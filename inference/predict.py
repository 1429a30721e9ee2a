"""Map a mosaic: read, predict, blend and write, each in its own thread.

    strips of the mosaic -> normalised tiles -> network -> blended probabilities -> blocks of classes -> files

The network runs in the calling thread. The queues between the threads hold one strip and a few batches of tiles.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.areas import why_no_areas
from inference.common.bands import AlphaSurvey
from inference.common.progress import Progress
from inference.common.raster import environment
from inference.common.signals import DeferredInterrupt
from inference.common.text import print_line
from inference.common.undeclared import NodataDetector
from inference.common.validity import alpha_bands
from inference.model.backends import Backend, open_backend
from inference.model.output_check import OutputCheck
from inference.model.probabilities import probabilities, probability_channels
from inference.options import Options
from inference.output.map import MapWriter, Validity
from inference.output.summary import Summary, alpha_notices, undeclared_notices
from inference.plan import Plan, make_plan
from inference.threads import Pipeline
from inference.tiles.blending import Blend
from inference.tiles.resample import ResampledGrid
from inference.tiles.strips import Strip
from inference.tiles.symmetries import SYMMETRIES, Symmetry, mean_prediction
from inference.tiles.tile_reader import TileReader
from inference.tiles.value_range import value_range

_PREFETCH_BYTES = 16 * 2**20  # upper bound on the tiles that wait for the network


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
        if plan.card.normalization != "standard":
            plan = _scaled_by_range(plan, progress)
        return _map_mosaic(plan, self.load(plan), progress, started, show)

    def load(self, plan: Plan) -> Backend:
        """Load the model of a plan, unless it is loaded already."""
        file = plan.request.path.stat()
        # Include the file's identity: another model may have been exported to the same path meanwhile.
        wanted = plan.backend, plan.request, file.st_ino, file.st_size, file.st_mtime_ns
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # free the old model before the new one is loaded
            self._loaded = wanted, open_backend(plan.backend, plan.request)
        return self._loaded[1]


def _scaled_by_range(plan: Plan, progress: bool) -> Plan:
    """Return a plan that scales pixels by the range of the mosaic's valid pixels, with a notice."""
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


def _map_mosaic(
    plan: Plan, backend: Backend, progress: bool, started: float, show: Callable[[int, int], None] | None = None
) -> Summary:
    """Carry out a plan; delete unfinished files on failure or interruption."""
    with environment(), DeferredInterrupt() as interrupt:
        writer = MapWriter(plan, backend.title)
        header, card = plan.source.header, plan.card
        detector = None
        if plan.options.nodata != "none":  # the user says that every value is data
            detector = NodataDetector(header.height, header.width, header.dtype, header.block)
        alpha = [AlphaSurvey() for _ in alpha_bands(header, plan.source.bands)]
        try:
            counts = _run_pipeline(plan, backend, writer, detector, alpha, interrupt, progress, show)
            interrupt.finish()
            classes = writer.publish()
        except BaseException:
            writer.discard()
            raise
    warnings = alpha_notices(header, plan.source.bands, alpha)
    if detector is not None:
        warnings += undeclared_notices(header.path, detector, writer.counter, card.class_names)
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
        backend=backend.title,
        model=" ".join(filter(None, [card.name, card.revision, f"({plan.request.path})"])),
        paths=[
            *(str(path) for path in (plan.target, plan.probabilities) if path is not None),
            *map(str, writer.paths),
        ],
        lines=writer.lines,
        notices=(*plan.notices, *warnings),
        no_areas=why_no_areas(header),
    )


@dataclass
class _TileCounts:
    """Number of predicted and of skipped tiles."""

    predicted: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class _Batch:
    """Batch of tiles from one row of tiles.

    Attributes:
        row: Index of the row of tiles.
        cols: Indices of the tiles in the row, from left to right; may be empty.
        pixels: (len(cols), bands, tile, tile) float32 normalised pixels; None where there are no tiles, and after
            prediction.
        outputs: Output of the network for each symmetry; empty before prediction.
        strips: Parts of the mosaic that were read for this batch.
        last: Whether this is the last batch of the row of tiles.
    """

    row: int
    cols: list[int]
    pixels: NDArray[np.float32] | None
    outputs: list[tuple[Symmetry, NDArray[Any]]]
    strips: list[Validity]
    last: bool


def _run_pipeline(
    plan: Plan,
    backend: Backend,
    writer: MapWriter,
    detector: NodataDetector | None,
    alpha: Sequence[AlphaSurvey],
    interrupt: DeferredInterrupt,
    progress: bool,
    show: Callable[[int, int], None] | None,
) -> _TileCounts:
    """Run the threads of a map up to complete files; return the numbers of tiles."""
    header, tile, size = plan.source.header, plan.rows.tile, plan.request.batch
    grid = None
    if plan.factor is not None:
        grid = ResampledGrid(header.height, header.width, plan.factor, plan.card.fill_value)
    counts = _TileCounts()
    symmetries = SYMMETRIES if plan.options.tta else SYMMETRIES[:1]
    depth = max(1, min(8, _PREFETCH_BYTES // (4 * size * len(plan.source.bands) * tile**2)))

    def consume(batches: Iterator[_Batch]) -> None:
        with environment():
            _blend_and_write(plan, grid, writer, batches)
            writer.complete()

    with Pipeline(interrupt) as pipeline:
        strips = pipeline.prefetch(_read_strips(plan), 1)
        batches = pipeline.prefetch(_read_tiles(plan, grid, strips, size, detector, alpha), depth)
        feed = pipeline.sink(consume, depth)
        total = len(plan.rows) * len(plan.cols)
        with Progress(total, "mapping", "tiles", progress) as bar:
            done = 0
            for batch in batches:
                outputs = []
                if batch.pixels is not None:
                    outputs = [(each, backend(each.apply(batch.pixels))) for each in symmetries]
                counts.predicted += len(batch.cols)
                feed(replace(batch, pixels=None, outputs=outputs))
                done = (batch.row + 1) * len(plan.cols) if batch.last else done + len(batch.cols)
                bar.show(done)
                if show is not None:
                    show(done, total)
        pipeline.join()
    counts.skipped = total - counts.predicted
    return counts


def _read_strips(plan: Plan) -> Generator[Strip, None, None]:
    """Yield the mosaic's strips, as a generator that the pipeline can close."""
    yield from plan.source.strips()


def _read_tiles(
    plan: Plan,
    grid: ResampledGrid | None,
    strips: Iterable[Strip],
    size: int,
    detector: NodataDetector | None,
    alpha: Sequence[AlphaSurvey],
) -> Generator[_Batch, None, None]:
    """Yield batches of tiles, at least one for each row of tiles, even where all its tiles are empty."""
    read: list[Validity] = []

    def recorded() -> Iterator[Strip]:
        for strip in strips:
            found = None if detector is None else detector.add(strip.row, strip.pixels, strip.invalid)
            if strip.alpha is not None:
                for survey, values in zip(alpha, strip.alpha, strict=True):
                    survey.add(values)
            read.append(Validity(strip.row, strip.stop, strip.invalid, found))
            yield strip

    source = iter(recorded() if grid is None else grid.from_mosaic(recorded()))
    reader = TileReader(plan.rows, plan.cols, plan.mean, plan.std)
    bands, tile = len(plan.source.bands), plan.rows.tile
    for row in range(len(plan.rows)):
        reader.discard_above(row)
        while not reader.has_row(row):
            reader.push(next(source))
        if row == len(plan.rows) - 1:
            for _ in source:  # read the mosaic's last rows, which may not contribute to the resampled grid
                pass
        cols = [col for col in range(len(plan.cols)) if not reader.is_empty(row, col)]
        groups = [cols[first : first + size] for first in range(0, len(cols), size)] or [[]]
        for number, group in enumerate(groups):
            pixels = np.empty((len(group), bands, tile, tile), np.float32) if group else None
            for place, col in enumerate(group):
                assert pixels is not None
                reader.read(row, col, pixels[place])
            yield _Batch(row, group, pixels, [], read.copy(), number == len(groups) - 1)
            read.clear()


def _blend_and_write(plan: Plan, grid: ResampledGrid | None, writer: MapWriter, batches: Iterable[_Batch]) -> None:
    """Blend predicted batches and pass the rows that are complete to the writer."""
    blend = Blend(plan.rows, plan.cols, probability_channels(plan.card), plan.options.window)
    check = OutputCheck(plan.card, str(plan.request.path), str(plan.options.card or "its card"))
    for batch in batches:
        for strip in batch.strips:
            writer.add_validity(strip)
        if batch.outputs:
            for _, output in batch.outputs:
                check.add(output)
            for col, prediction in zip(batch.cols, _mean_probabilities(plan, batch.outputs), strict=True):
                blend.add(col, prediction)
        if batch.last:
            rows = blend.finish(batch.row)
            writer.add_rows(rows if grid is None else grid.to_mosaic(rows))
    check.finish()


def _mean_probabilities(plan: Plan, outputs: list[tuple[Symmetry, NDArray[Any]]]) -> NDArray[np.float32]:
    """Return the mean probability over the symmetries, (N, channels, tile, tile) float32."""
    return mean_prediction([(each, probabilities(output, plan.card, plan.rows.tile)) for each, output in outputs])

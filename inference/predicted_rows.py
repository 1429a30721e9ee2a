"""Probabilities of a mosaic or of a row band of it: read, predict and blend, each in its own thread.

    strips of the mosaic -> normalised tiles -> network -> blended probabilities -> rows

The network runs in the calling thread. The queues between the threads hold one strip and a few batches of tiles.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.common.progress import Progress
from inference.common.raster import environment
from inference.common.signals import DeferredInterrupt
from inference.model.backends import Backend
from inference.model.output_check import OutputCheck
from inference.model.probabilities import probabilities, probability_channels
from inference.output.map import Validity
from inference.output.survey import Survey
from inference.plan import Plan
from inference.threads import Pipeline
from inference.tiles.blending import Blend
from inference.tiles.resample import ResampledGrid
from inference.tiles.row_bands import RowBand
from inference.tiles.strips import Strip
from inference.tiles.symmetries import SYMMETRIES, Symmetry, mean_prediction
from inference.tiles.tile_reader import TileReader

_PREFETCH_BYTES = 16 * 2**20  # upper bound on the tiles that wait for the network


class Rows(Protocol):
    """Destination of the rows."""

    def add_validity(self, validity: Validity) -> None:
        """Take the validity of the next rows of the mosaic, before their probabilities."""

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take the next rows of probabilities on the network's grid, (channels, n, width); valid during the call."""

    def complete(self) -> None:
        """Finish what was made of the rows."""


@dataclass
class TileCounts:
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


def resampled_grid(plan: Plan) -> ResampledGrid | None:
    """Return the conversion to the network's grid; None where the mosaic's is read."""
    if plan.factor is None:
        return None
    return ResampledGrid(plan.source.header.height, plan.source.header.width, plan.factor, plan.card.fill_value)


def output_check(plan: Plan, band: RowBand) -> OutputCheck:
    """Return the check of the network's outputs for a row band."""
    return OutputCheck(plan.card, str(plan.request.path), str(plan.options.card or "its card"), part=band.first > 0)


def predict_rows(
    plan: Plan,
    backend: Backend,
    band: RowBand,
    rows: Rows,
    interrupt: DeferredInterrupt,
    *,
    survey: Survey | None = None,
    progress: bool = False,
    show: Callable[[int, int], None] | None = None,
) -> tuple[TileCounts, OutputCheck]:
    """Predict a row band, or all rows, up to complete files.

    Args:
        plan: Plan of the run.
        backend: The model.
        band: Rows of tiles.
        rows: Destination of the image rows of the band.
        interrupt: Cancels all threads.
        survey: Survey of the mosaic; None without one, and then the destination gets no validity.
        progress: Whether to show progress on stderr.
        show: Called with the numbers of finished tiles and of all tiles.

    Returns:
        Numbers of the band's own tiles, and the check of their outputs.

    Raises:
        UserError: The mosaic can't be read, the outputs are invalid, or a file can't be written.
    """
    tile, size = plan.rows.tile, plan.request.batch
    grid, check = resampled_grid(plan), output_check(plan, band)
    counts = TileCounts()
    symmetries = SYMMETRIES if plan.options.tta else SYMMETRIES[:1]
    depth = max(1, min(8, _PREFETCH_BYTES // (4 * size * len(plan.source.bands) * tile**2)))

    def consume(batches: Iterator[_Batch]) -> None:
        with environment():
            _blend(plan, band, rows, check, batches)
            if band.first == 0 and band.stop == len(plan.rows):
                check.finish()
            rows.complete()

    with Pipeline(interrupt) as pipeline:
        strips = pipeline.prefetch(_read_strips(plan, grid, band), 1)
        batches = pipeline.prefetch(_read_tiles(plan, grid, band, strips, survey), depth)
        feed = pipeline.sink(consume, depth)
        total = band.predicted * len(plan.cols)
        with Progress(total, "mapping", "tiles", progress) as bar:
            done = 0
            for batch in batches:
                outputs = []
                if batch.pixels is not None:
                    outputs = [(each, backend(each.apply(batch.pixels))) for each in symmetries]
                if batch.row >= band.first:
                    counts.predicted += len(batch.cols)
                feed(replace(batch, pixels=None, outputs=outputs))
                finished = (batch.row + 1 - band.begin) * len(plan.cols)
                done = finished if batch.last else done + len(batch.cols)
                bar.show(done)
                if show is not None:
                    show(done, total)
        pipeline.join()
    counts.skipped = (band.stop - band.first) * len(plan.cols) - counts.predicted
    return counts, check


def _read_strips(plan: Plan, grid: ResampledGrid | None, band: RowBand) -> Generator[Strip, None, None]:
    """Yield the strips of a row band, as a generator that the pipeline can close."""
    first, stop = plan.rows.starts[band.begin], plan.rows.stop(band.stop - 1)
    if grid is not None:
        first, stop = grid.mosaic_rows(first, stop)
    if band.begin == 0:
        first = 0
    if band.stop == len(plan.rows):  # the mosaic's last rows may not contribute to the resampled grid
        stop = plan.source.header.height
    yield from plan.source.strips(first, stop)


def _read_tiles(
    plan: Plan, grid: ResampledGrid | None, band: RowBand, strips: Iterable[Strip], survey: Survey | None
) -> Generator[_Batch, None, None]:
    """Yield batches of tiles, at least one for each row of tiles, even where all its tiles are empty."""
    read: list[Validity] = []

    def surveyed() -> Iterator[Strip]:
        for strip in strips:
            if survey is not None:
                read.append(survey.add(strip))
            yield strip

    top = plan.rows.starts[band.begin]
    source = iter(surveyed() if grid is None else grid.from_mosaic(surveyed(), top))
    reader = TileReader(plan.rows, plan.cols, plan.mean, plan.std)
    bands, tile, size = len(plan.source.bands), plan.rows.tile, plan.request.batch
    for row in range(band.begin, band.stop):
        reader.discard_above(row)
        while not reader.has_row(row):
            reader.push(next(source))
        if row == band.stop - 1:
            for _ in source:  # read on to the last row, which may not contribute to the resampled grid
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


def _blend(plan: Plan, band: RowBand, rows: Rows, check: OutputCheck, batches: Iterable[_Batch]) -> None:
    """Blend predicted batches and pass the band's rows that are complete on."""
    blend = Blend(plan.rows, plan.cols, probability_channels(plan.card), plan.options.window)
    for batch in batches:
        for validity in batch.strips:
            rows.add_validity(validity)
        if batch.outputs:
            if batch.row >= band.first:  # the band above checks its own
                for _, output in batch.outputs:
                    check.add(output)
            for col, prediction in zip(batch.cols, _mean_probabilities(plan, batch.outputs), strict=True):
                blend.add(col, prediction)
        if batch.last:
            finished = blend.finish(batch.row)
            if batch.row >= band.first:
                rows.add(finished)


def _mean_probabilities(plan: Plan, outputs: list[tuple[Symmetry, NDArray[Any]]]) -> NDArray[np.float32]:
    """Return the mean probability over the symmetries, (N, channels, tile, tile) float32."""
    return mean_prediction([(each, probabilities(output, plan.card, plan.rows.tile)) for each, output in outputs])

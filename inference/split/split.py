"""Map of a mosaic from row bands: several processes predict a band each, and one joins them to the files of the map.

The join reads the mosaic once more, for validity and notices, and takes the probabilities from the files of the bands.
Everything that follows from them is computed as by a process that predicts the whole mosaic.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.common.raster import environment
from inference.common.signals import DeferredInterrupt
from inference.model.backends import Backend
from inference.model.output_check import OutputRange
from inference.output.map import Validity
from inference.output.summary import Summary
from inference.output.survey import Survey
from inference.plan import Plan
from inference.predict import write_map
from inference.predicted_rows import Rows, TileCounts, output_check, predict_rows, resampled_grid
from inference.split.band_file import BandWriter, read_band
from inference.threads import Pipeline
from inference.tiles.row_bands import RowBand, whole
from inference.tiles.strips import Strip


@dataclass(frozen=True)
class PredictedBand:
    """Row band that is predicted.

    Attributes:
        band: Rows of tiles.
        path: File of its probabilities.
        title: Title of the back end.
        counts: Numbers of its tiles.
        ranges: Ranges of the network's outputs, for `OutputCheck`.
        seconds: Time that it took.
    """

    band: RowBand
    path: Path
    title: str
    counts: TileCounts
    ranges: tuple[OutputRange, ...]
    seconds: float


def predict_band(
    plan: Plan, backend: Backend, band: RowBand, path: Path, show: Callable[[int, int], None] | None = None
) -> PredictedBand:
    """Predict a row band and write its probabilities to a file.

    Args:
        plan: Plan of the run, with the range of the pixels where the card asks for it, see `with_range`.
        backend: The model.
        band: Rows of tiles.
        path: The file.
        show: Called with the numbers of finished tiles and of all tiles.

    Raises:
        UserError: The mosaic can't be read, the outputs are invalid, or the file can't be written.
    """
    started = time.monotonic()
    with environment(), DeferredInterrupt() as interrupt, BandWriter(path) as rows:
        counts, check = predict_rows(plan, backend, band, rows, interrupt, show=show)
    return PredictedBand(band, path, backend.title, counts, tuple(check.ranges), time.monotonic() - started)


def join_bands(plan: Plan, bands: Sequence[PredictedBand], show: Callable[[int, int], None] | None = None) -> Summary:
    """Write the files of a mosaic from its bands.

    Args:
        plan: Plan of the run.
        bands: All bands, from top to bottom.
        show: Called with the numbers of finished rows of tiles and of all.

    Raises:
        UserError: The mosaic or a band can't be read, the outputs of all bands together aren't what the card says, or a
            file can't be written.
    """
    started = time.monotonic()
    check = output_check(plan, whole(plan.rows))
    for band in bands:
        for found in band.ranges:
            check.count(found)
    check.finish()
    return write_map(plan, bands[0].title, partial(_join, plan, bands, show), started=started)


def _join(
    plan: Plan,
    bands: Sequence[PredictedBand],
    show: Callable[[int, int], None] | None,
    rows: Rows,
    survey: Survey,
    interrupt: DeferredInterrupt,
) -> TileCounts:
    """Pass the rows of all bands to a destination; return the numbers of tiles."""
    grid = resampled_grid(plan)

    def consume(parts: Iterator[tuple[NDArray[np.float32], list[Validity]]]) -> None:
        with environment():
            for probability, validities in parts:
                for validity in validities:
                    rows.add_validity(validity)
                rows.add(probability)
            rows.complete()

    with Pipeline(interrupt) as pipeline:
        strips = pipeline.prefetch(_strips(plan), 1)
        predicted = pipeline.prefetch(_rows(plan, bands), 1)
        feed = pipeline.sink(consume, 1)
        read = 0  # rows of the mosaic
        for row, probability in predicted:
            needed = plan.source.header.height
            if row < len(plan.rows) - 1:
                # As many as one process has read when it predicts this row of tiles.
                needed = plan.rows.stop(row) if grid is None else grid.mosaic_rows(0, plan.rows.stop(row))[1]
            validities = []
            while read < needed:
                strip = next(strips)
                read = strip.stop
                validities.append(survey.add(strip))
            feed((probability, validities))
            if show is not None:
                show(row + 1, len(plan.rows))
        pipeline.join()
    return TileCounts(sum(band.counts.predicted for band in bands), sum(band.counts.skipped for band in bands))


def _strips(plan: Plan) -> Generator[Strip, None, None]:
    """Yield the mosaic's strips, as a generator that the pipeline can close."""
    yield from plan.source.strips()


def _rows(plan: Plan, bands: Sequence[PredictedBand]) -> Generator[tuple[int, NDArray[np.float32]], None, None]:
    """Yield the rows of tiles of all bands, with their finished image rows."""
    for band in bands:
        yield from read_band(plan, band.band, band.path)

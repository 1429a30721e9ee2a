"""Work of a batch on one image, in whatever process: the plan, the map, and what is to be written about it.

Nothing in here knows the journal or the other images.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inference.batch.bucket.store import StoreError
from inference.batch.bucket.upload import upload_files
from inference.batch.failure import described, failed
from inference.batch.job import Job, Outcome
from inference.batch.journal import DONE
from inference.batch.progress import PATIENCE_SECONDS
from inference.batch.settings import digest
from inference.common.errors import UserError
from inference.common.raster import Header
from inference.model.backends import Backend
from inference.model.probabilities import probabilities
from inference.output.summary import Summary
from inference.plan import Plan, make_plan
from inference.predict import Mapper, with_range
from inference.split.split import PredictedBand, join_bands, predict_band
from inference.tiles.row_bands import RowBand
from inference.vector.formats import FORMATS


class Worker:
    """Maps images one after another, with one model."""

    def __init__(self) -> None:
        self._mapper = Mapper()
        self._tried: Backend | None = None

    def prepare(self, job: Job) -> Plan | Outcome:
        """Open an image and check it and its outputs; may run in another thread while `run` maps an image.

        Returns:
            The plan, or the outcome where the image can't be mapped.
        """
        started = time.monotonic()
        try:
            _make_folders(job)
            return _planned(job)
        except Exception as error:
            return failed(job, error, started)

    def load(self, plan: Plan) -> None:
        """Load the model, unless it is loaded, and run it once.

        Raises:
            UserError: It can't be loaded, or its output is not what its card says, which concerns all images.
        """
        backend = self._mapper.load(plan)
        if backend is not self._tried:
            request = plan.request
            output = backend(np.zeros((request.batch, request.bands, request.tile, request.tile), np.float32))
            probabilities(output, plan.card, request.tile)
            self._tried = backend

    def run(self, job: Job, plan: Plan, show: Callable[[int, int], None] | None = None) -> Outcome:
        """Map an image.

        Args:
            job: The job.
            plan: Its plan.
            show: Called with the numbers of finished tiles and of all tiles.

        Raises:
            UserError: No file of any image can be uploaded.
        """
        started = time.monotonic()
        uploaded: tuple[str, ...] = ()
        try:
            _make_folders(job)  # those of an upload are removed after each image
            summary = self._mapper.carry_out(plan, show=show)
            record = described(plan.source.header) | _mapped(plan, summary)
            if job.upload is not None:
                uploaded = upload_files(job.upload, _written(job), job.options.overwrite)
        except StoreError as error:
            if error.for_all:
                raise
            return replace(failed(job, error, started, plan.source.header), upload_failed=error.may_pass)
        except Exception as error:
            return failed(job, error, started, plan.source.header)
        finally:
            if job.upload is not None:
                for path in _written(job):
                    path.unlink(missing_ok=True)
        return Outcome(
            DONE,
            seconds=time.monotonic() - started,
            record=record,
            notices=tuple(map(str, summary.notices)),
            uploaded=uploaded,
        )

    def measure(self, job: Job, plan: Plan) -> Plan | Outcome:
        """Return the plan of an image's row bands, with the range of all its pixels where the card asks for it.

        Returns:
            The plan, without polygons and table; the outcome where the image can't be read.
        """
        started = time.monotonic()
        try:
            return replace(with_range(plan), vector=None)
        except Exception as error:
            return failed(job, error, started, plan.source.header)

    def predict(
        self, job: Job, plan: Plan, band: RowBand, path: Path, show: Callable[[int, int], None] | None = None
    ) -> PredictedBand | Outcome:
        """Predict a row band of an image.

        Args:
            job: The job.
            plan: Its plan.
            band: The band.
            path: File of its probabilities.
            show: Called with the numbers of finished tiles and of all tiles.

        Returns:
            What is needed to join the bands, or the outcome where the band can't be predicted.
        """
        started = time.monotonic()
        try:
            return predict_band(plan, self._mapper.load(plan), band, path, show)
        except Exception as error:
            return failed(job, error, started, plan.source.header)

    def join(
        self,
        job: Job,
        bands: Sequence[PredictedBand],
        notices: tuple[str, ...],
        show: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Map an image from its row bands.

        Args:
            job: The job.
            bands: All bands, from top to bottom.
            notices: Notices of the plan that the bands were predicted by.
            show: Called with the numbers of finished rows of tiles and of all.
        """
        started = time.monotonic()
        header: Header | None = None
        try:
            plan = replace(_planned(job), notices=notices)
            header = plan.source.header
            summary = join_bands(plan, bands, show)
            record = described(header) | _mapped(plan, summary)
        except Exception as error:
            return failed(job, error, started, header)
        return Outcome(
            DONE, seconds=time.monotonic() - started, record=record, notices=tuple(map(str, summary.notices))
        )


class Preparation:
    """Preparation of a job in a thread, while the worker maps another image.

    Args:
        worker: The worker.
        job: The job.

    Attributes:
        job: The job.
    """

    def __init__(self, worker: Worker, job: Job) -> None:
        self.job = job
        self._found: list[Plan | Outcome | BaseException] = []
        self._thread = threading.Thread(target=self._prepare, args=[worker], daemon=True)
        self._thread.start()

    def _prepare(self, worker: Worker) -> None:
        try:
            self._found.append(worker.prepare(self.job))
        except BaseException as error:  # raised by `result`
            self._found.append(error)

    def result(self) -> Plan | Outcome:
        """Wait for the plan and return it, or the outcome where there is none."""
        self._thread.join()
        (found,) = self._found
        if isinstance(found, BaseException):
            raise found
        return found

    def leave(self) -> bool:
        """Wait until the thread has ended, but not for ever; return True if it has."""
        self._thread.join(PATIENCE_SECONDS)
        return not self._thread.is_alive()


def _make_folders(job: Job) -> None:
    for path in job.files:
        path.parent.mkdir(parents=True, exist_ok=True)


def _written(job: Job) -> list[Path]:
    """Return the files of an image that were written, the map last."""
    found = []
    for path in job.files:
        form = FORMATS.get(path.suffix.lower())
        names = [*([] if form is None else form.companion_names(path)), path.name]
        found += [each for each in map(path.with_name, names) if each.exists()]
    return found


def _planned(job: Job) -> Plan:
    """Return the plan; of an image on which no site lies, one without the table.

    The driver has cleared what earlier commands have left: a worker would list the folder for each image.
    """
    try:
        return make_plan(job.source, job.target, job.options, every_site=False, clear=False)
    except UserError as error:
        if job.options.table is None:
            raise
        from inference.vector.sites import NoSiteOnMap  # needs shapely

        if not isinstance(error, NoSiteOnMap):
            raise
    plain = replace(job.options, sites=None, table=None, site_column=None, table_format="plain")
    plan = make_plan(job.source, job.target, plain, clear=False)
    return replace(plan, notices=(*plan.notices, f"{job.source}: no site lies on it, so there is no table"))


def _mapped(plan: Plan, summary: Summary) -> dict[str, Any]:
    """Return what the journal has of a map that is done."""
    known = all(total.area is not None for total in summary.classes)
    return {
        "pixels": summary.height * summary.width,
        "invalid": summary.invalid,
        "class_pixels": {total.name: total.pixels for total in summary.classes},
        "areas": {total.name: total.area for total in summary.classes} if known else None,
        "model": plan.card.name,
        "revision": plan.card.revision or "",
        "background": plan.card.background_index,
        "sha256": digest(plan.target),
        "bytes": plan.target.stat().st_size,
        "date": plan.options.date or plan.source.header.date,
        "sites": plan.options.table is not None,
    }

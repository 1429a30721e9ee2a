"""Worker of a batch on Ray: a process on some machine that holds the model.

It maps one image at a time, or a row band of one, and opens the next image meanwhile.
"""

import contextlib
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from inference.batch.bucket.upload import store_of
from inference.batch.job import Job, Outcome
from inference.batch.journal import FAILED
from inference.batch.worker import Preparation, Worker
from inference.common.errors import UserError
from inference.common.files import clear_temporaries, temporary_path
from inference.common.paths import is_address, shown_path
from inference.common.signals import Cancelled
from inference.plan import Plan
from inference.split.split import PredictedBand
from inference.tiles.row_bands import RowBand, cut

CONTROL = "control"
"""Group of the methods that answer while an image is mapped."""


@dataclass(frozen=True)
class Place:
    """Place of a worker.

    Attributes:
        node: Name of its machine.
        process: Number of its process.
        problem: Why it can't map anything; empty if it can.
    """

    node: str
    process: int
    problem: str = ""


@dataclass(frozen=True)
class BandJob:
    """Attempt to predict a row band of an image.

    Attributes:
        number: Number that no other band of the batch has.
        job: Attempt to map the image.
        plan: Its plan, without polygons and table.
        band: The band.
        path: File of its probabilities.
    """

    number: int
    job: Job
    plan: Plan
    band: RowBand
    path: Path


class Actor:
    """Worker; all arguments and results are plain data.

    Args:
        working_folder: Working folder of the command, which relative paths are below.
        needed: Files that the command sees and that each worker must see too.
    """

    def __init__(self, working_folder: str, needed: Sequence[str]) -> None:
        with contextlib.suppress(OSError):  # absolute paths need none
            os.chdir(working_folder)
        self._needed = needed
        self._worker = Worker()
        self._plan: Plan | None = None
        self._job: Job | None = None
        self._next: Preparation | None = None
        self._folder: Path | None = None
        self._stop = threading.Event()
        self._abandoned = -1
        self._done = (0, 1)

    def place(self) -> Place:
        """Return the place of this worker."""
        node = platform.node()
        for path in self._needed:
            if not Path(path).exists():
                return Place(
                    node, os.getpid(), f"{shown_path(path)} isn't there (all nodes must see it under the same path)"
                )
        return Place(node, os.getpid())

    def prepare(self, job: Job, split_px: int = 0, bands: int = 1) -> Outcome | UserError | Plan | None:
        """Open and check an image, which `run` then maps.

        Args:
            job: The job.
            split_px: Pixels above which the image is to be split; 0 for none.
            bands: Row bands that it is to be split into.

        Returns:
            None; the plan of its bands where it is larger than that; the outcome where the image can't be mapped; an
            error that concerns all images, as this machine can't write to the bucket that they go to.
        """
        self._plan, self._done = None, (0, 1)
        prepared, self._next = self._next, None
        try:
            job = self._placed(job)
        except UserError as error:
            return UserError(f"node {platform.node()}: {error}")
        plan = prepared.result() if prepared is not None and prepared.job == job else self._worker.prepare(job)
        if not isinstance(plan, Plan):
            self._remove_folder()
            return _explained(job, plan)
        self._plan, self._job = plan, job
        header = plan.source.header
        if not split_px or header.height * header.width <= split_px or len(cut(plan.rows, bands)) == 1:
            return None
        return self._worker.measure(job, plan) if job.upload is None else replace(plan, vector=None)

    def run(self, job: Job, following: Job | None = None) -> Outcome | UserError:
        """Map the image that is prepared.

        Args:
            job: The job.
            following: Job that is prepared meanwhile: probably the next one; None for none.

        Returns:
            The outcome; an error that concerns all images, as the model can't be loaded, or nothing can be uploaded.
        """
        assert self._plan is not None
        assert self._job is not None
        with contextlib.suppress(UserError):  # `prepare` of the following job returns it
            self._placed(job)  # makes the folder again, which was removed after another image
            if following is not None:
                self._next = Preparation(self._worker, self._placed(following))
        try:
            self._worker.load(self._plan)
            return self._worker.run(self._job, self._plan, self._show)
        except UserError as error:
            return error
        finally:
            self._remove_folder()
            self._plan = self._job = None

    def predict(self, task: BandJob) -> PredictedBand | Outcome | UserError:
        """Predict a row band of an image, which another worker may have prepared.

        Returns:
            What is needed to join the bands; the outcome where it can't be predicted; an error that concerns all
            images.
        """
        self._plan, self._done = None, (0, 1)
        try:
            self._worker.load(task.plan)
        except UserError as error:
            return error
        show = partial(self._show_band, task.number)
        found = self._worker.predict(task.job, task.plan, task.band, task.path, show)
        return _explained(task.job, found) if isinstance(found, Outcome) else found

    def join(self, job: Job, bands: Sequence[PredictedBand], notices: tuple[str, ...]) -> Outcome:
        """Map an image from its row bands.

        Args:
            job: The job.
            bands: All bands, from top to bottom.
            notices: Notices of the plan of the bands.
        """
        self._plan, self._done = None, (0, 1)
        return _explained(job, self._worker.join(job, bands, notices, self._show))

    def progress(self) -> tuple[int, int]:
        """Return the numbers of finished tiles and of all tiles of the current image or band."""
        return self._done

    def stop(self) -> None:
        """Abandon the current image or band and all that follow, and remove the unfinished files."""
        self._stop.set()

    def abandon(self, number: int) -> None:
        """Abandon a row band, now or when it begins, and remove its unfinished file.

        Args:
            number: Number of the band.
        """
        self._abandoned = number

    def _placed(self, job: Job) -> Job:
        """Return a job; one whose files go to a bucket with all files below a folder of this machine.

        Raises:
            UserError: This machine can't write to the bucket, or the folder can't be made.
        """
        if job.upload is None:
            return job
        store_of(job.upload.bucket, job.upload.prefix)
        if job.upload.folder.is_dir():  # that of the command, on its own machine
            return job
        name, parent = job.upload.folder.name.partition(".")[0], Path(tempfile.gettempdir())
        folder = self._folder or temporary_path(parent / name)
        try:
            if self._folder is None:
                clear_temporaries(parent, name)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: can't be made: {error.strerror} (make room there)") from None
        self._folder = folder
        return job.below(folder)

    def _remove_folder(self) -> None:
        """Remove the folder of the files of an image, where they go to a bucket from a folder of this process."""
        if self._folder is not None and (self._next is None or self._next.leave()):  # it looks into the folder
            shutil.rmtree(self._folder, ignore_errors=True)

    def _show(self, done: int, tiles: int) -> None:
        self._done = done, tiles
        if self._stop.is_set():
            raise Cancelled

    def _show_band(self, number: int, done: int, tiles: int) -> None:
        self._show(done, tiles)
        if self._abandoned == number:
            raise Cancelled


def _explained(job: Job, outcome: Outcome) -> Outcome:
    """Name the node in the reason of a failure where the image isn't seen there."""
    if outcome.state != FAILED or is_address(job.source) or Path(job.source).exists():
        return outcome
    # The driver has found it: another worker may see it.
    reason = f"{outcome.reason} (on node {platform.node()}; all nodes must see it under the same path)"
    return replace(outcome, reason=reason, may_pass=True)

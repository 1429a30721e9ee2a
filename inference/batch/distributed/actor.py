"""Worker of a batch on Ray: a process on some machine that holds the model and maps one image at a time."""

import contextlib
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.batch.bucket.upload import Upload, store_of
from inference.batch.journal import FAILED
from inference.batch.worker import Job, Outcome, Worker
from inference.common.errors import UserError
from inference.common.files import clear_temporaries, temporary_path
from inference.common.paths import is_address, shown_path
from inference.common.signals import Cancelled
from inference.plan import Plan

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
        self._stop = threading.Event()
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

    def prepare(self, job: Job) -> Outcome | UserError | None:
        """Open and check an image, which `run` then maps.

        Returns:
            None; the outcome where the image can't be mapped; an error that concerns all images, as this machine can't
            write to the bucket that they go to.
        """
        self._plan, self._done = None, (0, 1)
        if job.upload is not None:
            try:
                job = _placed(job, job.upload)
            except UserError as error:
                return UserError(f"node {platform.node()}: {error}")
        plan = self._worker.prepare(job)
        if isinstance(plan, Plan):
            self._plan, self._job = plan, job
            return None
        if plan.state == FAILED and not is_address(job.source) and not Path(job.source).exists():
            # The driver has found it: another worker may see it.
            reason = f"{plan.reason} (on node {platform.node()}; all nodes must see it under the same path)"
            return replace(plan, reason=reason, may_pass=True)
        return plan

    def run(self, job: Job) -> Outcome | UserError:
        """Map the image that is prepared.

        Returns:
            The outcome; an error that concerns all images, as the model can't be loaded, or nothing can be uploaded.
        """
        assert self._plan is not None
        assert self._job is not None
        try:
            self._worker.load(self._plan)
            return self._worker.run(self._job, self._plan, self._show)
        except UserError as error:
            return error
        finally:
            if self._job.upload is not None and self._job.upload != job.upload:
                shutil.rmtree(self._job.upload.folder, ignore_errors=True)
            self._plan = self._job = None

    def progress(self) -> tuple[int, int]:
        """Return the numbers of finished tiles and of all tiles of the current image."""
        return self._done

    def stop(self) -> None:
        """Abandon the current image, and remove its unfinished files."""
        self._stop.set()

    def _show(self, done: int, tiles: int) -> None:
        self._done = done, tiles
        if self._stop.is_set():
            raise Cancelled


def _placed(job: Job, upload: Upload) -> Job:
    """Return a job whose files go to a bucket with all files below a folder of this machine.

    Raises:
        UserError: This machine can't write to the bucket, or the folder can't be made.
    """
    store_of(upload.bucket, upload.prefix)
    if upload.folder.is_dir():  # that of the command, on its own machine
        return job
    name, parent = upload.folder.name.partition(".")[0], Path(tempfile.gettempdir())
    folder = temporary_path(parent / name)
    try:
        clear_temporaries(parent, name)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made: {error.strerror} (make room there)") from None
    return job.below(folder)

"""Driver of a batch: what is to be done, attempts in order, the journal, and the files about all maps."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from inference.batch.arguments import Batch
from inference.batch.attempt import Attempt
from inference.batch.distributed.options import RayOptions
from inference.batch.files import write_files
from inference.batch.job import Outcome
from inference.batch.journal import DONE, FAILED, SKIPPED, STARTED, Record
from inference.batch.progress import BatchProgress
from inference.batch.queue import Queue, Task
from inference.batch.reasons import Reasons
from inference.batch.remaining import to_do
from inference.batch.session import Session, open_session
from inference.batch.worker import Preparation, Worker
from inference.common.errors import UserError
from inference.common.files import clear_beside
from inference.common.text import print_line
from inference.plan import Plan
from inference.split.band_file import bands_place

_ALIKE = 5
_FAILED_UPLOADS = 3


@dataclass
class BatchResult:
    """Result of a batch.

    Attributes:
        counts: Number of images by state; those that were done before count as "done before".
        reasons: Reasons of failures, and of images that were left out.
        notices: Notices about images.
        files: Paths or addresses of the files about all maps that were written.
        lines: What is to be said about these files, a line each.
        seconds: Run time.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Reasons = field(default_factory=Reasons)
    notices: Reasons = field(default_factory=Reasons)
    files: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Number of images that could not be mapped."""
        return self.counts[FAILED]

    def __str__(self) -> str:
        counts = [f"{self.counts[state]:,} {state}" for state in (DONE, BEFORE, SKIPPED, FAILED) if self.counts[state]]
        lines = [f"images: {', '.join(counts) or 'none'}"]
        lines += self.notices.table("notices")
        lines += self.reasons.table("failed or skipped")
        lines += [*self.lines, f"took: {self.seconds:.1f} s"]
        return "\n".join(lines + [f"wrote: {name}" for name in self.files])


BEFORE = "done before"
"""State of an image that an earlier start has mapped."""


def run_batch(batch: Batch, *, progress: bool = False, ray: RayOptions | None = None) -> BatchResult:
    """Map all images of a batch that aren't mapped yet.

    Args:
        batch: The batch.
        progress: Whether to show progress and failures on stderr.
        ray: Options of Ray; None to map in this process.

    Raises:
        UserError: Another batch writes to the folder, its maps were made with other settings, the model can't be
            loaded, or the journal can't be written.
    """
    started = time.monotonic()
    with open_session(batch) as session:
        result, journal = BatchResult(), session.journal
        if not journal.locked and session.upload is None:
            result.notices.add(
                "", f"{journal.path}: its file system has no locks; start one batch at a time in this folder"
            )
        tasks = to_do(batch, journal.latest, session.place)
        _leave_out(batch, tasks, session, result)
        _clear(batch, tasks)
        again = [task for task in tasks if journal.latest.get(task.item.name, {}).get("state") == DONE]
        session.announce([_line(task, STARTED) for task in again])
        try:
            if ray is None:
                _map(batch, tasks, session, result, progress)
            else:
                _map_on_ray(batch, ray, tasks, session, result, progress)
        except KeyboardInterrupt:
            if progress:
                done = result.counts[DONE] + result.counts[BEFORE]
                print_line(f"{done:,} of {len(batch.items):,} images are done (the same command does the rest)")
            raise
        session.fetch([record["table"] for record in journal.latest.values() if record.get("table")])
        files, lines = write_files(batch.folder, journal.latest)
        result.files = session.publish(files)
        result.lines += lines
    result.seconds = time.monotonic() - started
    return result


def _leave_out(batch: Batch, tasks: list[Task], session: Session, result: BatchResult) -> None:
    """Leave out images whose files exist but aren't the batch's, and those that are done."""
    result.counts[BEFORE] = len(batch.items) - len(tasks)
    kept = []
    for task in tasks:
        names = batch.layout.files(task.item)
        there = [] if task.overwrite else [name for name in names if session.place.exists(name)]
        if not there:
            kept.append(task)
            continue
        reason = f"{there[0]} exists already and was not made by this batch (replace it with --overwrite)"
        result.counts[SKIPPED] += 1
        result.reasons.add(task.item.source, f"{SKIPPED}: {reason.replace(there[0], 'its file', 1)}")
        before = session.journal.latest.get(task.item.name)
        if before is None or (before["state"], before.get("reason")) != (SKIPPED, reason):
            session.journal.append(_line(task, SKIPPED, reason))
    tasks[:] = kept


def _clear(batch: Batch, tasks: Sequence[Task]) -> None:
    """Remove what interrupted commands have left beside the files of images, row bands included."""
    names = [name for task in tasks for name in batch.layout.files(task.item)]
    clear_beside(path for name in names for path in (batch.folder / name, bands_place(batch.folder / name)))


def _line(task: Task, state: str, reason: str = "", **more: Any) -> Record:
    """Return a line of the journal."""
    item = task.item
    head: Record = {"image": item.image, "output": item.name, "state": state, "reason": reason}
    head |= {"attempt": task.attempt, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    head |= {"site": item.site, "date": item.date}
    return head | more


class _Ahead(Attempt):
    """Attempt whose plan is made in a thread."""

    def __init__(self, worker: Worker, batch: Batch, task: Task, session: Session) -> None:
        super().__init__(batch, task, session.upload)
        self.preparation = Preparation(worker, self.job)


class _OptionError:
    """Check that an option doesn't make all images fail, such as --resample without a known ground sample distance.

    Args:
        most: Number of first images that fail alike before the batch is stopped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reasons: list[str] | None = []

    def add(self, source: str, outcome: Outcome) -> None:
        """Add the next outcome.

        Raises:
            UserError: All images so far have failed because of the same option.
        """
        if self._reasons is None:
            return
        if outcome.state != FAILED or not outcome.reason.startswith("--"):
            self._reasons = None
            return
        self._reasons.append(outcome.reason.replace(source, ""))
        if len(self._reasons) == self._most and len(set(self._reasons)) == 1:
            raise UserError(outcome.reason)


class _UploadErrors:
    """Check that uploads don't fail one after another, so that images are mapped in vain."""

    def __init__(self) -> None:
        self._number = 0

    def add(self, outcome: Outcome) -> None:
        """Add the next outcome.

        Raises:
            UserError: Too many uploads in a row have failed.
        """
        if outcome.upload_failed:
            self._number += 1
        elif outcome.state == DONE:
            self._number = 0
        if self._number == _FAILED_UPLOADS:
            raise UserError(
                f"{outcome.reason}; stopped, as the files of {_FAILED_UPLOADS} images in a row could not be uploaded "
                "(the same command does the rest)"
            )


def _map(batch: Batch, tasks: list[Task], session: Session, result: BatchResult, progress: bool) -> None:
    """Map images one after another; the next one is opened while one is mapped."""
    worker, queue = Worker(), Queue(tasks, batch.retries)
    option = _OptionError(min(_ALIKE, len(tasks)))
    uploads = _UploadErrors()
    current: _Ahead | None = None
    ahead: _Ahead | None = None
    with BatchProgress([task.item.source for task in tasks], progress) as bar:
        try:
            while (task := queue.wait() if ahead is None else ahead.task) is not None:
                current, ahead = ahead or _Ahead(worker, batch, task, session), None
                bar.show(task.item.source, 0, 1)
                plan = current.preparation.result()
                following = queue.take()
                if following is not None:
                    ahead = _Ahead(worker, batch, following, session)
                if isinstance(plan, Plan):
                    worker.load(plan)
                    session.journal.append(_line(task, STARTED))
                    outcome = worker.run(current.job, plan, partial(bar.show, task.item.source))
                else:
                    outcome = plan
                _record(batch, current, outcome, session, queue, result, bar)
                option.add(task.item.source, outcome)
                uploads.add(outcome)
        finally:
            for started in (current, ahead):
                if started is not None:
                    started.preparation.leave()


def _map_on_ray(
    batch: Batch, ray: RayOptions, tasks: list[Task], session: Session, result: BatchResult, progress: bool
) -> None:
    """Map several images at a time, in the workers of Ray."""
    from inference.batch.distributed.driver import map_on_ray
    from inference.batch.distributed.work import Work

    queue = Queue(tasks, batch.retries)
    option = _OptionError(min(_ALIKE, len(tasks)))
    uploads = _UploadErrors()

    def record(attempt: Attempt, outcome: Outcome) -> None:
        _record(batch, attempt, outcome, session, queue, result, bar)
        option.add(attempt.job.source, outcome)
        uploads.add(outcome)

    with BatchProgress([task.item.source for task in tasks], progress) as bar:
        work = Work(
            queue=queue,
            attempt=partial(Attempt, batch, upload=session.upload),
            started=lambda task: session.journal.append(_line(task, STARTED)),
            record=record,
            files=lambda task: [batch.folder / name for name in batch.layout.files(task.item)],
            local=session.upload is None,
            bar=bar,
        )
        map_on_ray(ray, batch.options, session.journal.path, work)


def _record(
    batch: Batch,
    current: Attempt,
    outcome: Outcome,
    session: Session,
    queue: Queue,
    result: BatchResult,
    bar: BatchProgress,
) -> None:
    """Write an outcome to the journal, and put a failure back that may pass."""
    task, item = current.task, current.task.item
    session.place.add(outcome.uploaded)
    again = outcome.state == FAILED and outcome.may_pass and queue.put_again(task)
    record = {
        **_line(task, outcome.state, outcome.reason),
        "seconds": round(outcome.seconds, 3),
        "file": None if current.file is None else list(current.file),
        "options": batch.settings.options,
        "settings": dict(batch.settings.values),
        "model_sha256": batch.settings.model,
        **{key: value for key, value in outcome.record.items() if key != "sites"},
        "table": batch.layout.further(item).get("table", "") if outcome.record.get("sites") else "",
        "files": [name for name in batch.layout.files(item)[1:] if session.place.exists(name)],
        "notices": list(outcome.notices),
    }
    session.journal.append(record)
    if again:
        bar.say(f"{outcome.reason} (attempt {task.attempt}, to be tried again)")
        return
    bar.finish(item.source, outcome.record.get("pixels", 0))
    result.counts[outcome.state] += 1
    for notice in outcome.notices:
        result.notices.add(item.source, notice)
    if outcome.state == FAILED:
        result.reasons.add(item.source, outcome.reason)
        bar.say(f"failed: {outcome.reason}")
        if outcome.trace:
            print_line(outcome.trace.rstrip())

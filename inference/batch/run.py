"""Driver of a batch: what is to be done, attempts in order, the journal, and the files about all maps."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from inference.batch.files import write_files
from inference.batch.items import Item, check_inputs, find_items, identity
from inference.batch.journal import DONE, FAILED, SKIPPED, STARTED, Journal, Record
from inference.batch.layout import INDEX, JOURNAL, MOSAIC, SUMMARY, Layout, check_names, make_layout
from inference.batch.progress import PATIENCE_SECONDS, BatchProgress
from inference.batch.queue import Queue, Task
from inference.batch.reasons import Reasons
from inference.batch.settings import Settings, differences, read_settings
from inference.batch.worker import Job, Outcome, Worker
from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path, user_path
from inference.common.targets import TIFF_SUFFIXES, make_folder
from inference.common.text import limited, print_line
from inference.options import Options
from inference.plan import Plan

MOST_RETRIES = 100
_SHOWN = 5


@dataclass
class Batch:
    """Batch whose arguments have been checked.

    Attributes:
        folder: Folder of the maps.
        items: All images.
        options: Options of the user.
        layout: Names of the files.
        settings: What decides the content of the maps.
        retries: Number of further attempts after a failure that may pass.
    """

    folder: Path
    items: Sequence[Item]
    options: Options
    layout: Layout
    settings: Settings
    retries: int


@dataclass
class BatchResult:
    """Result of a batch.

    Attributes:
        counts: Number of images by state; those that were done before count as "done before".
        reasons: Reasons of failures, and of images that were left out.
        notices: Notices about images.
        files: Files about all maps that were written.
        lines: What is to be said about these files, a line each.
        seconds: Run time.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Reasons = field(default_factory=Reasons)
    notices: Reasons = field(default_factory=Reasons)
    files: list[Path] = field(default_factory=list)
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
        return "\n".join(lines + [f"wrote: {path}" for path in self.files])


BEFORE = "done before"
"""State of an image that an earlier start has mapped."""


def make_batch(inputs: Sequence[str], folder: str | Path, options: Options, retries: int = 2) -> Batch:
    """Check the arguments of a batch and find its images; writes nothing.

    Raises:
        UserError: An argument is invalid.
    """
    options.check()
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries: {retries} (allowed: 0 to {MOST_RETRIES})")
    path = _folder(folder)
    layout = make_layout(path, options)
    settings = read_settings(options, layout.templates)
    if layout.templates.keys() & {"polygons", "table"} or layout.style:
        from inference.common.vector import vector_libraries

        vector_libraries()
    items = find_items(inputs, path)
    check_inputs(items)
    check_names(layout, items)
    return Batch(path, items, options, layout, settings, retries)


def _folder(folder: str | Path) -> Path:
    text = str(folder)
    if is_address(text):
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is an address (name a folder of this machine, and copy it there afterwards)"
        )
    path = user_path(folder, "OUT_DIR")
    if not path.is_dir() and path.suffix.lower() in TIFF_SUFFIXES:
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is the name of a file (several images are mapped into a folder, which is the "
            "last argument)"
        )
    if path.exists() and not path.is_dir():
        raise UserError(f"OUT_DIR: {shown_path(text)} is a file, not a folder (choose another)")
    return path


def run_batch(batch: Batch, *, progress: bool = False) -> BatchResult:
    """Map all images of a batch that aren't mapped yet.

    Args:
        batch: The batch.
        progress: Whether to show progress and failures on stderr.

    Raises:
        UserError: Another batch writes to the folder, its maps were made with other settings, the model can't be
            loaded, or the journal can't be written.
    """
    started = time.monotonic()
    _check_foreign(batch)
    make_folder(batch.folder, "OUT_DIR")
    with Journal(batch.folder / JOURNAL) as journal:
        result = BatchResult()
        if not journal.locked:
            result.notices.add(
                "", f"{journal.path}: its file system has no locks; start one batch at a time in this folder"
            )
        tasks = to_do(batch, journal.latest)
        _leave_out(batch, tasks, journal, result)
        try:
            _map(batch, tasks, journal, result, progress)
        except KeyboardInterrupt:
            if progress:
                done = result.counts[DONE] + result.counts[BEFORE]
                print_line(f"{done:,} of {len(batch.items):,} images are done (the same command does the rest)")
            raise
        result.files, lines = write_files(batch.folder, journal.latest)
        result.lines += lines
    result.seconds = time.monotonic() - started
    return result


def _check_foreign(batch: Batch) -> None:
    """Check that the files about all maps belong to a batch, where they exist."""
    if batch.options.overwrite or (batch.folder / JOURNAL).exists():
        return
    for name in (SUMMARY, INDEX, MOSAIC):
        if (batch.folder / name).exists():
            raise UserError(
                f"{shown_path(batch.folder / name)}: exists already and is of no batch (replace it with --overwrite, "
                "or choose another OUT_DIR)"
            )


def to_do(batch: Batch, latest: dict[str, Record]) -> list[Task]:
    """Return the images that aren't done, with whether their files may be replaced.

    Args:
        batch: The batch.
        latest: Last line of the journal about each map.

    Raises:
        UserError: Maps were made of other images or with other settings, and may not be replaced.
    """
    stale: dict[str, str] = {}
    done: set[str] = set()
    if not batch.options.overwrite:
        for name, record in latest.items():
            changed = differences(batch.settings, record) if record["state"] == DONE else []
            if changed and (batch.folder / name).exists():
                stale[name] = f"{name} was made with {', '.join(changed)}"
    for item in batch.items:
        found = latest.get(item.name)
        if found is None or found["state"] != DONE or not (batch.folder / item.name).exists():
            continue
        if differences(batch.settings, found):
            continue
        reason = _other_image(item, found, batch.options)
        if reason is None:
            done.add(item.name)
        elif not batch.options.overwrite:
            stale[item.name] = f"{item.name} {reason}"
    if stale:
        raise UserError(
            f"{shown_path(batch.folder)}: {'; '.join(limited(stale.values(), _SHOWN))} (choose another OUT_DIR, or "
            "replace such maps with --overwrite)"
        )
    tasks = []
    for item in batch.items:
        if item.name not in done:
            # Files of an attempt that was killed are the batch's own: when it was begun, none had these names.
            own = latest.get(item.name, {}).get("state") in (STARTED, DONE)
            tasks.append(Task(item, batch.options.overwrite or own))
    return tasks


def _other_image(item: Item, record: Record, options: Options) -> str | None:
    """Return why a map that is done isn't one of this image; None if it is."""
    before = record.get("file")
    now = identity(item.source)
    if now is None or not isinstance(before, list):
        if record["image"] != item.image:
            return f"was made of {shown_path(record['image'])}, not of {shown_path(item.image)}"
    elif list(now) != before:
        return f"was made of another file than {shown_path(item.source)} is now"
    given = item.date or options.date
    if given and record.get("date") != given:
        return f"has the date {shown_path(record.get('date') or 'none')}, not {given}"
    return None


def _leave_out(batch: Batch, tasks: list[Task], journal: Journal, result: BatchResult) -> None:
    """Leave out images whose files exist but aren't the batch's, and those that are done."""
    result.counts[BEFORE] = len(batch.items) - len(tasks)
    kept = []
    for task in tasks:
        names = batch.layout.files(task.item)
        there = [] if task.overwrite else [name for name in names if (batch.folder / name).exists()]
        if not there:
            kept.append(task)
            continue
        reason = f"{there[0]} exists already and was not made by this batch (replace it with --overwrite)"
        result.counts[SKIPPED] += 1
        result.reasons.add(task.item.source, f"{SKIPPED}: {reason.replace(there[0], 'its file', 1)}")
        before = journal.latest.get(task.item.name)
        if before is None or (before["state"], before.get("reason")) != (SKIPPED, reason):
            journal.append(_line(task, SKIPPED, reason))
    tasks[:] = kept


def _line(task: Task, state: str, reason: str = "", **more: Any) -> Record:
    """Return a line of the journal."""
    item = task.item
    head: Record = {"image": item.image, "output": item.name, "state": state, "reason": reason}
    head |= {"attempt": task.attempt, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    head |= {"site": item.site, "date": item.date}
    return head | more


class _Ahead:
    """Plan of an image that is made in a thread."""

    def __init__(self, worker: Worker, batch: Batch, task: Task) -> None:
        self.task = task
        self.file = identity(task.item.source)
        options = batch.layout.options(batch.options, task.item, overwrite=task.overwrite)
        self.job = Job(task.item.source, batch.layout.target(task.item), options, task.attempt)
        self._found: list[Plan | Outcome | BaseException] = []
        self._thread = threading.Thread(target=self._prepare, args=[worker], daemon=True)
        self._thread.start()

    def _prepare(self, worker: Worker) -> None:
        try:
            self._found.append(worker.prepare(self.job))
        except BaseException as error:  # raised in the main thread
            self._found.append(error)

    def result(self) -> Plan | Outcome:
        """Return the plan, or the outcome where there is none."""
        self._thread.join()
        (found,) = self._found
        if isinstance(found, BaseException):
            raise found
        return found

    def leave(self) -> None:
        """Wait until the thread has ended, but not for ever."""
        self._thread.join(PATIENCE_SECONDS)


def _map(batch: Batch, tasks: list[Task], journal: Journal, result: BatchResult, progress: bool) -> None:
    """Map images one after another; the next one is opened while one is mapped."""
    worker, queue = Worker(), Queue(tasks, batch.retries)
    current: _Ahead | None = None
    ahead: _Ahead | None = None
    with BatchProgress([task.item.source for task in tasks], progress) as bar:
        try:
            while (task := queue.wait() if ahead is None else ahead.task) is not None:
                current, ahead = ahead or _Ahead(worker, batch, task), None
                bar.show(task.item.source, 0, 1)
                plan = current.result()
                following = queue.take()
                if following is not None:
                    ahead = _Ahead(worker, batch, following)
                if isinstance(plan, Plan):
                    worker.load(plan)
                    journal.append(_line(task, STARTED))
                    outcome = worker.run(current.job, plan, partial(bar.show, task.item.source))
                else:
                    outcome = plan
                _record(batch, current, outcome, journal, queue, result, bar)
        finally:
            for started in (current, ahead):
                if started is not None:
                    started.leave()


def _record(
    batch: Batch,
    current: _Ahead,
    outcome: Outcome,
    journal: Journal,
    queue: Queue,
    result: BatchResult,
    bar: BatchProgress,
) -> None:
    """Write an outcome to the journal, and put a failure back that may pass."""
    task, item = current.task, current.task.item
    again = outcome.state == FAILED and outcome.may_pass and queue.put_again(task)
    record = {
        **_line(task, outcome.state, outcome.reason),
        "seconds": round(outcome.seconds, 3),
        "file": None if current.file is None else list(current.file),
        "options": batch.settings.options,
        "settings": dict(batch.settings.values),
        "model_sha256": batch.settings.model,
        **outcome.record,
        "files": batch.layout.files(item)[1:],
        "notices": list(outcome.notices),
    }
    journal.append(record)
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

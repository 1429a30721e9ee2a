"""Image that several workers of Ray map, as the driver knows it: its row bands, and which are done, running or lost."""

import contextlib
import itertools
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterable

from inference.batch.attempt import Attempt
from inference.batch.distributed.actor import BandJob
from inference.batch.job import Outcome
from inference.batch.journal import FAILED
from inference.common.files import clear_temporaries, clear_temporaries_of, temporary_path, write_errors
from inference.plan import Plan, room_for
from inference.split.band_file import band_bytes, bands_place
from inference.split.split import PredictedBand
from inference.tiles.row_bands import cut

MOST_LOST = 3
"""Workers that may be lost with one band, or with the join, before the attempt has failed."""
_numbers = itertools.count()
_JOIN = -1  # stands for the number of a band


class SplitImage:
    """Image that is mapped in row bands.

    The files of the bands lie in a temporary folder beside the map. It is named after this process, so that it outlives
    a worker that is lost, and is cleared by a later start where this process is killed.

    Args:
        attempt: The attempt.
        plan: Plan of the bands.
        number: Bands that are wanted.

    Attributes:
        attempt: The attempt.
        failure: Outcome of the topmost band that has failed; None so far.
    """

    def __init__(self, attempt: Attempt, plan: Plan, number: int) -> None:
        self.attempt = attempt
        self.failure: Outcome | None = None
        self._plan = plan
        self._began = time.monotonic()
        self._place = bands_place(attempt.job.target)
        self._folder = temporary_path(self._place)
        jobs = (
            BandJob(next(_numbers), attempt.job, plan, band, self._folder / str(at))
            for at, band in enumerate(cut(plan.rows, number))
        )
        self._jobs = {job.number: job for job in jobs}
        self._waiting = deque(self._jobs)  # in order
        self._running: set[int] = set()
        self._found: dict[int, PredictedBand] = {}
        self._lost: Counter[int] = Counter()
        self._tiles: dict[int, int] = {}  # finished ones of bands that run
        self._failed_at = -1

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def notices(self) -> tuple[str, ...]:
        """Notices of the plan."""
        return self._plan.notices

    def lacks_room(self) -> str:
        """Return why the files of the bands don't find room beside the map; empty if they do."""
        plan, bands = self._plan, band_bytes(self._plan)
        needed = bands + room_for(plan.source.header, plan.card, False, plan.options.cog)
        free = shutil.disk_usage(self._place.parent).free
        if free >= needed:
            return ""
        return f"its row bands need up to {needed / 2**30:,.1f} GiB beside the map, {free / 2**30:,.1f} GiB are free"

    def make_folder(self) -> None:
        """Make the folder of the bands, after removing those that killed processes have left.

        Raises:
            UserError: It can't be made.
        """
        with write_errors(self._folder):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            clear_temporaries(self._place.parent, self._place.name)
            self._folder.mkdir()

    def discard(self) -> None:
        """Remove the folder of the bands."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self) -> BandJob | None:
        """Return the next band that no worker has; None if there is none."""
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        self._running.add(number)
        return self._jobs[number]

    def take_join(self) -> list[PredictedBand] | None:
        """Return all bands, for the worker that joins them; None if one is missing, or a worker has them."""
        if len(self._found) < len(self._jobs) or _JOIN in self._running:
            return None
        self._running.add(_JOIN)
        with contextlib.suppress(OSError):
            os.utime(self._folder)  # a worker on another machine removes what it takes for abandoned
        return [self._found[number] for number in self._jobs]

    def succeed(self, job: BandJob, found: PredictedBand) -> None:
        """Record a band that is predicted."""
        self._running.discard(job.number)
        self._tiles.pop(job.number, None)
        self._found[job.number] = found

    def fail(self, job: BandJob, outcome: Outcome) -> list[int]:
        """Record a band that can't be predicted; those above it are predicted all the same.

        The attempt fails for the reason of the topmost band, which is that of a single process.

        Returns:
            Numbers of the running bands below it, which are of no use any more.
        """
        self._running.discard(job.number)
        if self.failure is None or job.number < self._failed_at:
            self.failure, self._failed_at = outcome, job.number
        self._waiting = deque(number for number in self._waiting if number < self._failed_at)
        return [number for number in self._running if number > self._failed_at]

    def lose(self, job: BandJob | None, reason: str, node: str, process: int) -> list[int]:
        """Record that a worker was lost, and give its band or the join to another one.

        Args:
            job: Its band; None for the join.
            reason: Reason of a failure, if too many were lost.
            node: Name of its machine.
            process: Number of its process.

        Returns:
            As `fail`, where too many were lost.
        """
        number = _JOIN if job is None else job.number
        self._running.discard(number)
        self._tiles.pop(number, None)
        self._lost[number] += 1
        if job is not None:
            clear_temporaries_of(job.path, node, process)
        if self._lost[number] < MOST_LOST:
            if job is not None and (self.failure is None or number < self._failed_at):
                self._waiting.appendleft(number)
            return []
        outcome = Outcome(FAILED, reason, may_pass=True)
        if job is not None:
            return self.fail(job, outcome)
        self.failure = outcome
        return []

    @property
    def failed(self) -> bool:
        """True if the attempt has failed and no worker is busy with it."""
        return self.failure is not None and not self._running and not self._waiting

    @property
    def seconds(self) -> float:
        """Time since the attempt began."""
        return time.monotonic() - self._began

    def show(self, job: BandJob, done: int) -> None:
        """Set the number of finished tiles of a band."""
        self._tiles[job.number] = done

    def progress(self) -> tuple[int, int]:
        """Return the numbers of finished tiles and of all tiles of the bands."""
        return sum(self._tiles.values()) + self._sum(self._found), self._sum(self._jobs)

    def _sum(self, numbers: Iterable[int]) -> int:
        return sum(self._jobs[number].band.predicted for number in numbers) * len(self._plan.cols)

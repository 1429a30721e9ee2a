"""Workers of a batch on Ray, as the driver sees them: who does what, who is lost and replaced, and what was found."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from inference.batch.attempt import Attempt
from inference.batch.distributed.actor import CONTROL, Place
from inference.batch.distributed.cluster import Cluster
from inference.batch.distributed.split import SplitImage
from inference.batch.distributed.work import Slot, Work
from inference.batch.failure import may_pass
from inference.batch.job import Outcome
from inference.batch.journal import DONE, FAILED
from inference.batch.queue import Task
from inference.common.errors import UserError, first_line
from inference.common.files import clear_temporaries_of
from inference.plan import Plan
from inference.split.split import PredictedBand

STOP_SECONDS = 20.0
"""Time in which workers end their images after a stop signal; then they are killed."""
_POLL_SECONDS = 0.2
_SHOW_SECONDS = 1.0
_MOST_FAILED_STARTS = 3
_MAPPING = ("run", "predict", "join")  # methods that can be stopped
_WAITING_SECONDS = 30.0  # after which it is said that no worker has started


class Workers:
    """All workers of a batch.

    Args:
        cluster: Ray.
        work: Work of the batch.
        split_px: Pixels above which an image is split, unless its files go to a bucket; 0 to split none.
    """

    def __init__(self, cluster: Cluster, work: Work, split_px: int) -> None:
        self._cluster, self._work, self._ray, self._split_px = cluster, work, cluster.ray, split_px
        self._failed_starts = self._started = 0
        self._told = False
        self._slots: list[Slot] = []
        self._splits: list[SplitImage] = []
        self._start(len(work.queue))

    def map_all(self) -> None:
        """Map all images."""
        shown = began = time.monotonic()
        silent = True
        while len(self._work.queue) or self._splits or any(slot.attempt is not None for slot in self._slots):
            for slot in self._slots:
                if slot.answer is None and slot.place is not None:
                    self._give(slot)
            self._advance()
            self._end_failed()
            if time.monotonic() > shown + _SHOW_SECONDS:
                self._show()
                shown = time.monotonic()
            if silent and shown > began + _WAITING_SECONDS:
                silent = False
                if all(slot.place is None for slot in self._slots):
                    self._work.bar.say("--ray: waiting for the first worker (the cluster may be busy)")

    def stop(self) -> None:
        """Have the workers abandon their images; images that are done nevertheless are recorded."""
        busy = [slot for slot in self._slots if slot.doing in _MAPPING and slot.answer is not None]
        for slot in busy:
            with contextlib.suppress(Exception):  # a lost worker has stopped
                slot.actor.stop.options(concurrency_group=CONTROL).remote()
        end = time.monotonic() + STOP_SECONDS
        for slot in busy:
            try:
                outcome = self._ray.get(slot.answer, timeout=max(0.0, end - time.monotonic()))
            except Exception:  # lost, or not in time
                continue
            if isinstance(outcome, Outcome) and outcome.state == DONE and slot.attempt is not None:
                self._work.record(slot.attempt, outcome)
                slot.attempt = None

    def kill(self) -> None:
        """End all workers."""
        for slot in self._slots:
            self._kill(slot)
        self._slots = []
        for split in self._splits:
            split.discard()

    def _start(self, number: int) -> None:
        """Start so many workers in all, as far as the user wants as many."""
        while self._started < min(number, self._cluster.share.workers):
            self._started += 1
            self._add()

    def _add(self) -> None:
        actor = self._cluster.new_worker()
        self._slots.append(Slot(actor, actor.place.remote()))

    def _give(self, slot: Slot) -> None:
        """Give an idle worker something to do: what is begun first."""
        for split in self._splits:
            if (bands := split.take_join()) is not None:
                slot.split, slot.attempt = split, split.attempt
                slot.doing = "join"
                slot.answer = slot.actor.join.remote(split.attempt.job, bands, split.notices)
                return
            if (job := split.take()) is not None:
                slot.split, slot.band = split, job
                slot.doing, slot.answer = "predict", slot.actor.predict.remote(job)
                return
        following, slot.following = slot.following, None
        if following is None or not self._work.queue.claim(following.task):
            following = self._attempt(self._work.queue.take())
        if following is not None:
            slot.attempt, slot.doing = following, "prepare"
            slot.answer = slot.actor.prepare.remote(following.job, self._split_px, self._most_bands)

    def _attempt(self, task: Task | None) -> Attempt | None:
        if task is None:
            return None
        attempt = self._work.attempt(task)
        attempt.job = replace(attempt.job, options=self._cluster.share.options(attempt.job.options))
        return attempt

    def _run(self, slot: Slot, attempt: Attempt) -> None:
        """Have a worker map the image that it has prepared, and open another one meanwhile."""
        opened = [other.following.task for other in self._slots if other.following is not None]
        slot.following = self._attempt(self._work.queue.foresee(opened))
        following = None if slot.following is None else slot.following.job
        slot.doing, slot.answer = "run", slot.actor.run.remote(attempt.job, following)

    @property
    def _most_bands(self) -> int:
        """Row bands of an image: as many as there can be workers at a time."""
        share = self._cluster.share
        return max(1, min(share.workers, share.room))

    def _advance(self) -> None:
        """Wait for the next answers for a moment, and act on them."""
        answers = {slot.answer: slot for slot in self._slots if slot.answer is not None}
        if not answers:
            time.sleep(_POLL_SECONDS)
            return
        ready, _ = self._ray.wait(list(answers), num_returns=1, timeout=_POLL_SECONDS)
        for answer in ready:
            slot = answers[answer]
            try:
                found = self._ray.get(answer)
            except self._ray.exceptions.RayTaskError:  # an internal error in a method of `Actor`
                raise
            except self._ray.exceptions.RayError as error:
                self._replace(slot, error)
                continue
            slot.answer = None
            self._take(slot, found)

    def _take(self, slot: Slot, found: Any) -> None:
        """Take an answer, and go on with the image."""
        if isinstance(found, UserError):
            raise found
        if isinstance(found, Place):
            self._failed_starts = 0
            if found.problem:
                self._leave_out(slot, found)
            else:
                slot.place = found
            return
        split, band = slot.split, slot.band
        slot.split = slot.band = slot.progress = None
        if split is not None and band is not None:
            if isinstance(found, PredictedBand):
                split.succeed(band, found)
            else:
                self._abandon(split.fail(band, found))
            return
        assert slot.attempt is not None
        if found is None or isinstance(found, Plan):
            self._work.started(slot.attempt.task)
            if found is not None and self._split(slot.attempt, found):
                slot.attempt = None
                return
            self._run(slot, slot.attempt)
            return
        attempt, slot.attempt = slot.attempt, None
        if split is not None:
            self._splits.remove(split)
            split.discard()
            found = replace(found, seconds=split.seconds)
        self._work.record(attempt, found)

    def _split(self, attempt: Attempt, plan: Plan) -> bool:
        """Have several workers map an image; return False where that isn't possible."""
        if not self._work.local:
            if not self._told:
                self._told = True
                self._work.bar.say(
                    f"{attempt.job.source}: is mapped by one worker, like all mosaics of more than {self._split_px:,} "
                    "pixels (--split-px): row bands need a folder that all workers see, and OUT_DIR is in a bucket"
                )
            return False
        split = SplitImage(attempt, plan, self._most_bands)
        if problem := split.lacks_room():
            self._work.bar.say(f"{attempt.job.source}: is mapped by one worker: {problem}")
            return False
        try:
            split.make_folder()
        except UserError as error:
            self._work.record(attempt, Outcome(FAILED, str(error), may_pass(error, attempt.job.source)))
            return True
        self._splits.append(split)
        self._start(len(self._work.queue) + len(split))
        return True

    def _abandon(self, numbers: Sequence[int]) -> None:
        """Have workers abandon row bands."""
        for slot in self._slots:
            if slot.band is not None and slot.band.number in numbers:
                slot.actor.abandon.options(concurrency_group=CONTROL).remote(slot.band.number)

    def _end_failed(self) -> None:
        """Record the images that were split and have failed."""
        for split in [split for split in self._splits if split.failed]:
            assert split.failure is not None
            self._splits.remove(split)
            split.discard()
            self._work.record(split.attempt, replace(split.failure, seconds=split.seconds))

    def _leave_out(self, slot: Slot, place: Place) -> None:
        """Do without a worker that can't see what it needs."""
        self._slots.remove(slot)
        self._kill(slot)
        problem = f"--ray: node {place.node}: {place.problem}"
        if not self._slots:
            raise UserError(problem)
        self._work.bar.say(f"{problem}; its worker is left out")

    def _replace(self, slot: Slot, error: Exception) -> None:
        """Start a worker in place of one that was lost, and record its image as failed; it may be tried again."""
        self._slots.remove(slot)
        self._kill(slot)
        if slot.place is None:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise UserError(f"--ray: workers can't start: {_said(error)}")
        self._add()
        attempt = slot.attempt if slot.split is None else slot.split.attempt
        if attempt is None:
            return
        reason = (
            f"{attempt.job.source}: the Ray worker that mapped it was lost (killed, out of memory, or its node is gone)"
        )
        if slot.doing in ("run", "join"):  # it may have written its files, which are the batch's own
            attempt.task = replace(attempt.task, overwrite=True)
            attempt.job = replace(attempt.job, options=replace(attempt.job.options, overwrite=True))
        if slot.split is None:
            self._work.record(attempt, Outcome(FAILED, reason, may_pass=True))
            return
        assert slot.place is not None
        self._work.bar.say(f"{reason}; another one does its part")
        self._abandon(slot.split.lose(slot.band, reason, slot.place.node, slot.place.process))

    def _kill(self, slot: Slot) -> None:
        """End a worker, and remove the unfinished files of its image."""
        with contextlib.suppress(Exception):  # it is gone
            self._ray.kill(slot.actor)
        for attempt in (slot.attempt, slot.following):
            if attempt is not None and slot.place is not None:
                for path in self._work.files(attempt.task):
                    clear_temporaries_of(path, slot.place.node, slot.place.process)

    def _show(self) -> None:
        """Show the progress that was asked for a while ago, and ask again."""
        for slot in self._slots:
            if slot.doing not in _MAPPING or slot.answer is None:
                continue
            if slot.progress is not None:
                ready, _ = self._ray.wait([slot.progress], timeout=0)
                if not ready:
                    continue
                with contextlib.suppress(self._ray.exceptions.RayError):  # `_advance` notices
                    self._show_tiles(slot, *self._ray.get(slot.progress))
            slot.progress = slot.actor.progress.options(concurrency_group=CONTROL).remote()

    def _show_tiles(self, slot: Slot, done: int, tiles: int) -> None:
        """Show how far a worker is with an image, or all with one that is split."""
        if slot.split is not None:
            if slot.band is not None:
                slot.split.show(slot.band, done)
            done, tiles = slot.split.progress()
        attempt = slot.attempt if slot.split is None else slot.split.attempt
        if attempt is not None:
            self._work.bar.show(attempt.task.item.source, done, tiles)


def _said(error: Exception) -> str:
    """Return the last line of an error of Ray, which says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)

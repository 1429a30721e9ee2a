"""Order of the attempts of a batch: all images once, then those that failed for a reason that may pass."""

import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from inference.batch.items import Item

WAIT_SECONDS = 10.0
"""Least time between a failure and the next attempt; it doubles with each attempt."""


@dataclass(frozen=True)
class Task:
    """Image with the number of the attempt.

    Attributes:
        item: The image.
        overwrite: True if its files may be replaced.
        attempt: Number of the attempt, from 1.
    """

    item: Item
    overwrite: bool
    attempt: int = 1


class Queue:
    """Images that wait.

    Args:
        tasks: First attempts.
        retries: Number of further attempts.
    """

    def __init__(self, tasks: Iterable[Task], retries: int) -> None:
        self._tasks = deque(tasks)
        self._retries = retries
        self._again: deque[tuple[float, Task]] = deque()

    def __len__(self) -> int:
        return len(self._tasks) + len(self._again)

    def take(self) -> Task | None:
        """Return the next image that can be mapped now; None where there is none, or all wait for their time."""
        if self._tasks:
            return self._tasks.popleft()
        if self._again and self._again[0][0] <= time.monotonic():
            return self._again.popleft()[1]
        return None

    def foresee(self, apart_from: Collection[Task]) -> Task | None:
        """Return the next image that has not been attempted, without taking it; None where there is none.

        Args:
            apart_from: Images that aren't wanted.
        """
        return next((task for task in self._tasks if task not in apart_from), None)

    def claim(self, task: Task) -> bool:
        """Take an image that was foreseen; return False if it was taken already."""
        if task not in self._tasks:
            return False
        self._tasks.remove(task)
        return True

    def wait(self) -> Task | None:
        """Return the next image, after its time has come; None where there is none."""
        task = self.take()
        while task is None and self._again:
            time.sleep(max(0.0, self._again[0][0] - time.monotonic()))
            task = self.take()
        return task

    def put_again(self, task: Task) -> bool:
        """Put an image back whose attempt failed; return False if it has had all its attempts."""
        if task.attempt > self._retries:
            return False
        due = time.monotonic() + WAIT_SECONDS * 2 ** (task.attempt - 1)
        # What a failed attempt has left may be replaced: it has begun, so that no other file had the name.
        self._again.append((due, Task(task.item, task.overwrite, task.attempt + 1)))
        return True

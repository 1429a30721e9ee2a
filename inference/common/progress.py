"""Progress of anything that may take more than two seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

QUIET_SECONDS = 2.0
"""Seconds in which nothing is shown."""
LINE_SECONDS = 10.0
"""Seconds between two lines where stderr is not a terminal."""


class Progress:
    """Progress on stderr: a bar on a terminal, otherwise a line every ten seconds; nothing in the first two seconds.

    Args:
        total: Number of items.
        what: Description of the work.
        unit: Plural of an item, such as "tiles"; empty to show numbers alone.
        shown: False to show nothing.
    """

    def __init__(self, total: int, what: str, unit: str = "", shown: bool = True) -> None:
        self._total, self._what, self._unit, self._shown = total, what, unit, shown
        self._bar: Any = None
        self._due = time.monotonic() + QUIET_SECONDS

    def __enter__(self) -> "Progress":
        if self._shown and sys.stderr.isatty():
            unit = self._unit.removesuffix("s") or "it"
            self._bar = tqdm(total=self._total, desc=self._what, unit=unit, delay=QUIET_SECONDS, leave=False)
        return self

    def show(self, done: int) -> None:
        """Show the number of finished items."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif self._shown and time.monotonic() > self._due:
            sys.stderr.write(f"{self._what}: {done} of {self._total}{f' {self._unit}' if self._unit else ''}\n")
            sys.stderr.flush()
            self._due = time.monotonic() + LINE_SECONDS

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, and show how many are finished; see `Progress`."""
    with Progress(total, what) as bar:
        for done, item in enumerate(items):
            bar.show(done)
            yield item

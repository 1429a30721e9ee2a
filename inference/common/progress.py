"""Progress of anything that may take more than two seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

QUIET_SECONDS = 2.0
LINE_SECONDS = 10.0


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields the items; a bar on a terminal, a line every ten seconds elsewhere, nothing where it is quick."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, delay=QUIET_SECONDS, leave=False)
        return
    due = time.monotonic() + QUIET_SECONDS
    for done, item in enumerate(items):
        if time.monotonic() > due:
            sys.stderr.write(f"{what}: {done} of {total}\n")
            sys.stderr.flush()
            due = time.monotonic() + LINE_SECONDS
        yield item

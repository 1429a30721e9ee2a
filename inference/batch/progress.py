"""Progress of a batch: one bar for the pixels of all images, or a line every 30 seconds."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from inference.common.raster import read_header
from inference.common.text import clean_line, print_line

LINE_SECONDS = 30.0
"""Seconds between two lines where stderr is not a terminal."""
PATIENCE_SECONDS = 10.0
"""Time to wait for a thread that reads a header. Python may abort where it ends while GDAL runs in a thread."""
_LONGEST_NAME = 30


class Sizes(threading.Thread):
    """Thread that reads the sizes of images while the first ones are mapped, so that the end can be estimated.

    Args:
        sources: Images.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._sources = sources
        self._pixels: dict[str, int] = {}
        self._sum = 0
        self._end = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Read the sizes one after another."""
        for source in self._sources:
            if self._end.is_set():
                return
            if source not in self._pixels:
                self.add(source, pixels_of(source))

    def add(self, source: str, pixels: int) -> None:
        """Add the size of an image, unless it is known."""
        with self._lock:
            if source not in self._pixels:
                self._pixels[source] = pixels
                self._sum += pixels

    def stop(self) -> None:
        """Let the thread end after the image that it reads, and wait for that, but not for ever."""
        self._end.set()
        if self.is_alive():
            self.join(PATIENCE_SECONDS)

    @property
    def total(self) -> float:
        """Pixels of all images; those that aren't known yet count as the mean of the others."""
        with self._lock:
            return len(self._sources) * self._sum / len(self._pixels) if self._pixels else 0.0

    def pixels(self, source: str) -> int:
        """Return the pixels of an image, 0 where they aren't known."""
        return self._pixels.get(source, 0)


def pixels_of(source: str) -> int:
    """Return the number of pixels of an image; 0 if it can't be read."""
    try:
        header = read_header(source)
    except Exception:  # the attempt to map it says what is wrong
        return 0
    return header.height * header.width


class BatchProgress:
    """Progress on stderr; a context manager.

    Args:
        sources: Images that are to be mapped.
        shown: False to show nothing.
    """

    def __init__(self, sources: Sequence[str], shown: bool = True) -> None:
        self._sources, self._shown = list(sources), shown
        self._sizes = Sizes(self._sources)
        self._bar: Any = None
        self._began = time.monotonic()
        self._due = self._began + LINE_SECONDS
        self._finished: set[str] = set()
        self._mapped = self._done = 0.0  # pixels of finished images, and with those of the current one
        self._current: dict[str, float] = {}  # finished pixels of images that are being mapped
        self._work = 0.0  # pixels that took time: those of images that failed at once did not

    def __enter__(self) -> "BatchProgress":
        if self._shown and self._sources:
            self._sizes.start()
            if sys.stderr.isatty():
                self._bar = tqdm(total=1, unit="px", unit_scale=True, leave=False)
        return self

    def show(self, source: str, done: int, tiles: int) -> None:
        """Show that a number of the tiles of an image are mapped."""
        if not self._shown:
            return
        self._current[source] = self._sizes.pixels(source) * done / tiles
        current = sum(self._current.values())
        self._done = self._mapped + current
        total = self._sizes.total
        number = min(len(self._finished) + 1, len(self._sources))
        if self._bar is not None:
            self._bar.total = max(total, self._done)
            self._bar.set_description(f"{number}/{len(self._sources)} {_short(source)}", refresh=False)
            self._bar.update(self._done - self._bar.n)
        elif time.monotonic() > self._due:
            self._due = time.monotonic() + LINE_SECONDS
            print_line(self._line(source, number, total, self._work + current))

    def finish(self, source: str, pixels: int) -> None:
        """Count an image as finished.

        Args:
            source: The image.
            pixels: Pixels that were mapped; 0 where it failed.
        """
        self._current.pop(source, None)
        if source not in self._finished:
            self._finished.add(source)
            self._sizes.add(source, pixels)
            self._mapped += self._sizes.pixels(source)
            self._work += pixels

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print_line(text)
        if self._bar is not None:
            self._bar.refresh()

    def _line(self, source: str, number: int, total: float, work: float) -> str:
        seconds = time.monotonic() - self._began
        speed = work / seconds
        left = duration((total - self._done) / speed) + " left" if speed and total > self._done else "end unknown"
        return (
            f"mapping: image {number:,} of {len(self._sources):,}, {self._done / 1e6:,.1f} of {total / 1e6:,.1f} Mpx, "
            f"{speed / 1e6:.2f} Mpx/s, {left}: {source}"
        )

    def __exit__(self, *_: object) -> None:
        self._sizes.stop()
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Return a time as text, such as 3 h 07 min."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _short(source: str) -> str:
    name = clean_line(source, 1000)
    return name if len(name) <= _LONGEST_NAME else f"..{name[2 - _LONGEST_NAME :]}"

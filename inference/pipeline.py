"""Threads that hand work to each other through bounded queues.

Reading, the network, blending and writing take turns on the same data but not on the same library: while one waits for
the disk, another computes. All of them release Python's lock in what takes long. The queues are short, so that memory
stays bounded whichever is the slowest.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")

_POLL = 0.1  # seconds in which a thread notices that the others have stopped


class _Stopped(Exception):
    """Another thread failed, or the user wants no more."""


class _End:
    """What follows the last item of a queue."""


class _Channel(Generic[A]):
    """A bounded queue that is abandoned when the crew stops.

    A place in it is taken before an item is made, and free again once the item has been handed on: what is being made
    takes memory too.
    """

    def __init__(self, depth: int, stop: threading.Event) -> None:
        self._queue: queue.SimpleQueue[A | _End] = queue.SimpleQueue()
        self._places = threading.Semaphore(depth)
        self._stop = stop

    def reserve(self) -> None:
        """Waits for a place."""
        while not self._stop.is_set():
            if self._places.acquire(timeout=_POLL):
                return
        raise _Stopped

    def put(self, item: A | _End) -> None:
        """Puts an item in a place that has been reserved, or the end in none."""
        self._queue.put(item)

    def __iter__(self) -> Iterator[A]:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                item = self._queue.get(timeout=_POLL)
                if isinstance(item, _End):
                    return
                self._places.release()
                yield item
        raise _Stopped


class Crew:
    """Threads that work on one task; when one fails, all stop, and the first failure is raised."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._ends: list[Callable[[], None]] = []

    def ahead(self, items: Generator[A, None, None], depth: int) -> Iterator[A]:
        """Yields what a generator yields, which runs in a thread of its own, at most `depth` items ahead."""
        channel: _Channel[A] = _Channel(depth, self._stop)

        def work() -> None:
            with contextlib.closing(items):
                channel.reserve()
                for item in items:
                    channel.put(item)
                    channel.reserve()
            channel.put(_End())

        self._start(work)
        return iter(channel)

    def behind(self, consume: Callable[[Iterator[B]], None], depth: int) -> Callable[[B], None]:
        """Starts a function on an iterator in a thread of its own; returns what feeds it.

        At most `depth` items wait for it. `finish` ends the iterator.
        """
        channel: _Channel[B] = _Channel(depth, self._stop)
        self._start(lambda: consume(iter(channel)))
        self._ends.append(lambda: channel.put(_End()))

        def feed(item: B) -> None:
            channel.reserve()
            channel.put(item)

        return feed

    def finish(self) -> None:
        """Ends what was started with `behind`, and waits for it."""
        for end in self._ends:
            end()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL)
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if isinstance(error, _Stopped) and self._failures:
            raise self._failures[0] from None

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except _Stopped:
                pass
            except BaseException as error:  # raised again where the crew is waited for
                self._failures.append(error)
                self._stop.set()

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

"""Threads that hand work to each other through bounded queues.

Reading, the network, blending and writing take turns on the same data but not on the same library: while one waits for
the disk, another computes. All of them release Python's lock in what takes long. The queues are short, so that memory
stays bounded whichever is the slowest.
"""

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any, Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")

_POLL = 0.1  # seconds in which a thread notices that the others have stopped


class _Stopped(Exception):
    """Another thread failed, or the user wants no more."""


class _End:
    """What follows the last item of a queue."""


class _Stop:
    """Whether to stop: a thread failed, the work is over, or the user wants no more."""

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or self._interrupted.is_set()


class _Channel(Generic[A]):
    """A bounded queue that is abandoned when the crew stops.

    A place in it is taken before an item is made, and free again once the item has been handed on: what is being made
    takes memory too.
    """

    def __init__(self, depth: int, stop: _Stop) -> None:
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


class Interrupts:
    """Ctrl-C while files are written: noted at once, and raised when the threads have stopped and the files are gone.

    Python raises it wherever the main thread is, which may be between making a file and knowing that it is to be
    removed, or in starting a thread. Pressed again, it is raised there all the same. A context manager; outside the
    main thread, where Python raises no signals, it does nothing.

    Attributes:
        stop: Set by Ctrl-C.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._before: Any = None

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt
        self.stop.set()

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self.stop.is_set() and (kind is None or issubclass(kind, _Stopped)):
            raise KeyboardInterrupt from None


class Crew:
    """Threads that work on one task; when one fails, all stop, and the first failure is raised.

    Args:
        interrupts: Stop them too; the crew raises something that `Interrupts` makes a `KeyboardInterrupt` of.
    """

    def __init__(self, interrupts: Interrupts | None = None) -> None:
        self._stop = _Stop(threading.Event() if interrupts is None else interrupts.stop)
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
        if self._stop.is_set():
            raise _Stopped

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
        thread.start()
        self._threads.append(thread)

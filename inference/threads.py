"""A pipeline of threads that are connected by bounded queues.

Reading, the network, blending and writing use different libraries, all of which release Python's lock in long calls, so
that one computes while another waits for the disk. The queues are short: memory stays bounded, whichever stage is the
slowest.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from inference.common.signals import Cancelled, DeferredInterrupt

A = TypeVar("A")
B = TypeVar("B")

_POLL_SECONDS = 0.1  # longest time in which a waiting thread notices a cancellation


class _EndOfStream:
    """Marker behind the last item of a queue."""


class _Cancellation:
    """Flag that cancels all threads of a pipeline; an interruption sets it as well.

    Args:
        interrupted: Event that is set by a stop signal.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or self._interrupted.is_set()


class _BoundedQueue(Generic[A]):
    """Queue with a limited number of slots, abandoned on cancellation.

    A slot is reserved before its item is made and released when the item is handed on, because an item in the making
    takes memory too.
    """

    def __init__(self, depth: int, cancellation: _Cancellation) -> None:
        self._queue: queue.SimpleQueue[A | _EndOfStream] = queue.SimpleQueue()
        self._slots = threading.Semaphore(depth)
        self._cancellation = cancellation

    def reserve(self) -> None:
        """Wait for a free slot and reserve it."""
        while not self._cancellation.is_set():
            if self._slots.acquire(timeout=_POLL_SECONDS):
                return
        raise Cancelled

    def put(self, item: A | _EndOfStream) -> None:
        """Append an item, for which a slot has been reserved, or the end marker, which needs none."""
        self._queue.put(item)

    def __iter__(self) -> Iterator[A]:
        while not self._cancellation.is_set():
            with contextlib.suppress(queue.Empty):
                item = self._queue.get(timeout=_POLL_SECONDS)
                if isinstance(item, _EndOfStream):
                    return
                self._slots.release()
                yield item
        raise Cancelled


class Pipeline:
    """Threads that work on one task; if one fails, all stop, and the first failure is raised.

    Args:
        interrupt: Cancels the pipeline as well. The pipeline then raises `Cancelled`, which the `DeferredInterrupt`
            around it turns into the signal.
    """

    def __init__(self, interrupt: DeferredInterrupt | None = None) -> None:
        self._cancellation = _Cancellation(threading.Event() if interrupt is None else interrupt.stop)
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._end_sinks: list[Callable[[], None]] = []

    def prefetch(self, items: Generator[A, None, None], depth: int) -> Iterator[A]:
        """Run a generator in its own thread and yield its items.

        Args:
            items: The generator.
            depth: Largest number of items that it runs ahead.
        """
        items_ahead: _BoundedQueue[A] = _BoundedQueue(depth, self._cancellation)

        def work() -> None:
            with contextlib.closing(items):
                items_ahead.reserve()
                for item in items:
                    items_ahead.put(item)
                    items_ahead.reserve()
            items_ahead.put(_EndOfStream())

        self._start(work)
        return iter(items_ahead)

    def sink(self, consume: Callable[[Iterator[B]], None], depth: int) -> Callable[[B], None]:
        """Run a function that consumes an iterator in its own thread.

        Args:
            consume: The function; `join` ends its iterator.
            depth: Largest number of items that wait for it.

        Returns:
            A function that passes one item to `consume`, and waits while `depth` items are waiting already.
        """
        waiting: _BoundedQueue[B] = _BoundedQueue(depth, self._cancellation)
        self._start(lambda: consume(iter(waiting)))
        self._end_sinks.append(lambda: waiting.put(_EndOfStream()))

        def feed(item: B) -> None:
            waiting.reserve()
            waiting.put(item)

        return feed

    def join(self) -> None:
        """End the iterators of all sinks and wait for all threads.

        Raises:
            BaseException: The first failure in any thread.
        """
        for end in self._end_sinks:
            end()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
        if self._failures:
            raise self._failures[0]
        if self._cancellation.is_set():
            raise Cancelled

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._cancellation.set()
        for thread in self._threads:
            thread.join()
        if isinstance(error, Cancelled) and self._failures:
            raise self._failures[0] from None

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except Cancelled:
                pass
            except BaseException as error:  # raised again by `join` or `__exit__`
                self._failures.append(error)
                self._cancellation.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self._threads.append(thread)

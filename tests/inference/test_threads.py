"""The pipeline of threads, and interruptions of it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from inference.common.signals import DeferredInterrupt
from inference.threads import Pipeline


def counting(made: list[int], last: int = 1000) -> Iterator[int]:
    for number in range(last):
        made.append(number)
        yield number


def test_items_arrive_in_order() -> None:
    found: list[int] = []
    with Pipeline() as pipeline:
        first = pipeline.prefetch(counting([], 100), 1)
        second = pipeline.prefetch((x * 2 for x in first), 3)
        feed = pipeline.sink(found.extend, 2)
        for item in second:
            feed(item)
        pipeline.join()
    assert found == [2 * x for x in range(100)]


@pytest.mark.parametrize("depth", [1, 3])
def test_no_stage_runs_further_ahead_than_its_depth(depth: int) -> None:
    made: list[int] = []
    with Pipeline() as pipeline:
        items = pipeline.prefetch(counting(made), depth)
        time.sleep(0.1)
        assert len(made) == depth
        for _ in range(5):
            next(items)
        time.sleep(0.1)
        assert len(made) == depth + 5


def read_only(items: Iterator[int]) -> None:
    with Pipeline() as pipeline:
        list(pipeline.prefetch(items, 2))


def read_and_write(items: Iterator[int], consume: Callable[[Iterator[int]], None]) -> None:
    with Pipeline() as pipeline:
        feed = pipeline.sink(consume, 1)
        for item in pipeline.prefetch(items, 1):
            feed(item)
        pipeline.join()


def test_a_failure_anywhere_stops_all_and_is_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("reading")

    def consume(items: Iterator[int]) -> None:
        next(items)
        raise ValueError("writing")

    before = threading.active_count()
    with pytest.raises(ValueError, match="reading"):
        read_only(broken())
    with pytest.raises(ValueError, match="reading"):
        read_and_write(broken(), lambda items: [None for _ in items].clear())
    with pytest.raises(ValueError, match="writing"):
        read_and_write(counting([]), consume)
    assert threading.active_count() == before


def test_an_interruption_stops_all() -> None:
    def interrupted() -> None:
        with Pipeline() as pipeline:
            pipeline.prefetch(counting([]), 1)
            pipeline.sink(lambda items: [None for _ in items].clear(), 1)
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before


def pipeline_interrupted_by(press: Callable[[], None]) -> list[int]:
    """Return the items that reached the end of a pipeline during which `press` is called."""
    found: list[int] = []
    with DeferredInterrupt() as interrupt, Pipeline(interrupt) as pipeline:
        items = pipeline.prefetch(counting([]), 1)
        feed = pipeline.sink(found.extend, 1)
        for item in items:
            if item == 5:
                press()
            feed(item)
        pipeline.join()
    return found


def test_ctrl_c_is_raised_when_all_have_stopped() -> None:
    before, handler = threading.active_count(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pipeline_interrupted_by(lambda: signal.raise_signal(signal.SIGINT))
    assert threading.active_count() == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_while_a_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would raise the interruption there, and a thread that hasn't started can't be joined."""
    start = threading.Thread.start

    def pressed(self: threading.Thread) -> None:
        signal.raise_signal(signal.SIGINT)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", pressed)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt() as interrupt, Pipeline(interrupt) as pipeline:
        list(pipeline.prefetch(counting([]), 1))
    assert threading.active_count() == before


def test_ctrl_c_in_the_last_step_is_not_lost() -> None:
    def work(interrupt: DeferredInterrupt) -> None:
        with Pipeline(interrupt) as pipeline:
            pipeline.sink(lambda items: list(items).clear(), 1)
            signal.raise_signal(signal.SIGINT)
            pipeline.join()
        finished.append(True)

    finished: list[bool] = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt() as interrupt:
        work(interrupt)
    assert finished == []  # so that unfinished files are removed


def test_a_failure_while_stopping_is_raised() -> None:
    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        pipeline_interrupted_by(fail)


def test_outside_the_main_thread_nothing_is_done() -> None:
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(pipeline_interrupted_by(lambda: None)))
    thread.start()
    thread.join()
    assert found == [list(range(1000))]


def test_a_failure_of_the_last_step_is_raised_too() -> None:
    def consume(items: Iterator[int]) -> None:
        list(items)
        raise ValueError("closing")

    with pytest.raises(ValueError, match="closing"):
        read_and_write(counting([], 3), consume)

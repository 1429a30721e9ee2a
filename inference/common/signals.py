"""Signals that ask a command to stop: SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (schedulers, containers, pre-emption)."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n))
"""Signals that stop a command; Windows has no SIGUSR1."""
_GRACE_SECONDS = 30
_REPEAT_SECONDS = 1.0  # a scheduler may signal a process and its group: two signals, one request
_AGAIN_SECONDS = 0.01


def exit_status(number: int) -> int:
    """Return the exit code of a command that a signal has stopped: 130 for SIGINT, 143 for the others."""
    return 130 if number == signal.SIGINT else 143


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGUSR1 was received; treated like Ctrl-C wherever unfinished files are removed.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def stop_signal(error: BaseException | None) -> int:
    """Return the number of the signal behind an interruption; a library may have turned it into another error."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return signal.SIGINT if error is None else error.number


class StopHandler:
    """Context in which stop signals call a function, in the main thread.

    Outside the main thread, which alone receives signals, the context does nothing. A SIGTERM or SIGUSR1 that follows
    another within a second is ignored. Where a signal meets a finaliser or a callback of a weak reference, whose errors
    Python prints and drops, it is sent again.

    Args:
        on_stop: Called with the number of the signal; it may raise.
        numbers: Signals to handle.

    Attributes:
        number: Number of the first signal that was received; None before.
    """

    def __init__(self, on_stop: Callable[[int], None], numbers: tuple[signal.Signals, ...] = STOP_SIGNALS) -> None:
        self.number: int | None = None
        self._on_stop = on_stop
        self._numbers = numbers
        self._last = -_REPEAT_SECONDS
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_hook: Callable[[Any], Any] | None = None

    def install(self) -> None:
        """Install the handlers; called again, it replaces those that a library has installed meanwhile."""
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                # None: a handler that was not installed from Python can't be restored.
                previous = signal.signal(number, self._on_signal)
                self._previous.setdefault(number, signal.SIG_DFL if previous is None else previous)
            if self._previous_hook is None:
                self._previous_hook = sys.unraisablehook
                sys.unraisablehook = self._on_dropped

    def restore(self) -> None:
        """Restore the handlers that were there before."""
        if self._previous_hook is not None:
            sys.unraisablehook = self._previous_hook
            self._previous_hook = None
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def __enter__(self) -> "StopHandler":
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def _on_dropped(self, dropped: Any) -> None:
        """Send a signal again whose exception Python drops; pass other errors on."""
        error = dropped.exc_value
        if not isinstance(error, KeyboardInterrupt):
            if self._previous_hook is not None:
                self._previous_hook(dropped)
            return
        self._last = -_REPEAT_SECONDS
        # From another thread, so that this one has left the callback.
        again = threading.Timer(_AGAIN_SECONDS, _send, [stop_signal(error)])
        again.daemon = True
        again.start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        repeated = number != signal.SIGINT and now - self._last < _REPEAT_SECONDS
        self._last = now
        if not repeated:
            if self.number is None:
                self.number = number
            self._on_stop(number)


def _send(number: int) -> None:
    """Send a signal to this process, from whatever thread."""
    if os.name == "nt":  # os.kill would end the process
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def raise_stopped(number: int) -> None:
    """Raise `KeyboardInterrupt` for SIGINT and `Stopped` for the others; a function for `StopHandler`."""
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


def finishing() -> StopHandler:
    """Return a context in which stop signals have no effect.

    For the moment in which a command gives its finished files their names: of several, all appear or none.
    """
    return StopHandler(lambda _: None)


def leave_signals_to_parent() -> None:
    """Let this process outlive stop signals that a terminal or a scheduler sends to a whole group of processes.

    The parent needs its workers to finish its step, and then ends them. After SIGTERM, which it may end them with, this
    process lives for another 30 seconds at most.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_SECONDS))


class Cancelled(Exception):
    """Work was abandoned in the middle: a stop signal was received, or another thread failed."""


class DeferredInterrupt:
    """Context in which a stop signal is recorded at once, but raised only on leaving it.

    Without it, Python raises `KeyboardInterrupt` wherever the main thread happens to be: between creating a file and
    registering it for removal, or while a thread starts. On leaving, the signal is sent to this process again, so that
    it has the effect that it has outside: of a command, exit code 130 or 143; of another program, whatever its own
    handler does. A second Ctrl-C is raised immediately.

    Attributes:
        stop: Event that is set by a stop signal. Code that notices it raises `Cancelled`, which the signal replaces.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._handler = StopHandler(self._on_stop)
        self._finishing = False

    def finish(self) -> None:
        """Begin the last step, in which all files get their names: from now on a signal has no effect.

        Raises:
            Cancelled: A signal was received before.
        """
        self._finishing = True
        if self.stop.is_set():
            raise Cancelled

    def _on_stop(self, number: int) -> None:
        if self._finishing:
            return
        if number == signal.SIGINT and self.stop.is_set():
            raise KeyboardInterrupt
        self.stop.set()

    def __enter__(self) -> "DeferredInterrupt":
        self._handler.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        self._handler.restore()
        if self.stop.is_set() and (kind is None or issubclass(kind, Cancelled)):
            try:
                signal.raise_signal(self._handler.number or signal.SIGINT)
            except KeyboardInterrupt as stopped:
                raise stopped from None
            raise KeyboardInterrupt from None  # the handler outside ignores the signal, but the work is not done

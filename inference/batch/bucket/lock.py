"""Lock of a folder in a bucket: an object that one batch at a time holds and renews.

A batch that was killed doesn't remove it. On the same machine the next start sees that the process is gone; on another
one it waits until the lock hasn't been renewed for two minutes. Times are those of the server.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inference.batch.bucket.place import LOCK
from inference.batch.bucket.store import Found, Store, StoreError, Taken
from inference.common.errors import UserError
from inference.common.files import is_running
from inference.common.text import quoted

RENEW_SECONDS = 20.0
"""Time between two renewals."""
STALE_SECONDS = 120.0
"""Age at which a lock counts as left by a batch that was killed."""
POLL_SECONDS = 2.0
"""Time between two looks at a lock of another machine."""
_END_SECONDS = 5.0
_held: set[str] = set()  # addresses whose lock this process holds


class Lock:
    """Lock of a folder; a context manager.

    Args:
        store: The folder.
        say: Prints a line for the user.

    Raises:
        UserError: Another batch holds it, or it can't be written.
    """

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store, self._say = store, say
        self._etag = ""
        self._renewals = 0
        self._lost = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Lock":
        if self._store.address in _held:
            raise self._busy("this process")
        self._etag = self._take()
        _held.add(self._store.address)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_END_SECONDS)  # a renewal without a network takes long
        _held.discard(self._store.address)
        if not self._lost:
            with contextlib.suppress(StoreError):  # it becomes stale
                self._store.delete(LOCK)

    def check(self) -> None:
        """Check that this batch still holds the lock.

        Raises:
            UserError: Another one has taken it: this one was asleep or without a network for too long.
        """
        if self._lost:
            raise self._busy("another command, which has taken over")

    def _take(self) -> str:
        """Return the tag of the lock, once it is ours."""
        found = self._store.read(LOCK)
        first, told = found, False
        began = time.monotonic()
        while True:
            if found is None or self._abandoned(found, time.monotonic() - began):
                try:
                    return self._store.put(LOCK, self._content(), {}, only="" if found is None else found.etag)
                except Taken:
                    raise self._busy("another command") from None
            holder = _holder(found)
            if (first is not None and found.etag != first.etag) or _is_here(holder):
                raise self._busy(f"process {holder['process']} on {holder['node']}")
            if not told:
                told = True
                self._say(
                    f"{self._store.address}: process {holder['process']} on {holder['node']} has written here "
                    f"{found.age:.0f} s ago; waiting up to {STALE_SECONDS:.0f} s to see whether it is still running"
                )
            time.sleep(POLL_SECONDS)
            found = self._store.read(LOCK)

    def _abandoned(self, found: Found, waited: float) -> bool:
        """Return True if the process that wrote a lock has ended, as far as can be known."""
        holder = _holder(found)
        if _is_here(holder):
            return holder["process"] == os.getpid() or not is_running(holder["process"])
        return max(found.age, waited) > STALE_SECONDS

    def _content(self) -> bytes:
        self._renewals += 1
        state = {"node": platform.node(), "process": os.getpid(), "machine": machine(), "renewals": self._renewals}
        return json.dumps({**state, "time": time.time()}).encode()

    def _renew(self) -> None:
        while not self._end.wait(RENEW_SECONDS):
            try:
                self._etag = self._store.put(LOCK, self._content(), {}, only=self._etag)
            except Taken:
                self._lost = True
                return
            except StoreError:  # the network may come back
                continue

    def _busy(self, who: str) -> UserError:
        return UserError(
            f"{self._store.address}: another batch writes to this folder: {who} (wait until it is done, or choose "
            "another OUT_DIR)"
        )


def machine() -> str:
    """Return a name of this machine or container, so that the number of a process means the same."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()} {boot} {namespace}".strip()


def _is_here(holder: Mapping[str, Any]) -> bool:
    """Return True if the holder of a lock is a process that can be looked up; Windows is not asked."""
    return os.name != "nt" and holder["machine"] == machine()


def _holder(found: Found) -> dict[str, Any]:
    """Return what a lock says of the process that holds it."""
    try:
        state = json.loads(found.content)
    except ValueError:
        state = None
    state = state if isinstance(state, dict) else {}
    process = state.get("process")
    return {
        "node": quoted(str(state.get("node", "?"))),
        "machine": str(state.get("machine", "?")),
        "process": process if isinstance(process, int) and process > 0 else 0,
    }

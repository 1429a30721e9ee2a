"""Subprocess that runs W&B's client (`artifact_client`), so that a stalled download can be ended at any moment."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inference.common.errors import UserError
from train.export.artifact_manifest import ManifestFile

# W&B's client starts in one second, but takes many from a cold disk; it ends in a tenth of a second.
STARTING_SECONDS, ENDING_SECONDS = 60.0, 3.0


class ClientProcess:
    """Context manager around W&B's client in a subprocess, which is ended on exit even while it is downloading.

    Args:
        name: Name of the artifact.
        host: Host of the artifact's page; empty if unknown.
        timeout: Seconds in which the server must answer, and the longest time a download may make no progress.
        temporary: Folder for W&B's own cache; the download must go below it too.

    Raises:
        UserError: From the methods: the artifact can't be found or downloaded.
    """

    def __init__(self, name: str, host: str, timeout: float, temporary: Path) -> None:
        self.name, self.timeout, self.temporary = name, timeout, temporary
        self.server = "W&B"
        self.hangs = False
        self.began = time.monotonic()
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        # W&B's shared cache would store the file a second time, and return a damaged one again.
        private = {"WANDB_CACHE_DIR": str(temporary / "cache"), "WANDB_SILENT": "true", "PYTHONPATH": path}
        # A W&B service that this process has already started may be configured for another server.
        env = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | private
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 # closed in __exit__
        self.process = subprocess.Popen(
            # -P: the working directory may contain a file that shadows a package, such as wandb.py.
            [sys.executable, "-P", "-m", "train.export.artifact_client", name, host, str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=env,
            start_new_session=True,  # this process handles Ctrl-C and then ends the client
        )
        self.answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.answers.put(line)
        self.answers.put(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        # A client that exits by itself ends W&B's service; after a kill the service notices within two seconds.
        if not self.hangs and (kind is None or issubclass(kind, UserError)):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDING_SECONDS)
        self.process.kill()
        self.process.wait()
        self.log.close()

    def find(self) -> dict[str, Any]:
        """Wait for the artifact's `name`, `metadata` and `files`."""
        try:
            self.server = self._receive(STARTING_SECONDS)["server"]
            # A slow start of the client must not use up the server's time: it has at least two thirds of the timeout.
            until = max(self.began + self.timeout, time.monotonic() + self.timeout * 2 / 3)
            answer = self._receive(until - time.monotonic())
        except queue.Empty:
            self.hangs = True
            raise UserError(
                f"{self.name}: {self.server} did not answer within {self.timeout:g} s (a downloaded artifact is also "
                "looked up there first); check the network, or give a local .ckpt or run folder instead"
            ) from None
        found: dict[str, Any] = answer["found"]
        return found

    def download(self, file: ManifestFile, folder: Path) -> None:
        """Download a file to a folder; the time is limited only while no data arrive."""
        assert self.process.stdin is not None
        order = {"file": file.path, "folder": str(folder)}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        arrived, since = -1, time.monotonic()
        while True:
            try:
                self._receive(0.2)
                return
            except queue.Empty:
                size = _size(self.temporary)
                if size != arrived:
                    arrived, since = size, time.monotonic()
                elif time.monotonic() - since > self.timeout:
                    self.hangs = True
                    raise UserError(
                        f"{self.name}: the download of {file.path} has stalled (no data for {self.timeout:g} s); "
                        "nothing was kept, try again"
                    ) from None

    def _receive(self, seconds: float) -> dict[str, Any]:
        line = self.answers.get(timeout=max(0.0, seconds))
        if not line:
            self.log.seek(0)
            last = self.log.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise UserError(f"{self.name}: W&B's client ended without an answer ({last or 'it was killed'}); try again")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder; files that vanish meanwhile don't count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total

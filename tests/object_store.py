"""Loopback object store: a folder served as S3 does, path-style, and as a web server, with latency and failures.

Runs in a process of its own: GDAL is opened under Python's lock, so that a thread of the test couldn't answer it. The
first part of a path is the bucket. Answers range requests, ListObjectsV2 and HEAD, and what writes objects.
"""

import argparse
import contextlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.object_store_writes import Writes, error

_ROOT = Path(__file__).parents[1]
LOG, CLEAR, REFUSE = "/-/log", "/-/clear", "/-/refuse"
"""Paths that return the requests since the last `CLEAR`, one a line, that forget them, and see `Store.refuse`."""
FAILURES = ("503", "reset", "short")
"""Kinds of failures: an error of the server, a connection that is reset, and half of an answer; of a request that
writes, no answer after it is done."""
SECRET, READ_ONLY = "secret", "readonly"
"""Buckets that may not be read, or not be written to."""


@dataclass(frozen=True)
class Store:
    """Running server.

    Attributes:
        place: Host and port.
    """

    place: str

    def requests(self) -> list[str]:
        """Return the requests since the last `clear`: status, method, path and range."""
        with urllib.request.urlopen(f"http://{self.place}{LOG}", timeout=10) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        return lines

    def failed(self) -> int:
        """Return the number of requests that failed by chance."""
        return sum(line.split()[0] in FAILURES for line in self.requests())

    def refuse(self, words: str) -> None:
        """Have all later writes fail whose path contains these words; none for an empty text."""
        urllib.request.urlopen(f"http://{self.place}{REFUSE}?{quote(words)}", timeout=10).close()

    def clear(self) -> None:
        """Forget the requests so far."""
        urllib.request.urlopen(f"http://{self.place}{CLEAR}", timeout=10).close()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which GDAL reads s3://BUCKET/... from this server, and repeats at once."""
        return {
            "AWS_S3_ENDPOINT": self.place,
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_NO_SIGN_REQUEST": "YES",
            "NO_PROXY": "127.0.0.1",
            "GDAL_HTTP_RETRY_DELAY": "0.01",
        }


@contextlib.contextmanager
def serve(folder: Path, latency: float = 0.0, failures: float = 0.0, seed: int = 0) -> Iterator[Store]:
    """Serve a folder of buckets on a free port of this machine.

    Args:
        folder: Folder whose folders are the buckets.
        latency: Time that each request waits, seconds.
        failures: Share of the requests that fail, 0 to 1.
        seed: Seed of the failures.
    """
    command = [
        sys.executable,
        "-m",
        "tests.object_store",
        str(folder.absolute()),
        str(latency),
        str(failures),
        str(seed),
    ]
    server = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield Store(f"127.0.0.1:{server.stdout.readline().strip()}")
    finally:
        server.kill()
        server.communicate()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    folder: Path
    latency: float
    failures: float
    random: random.Random
    lock = threading.Lock()
    seen: list[str] = []  # noqa: RUF012 - shared by all connections
    refused: list[str] = []  # noqa: RUF012 - the same
    writes: Writes

    def do_HEAD(self) -> None:
        self._respond(body=False)

    def do_GET(self) -> None:
        self._respond(body=True)

    def handle_expect_100(self) -> bool:
        """Ask for the content at once: a client waits a second for that."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def do_PUT(self) -> None:
        self._write()

    def do_POST(self) -> None:
        self._write()

    def do_DELETE(self) -> None:
        self._write()

    def _write(self) -> None:
        address = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        time.sleep(self.latency)
        with self.lock:
            failure = self.random.choice(FAILURES) if self.random.random() < self.failures else ""
        key = unquote(address.path).strip("/")
        if failure in ("503", "reset"):
            self._fail(failure, self.folder / key, body=True)
            return
        if self.refused and self.refused[-1] and self.refused[-1] in key:
            answer = error(500, "InternalError")
        elif key.partition("/")[0] in (SECRET, READ_ONLY):
            answer = error(403, "AccessDenied")
        else:
            answer = self.writes.respond(self.command, self.folder / key, address.query, dict(self.headers), content)
        if failure:
            self._fail("reset", self.folder / key, body=True)
            return
        self._send(answer.status, answer.content, body=True, more=answer.headers)

    def _respond(self, body: bool) -> None:
        address = urlsplit(self.path)
        if address.path == REFUSE:
            self.refused.append(unquote(address.query))
            self._send(200, b"", body)
            return
        if address.path in {LOG, CLEAR}:
            text = "\n".join(self.seen)
            if address.path == CLEAR:
                self.seen.clear()
            self._send(200, text.encode(), body)
            return
        time.sleep(self.latency)
        with self.lock:
            failure = self.random.choice(FAILURES) if self.random.random() < self.failures else ""
        query, path = parse_qs(address.query), self.folder / unquote(address.path).strip("/")
        bucket = self.folder / unquote(address.path).strip("/").partition("/")[0]
        if failure:
            self._fail(failure, path, body)
        elif bucket.name == SECRET:
            self._send(403, error(403, "AccessDenied").content, body)
        elif "uploads" in address.query.split("&"):
            self._send(200, self.writes.listed(bucket), body)
        elif not bucket.is_dir():
            self._send(404, error(404, "NoSuchBucket").content, body)
        elif {"delimiter", "prefix"} & set(query) or path.parent == self.folder:
            self._send(200, _listing(bucket, query), body)
        elif path.is_file() and path.resolve().is_relative_to(self.folder.resolve()):
            status, content, content_range = _part(path, self.headers.get("Range"))
            self._send(status, content, body, content_range, more=self.writes.headers(path))
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", body)

    def _send(
        self,
        status: int,
        content: bytes,
        body: bool,
        content_range: str = "",
        send: int | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        if not self.path.startswith("/-/"):
            self.seen.append(f"{status} {self.command} {self.path} {self.headers.get('Range', '')}")
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:send])

    def _fail(self, kind: str, path: Path, body: bool) -> None:
        if kind == "short" and body and path.is_file():
            status, content, content_range = _part(path, self.headers.get("Range"))
            self._send(status, content, body, content_range, send=len(content) // 2, more=self.writes.headers(path))
            self.seen[-1] = f"short{self.seen[-1].removeprefix(str(status))}"
            self.close_connection = True
        elif kind == "reset":
            self.seen.append(f"reset {self.command} {self.path} {self.headers.get('Range', '')}")
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self._send(503, b"<Error><Code>SlowDown</Code></Error>", body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


def _part(path: Path, asked: str | None) -> tuple[int, bytes, str]:
    """Return status, content and Content-Range of a range of a file."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if not asked:
            return 200, file.read(), ""
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or size), size - 1)
        if start >= size:
            return 416, b"", f"bytes */{size}"
        file.seek(start)
        return 206, file.read(stop - start + 1), f"bytes {start}-{stop}/{size}"


def _listing(bucket: Path, query: dict[str, list[str]]) -> bytes:
    """Return the objects of a bucket as ListObjects does, in pages."""
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    after = query.get("continuation-token", query.get("start-after", query.get("marker", [""])))[0]
    most = int(query.get("max-keys", ["1000"])[0])
    entries: dict[str, int | None] = {}
    for path in sorted(bucket.rglob("*")):
        key = path.relative_to(bucket).as_posix()
        if path.is_file() and key.startswith(prefix):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                entries[prefix + rest.partition(delimiter)[0] + delimiter] = None
            else:
                entries[key] = path.stat().st_size
    keys = [key for key in sorted(entries) if key > after]
    shown, more = keys[:most], len(keys) > most
    lines = [
        f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>"
        if (size := entries[key]) is None
        else f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
        for key in shown
    ]
    next_page = (
        # As in S3, the older way of asking gets a marker only where folders are asked for.
        (f"<NextMarker>{escape(shown[-1])}</NextMarker>" if delimiter else "")
        + f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>"
        if more
        else ""
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket.name}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount>"
        f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{next_page}{''.join(lines)}"
        "</ListBucketResult>"
    )
    return text.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: clients that leave are part of the tests."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until killed; print the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("latency", type=float)
    parser.add_argument("failures", type=float)
    parser.add_argument("seed", type=int)
    options = parser.parse_args(arguments)
    _Handler.folder, _Handler.latency, _Handler.failures = options.folder, options.latency, options.failures
    _Handler.random = random.Random(options.seed)
    _Handler.writes = Writes(options.folder)
    server = _Server(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

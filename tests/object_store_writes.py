"""Writing part of the loopback object store: objects, conditions, metadata and uploads in parts."""

import base64
import hashlib
import itertools
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

_METADATA = "x-amz-meta-"


@dataclass(frozen=True)
class Answer:
    """Answer of the server: status, content and headers."""

    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Upload:
    """Upload in parts that isn't complete."""

    path: Path
    metadata: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


def error(status: int, code: str) -> Answer:
    """Return an answer that says what is wrong."""
    return Answer(status, f"<Error><Code>{code}</Code><Message>{code} of the test</Message></Error>".encode())


class Writes:
    """Objects that were written.

    Args:
        folder: Folder of the buckets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects: dict[Path, tuple[str, dict[str, str]]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def headers(self, path: Path) -> dict[str, str]:
        """Return tag, time and metadata of an object."""
        status = path.stat()
        etag, metadata = self._objects.get(path, (f'"{status.st_mtime_ns}"', {}))
        return {"ETag": etag, "Last-Modified": formatdate(status.st_mtime, usegmt=True), **metadata}

    def listed(self, bucket: Path) -> bytes:
        """Return the uploads of a bucket that aren't complete."""
        lines = [
            f"<Upload><Key>{escape(each.path.relative_to(bucket).as_posix())}</Key><UploadId>{number}</UploadId></Upload>"
            for number, each in self._uploads.items()
            if each.path.is_relative_to(bucket)
        ]
        return f"<ListMultipartUploadsResult>{''.join(lines)}</ListMultipartUploadsResult>".encode()

    def respond(self, method: str, path: Path, query: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Carry out a request that writes."""
        asked = parse_qs(query, keep_blank_values=True)
        upload = asked.get("uploadId", [""])[0]
        with self._lock:
            if not (self._folder / path.relative_to(self._folder).parts[0]).is_dir():
                return error(404, "NoSuchBucket")
            if "Content-MD5" in headers and base64.b64decode(headers["Content-MD5"]) != hashlib.md5(content).digest():
                return error(400, "BadDigest")
            if upload and upload not in self._uploads:
                return error(404, "NoSuchUpload")
            if method == "POST" and "uploads" in asked:
                return self._begin(path, headers)
            if method == "POST":
                return self._complete(upload, headers, content)
            if method == "PUT" and upload:
                self._uploads[upload].parts[int(asked["partNumber"][0])] = content
                return Answer(200, b"", {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})
            if method == "PUT":
                etag = f'"{hashlib.md5(content).hexdigest()}"'
                return self._refused(path, headers) or self._store(path, content, etag, _metadata(headers))
            if upload:
                del self._uploads[upload]
            else:
                path.unlink(missing_ok=True)
                self._objects.pop(path, None)
            return Answer(204)

    def _begin(self, path: Path, headers: Mapping[str, str]) -> Answer:
        number = f"upload{next(self._numbers)}"
        self._uploads[number] = _Upload(path, _metadata(headers))
        return Answer(
            200,
            f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>".encode(),
        )

    def _complete(self, number: str, headers: Mapping[str, str], content: bytes) -> Answer:
        upload = self._uploads[number]
        wanted = [int(part) for part in re.findall(r"<PartNumber>(\d+)</PartNumber>", content.decode())]
        if refused := self._refused(upload.path, headers):
            return refused
        if wanted != sorted(upload.parts):
            return error(400, "InvalidPart")
        del self._uploads[number]
        digest = hashlib.md5(b"".join(hashlib.md5(upload.parts[part]).digest() for part in wanted)).hexdigest()
        etag = f'"{digest}-{len(wanted)}"'
        self._store(upload.path, b"".join(upload.parts[part] for part in wanted), etag, upload.metadata)
        text = f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>"
        return Answer(200, text.encode())

    def _refused(self, path: Path, headers: Mapping[str, str]) -> Answer | None:
        """Return an answer where the condition of a request isn't met."""
        if headers.get("If-None-Match") == "*" and path.exists():
            return error(412, "PreconditionFailed")
        if "If-Match" in headers and not path.exists():
            return error(404, "NoSuchKey")
        if "If-Match" in headers and self.headers(path)["ETag"] != headers["If-Match"]:
            return error(412, "PreconditionFailed")
        return None

    def _store(self, path: Path, content: bytes, etag: str, metadata: dict[str, str]) -> Answer:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".part{os.getpid()}"
        temporary.write_bytes(content)
        temporary.replace(path)
        self._objects[path] = etag, metadata
        return Answer(200, b"", {"ETag": etag})


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith(_METADATA)}

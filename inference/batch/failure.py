"""Failure of an attempt to map one image: its reason, and whether another attempt may succeed."""

import errno
import time
import traceback
from typing import Any

from inference.batch.bucket.store import StoreError
from inference.batch.job import Job, Outcome
from inference.batch.journal import FAILED
from inference.common.errors import UserError, first_line
from inference.common.paths import is_address
from inference.common.raster import Header, read_header
from inference.split.band_file import BandLost

_PASSING = {
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EIO", "ESTALE", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ENETUNREACH",
        "EHOSTUNREACH", "EAGAIN", "EBUSY", "EMFILE", "ENFILE", "EPIPE", "EREMOTEIO",
    )
    if hasattr(errno, name)
}  # fmt: skip
"""Errors of the system that may pass: of a disk that is full or busy, and of a network."""
_DISK = ("can't be written", "MiB are free")  # of messages about outputs
_LASTING_DISK = ("permission denied", "read-only", "not permitted")
_LASTING = ("404", "403", "401", "400", "nosuchkey", "nosuchbucket", "accessdenied", "not exist", "not recognized")
_UNREADABLE = ("can't be read", "can't be opened", "can't be reached")


def failed(job: Job, error: Exception, started: float, header: Header | None = None) -> Outcome:
    """Return the outcome of an attempt that has failed.

    Args:
        job: The job.
        error: The error.
        started: Time when the attempt began, by the monotonic clock.
        header: Header of the image; None if it isn't known.
    """
    if header is None and not is_address(job.source):
        try:
            header = read_header(job.source)
        except Exception:  # it is why the attempt has failed
            header = None
    internal = not isinstance(error, UserError)
    reason = f"internal error: {type(error).__name__}: {first_line(error)}" if internal else str(error)
    return Outcome(
        FAILED,
        "; ".join(reason.splitlines()),
        may_pass(error, job.source),
        time.monotonic() - started,
        {} if header is None else described(header),
        trace="".join(traceback.format_exception(error)) if internal else "",
    )


def may_pass(error: BaseException, source: str) -> bool:
    """Return True if an error may not occur again: a disk or a network failed, not the image.

    Args:
        error: The error.
        source: The image.
    """
    if isinstance(error, StoreError):
        return error.may_pass
    if isinstance(error, BandLost):
        return True
    text = str(error).replace(source, "")
    if any(words in text for words in _DISK):
        return not any(words in text.lower() for words in _LASTING_DISK)
    if is_address(source) and any(words in text for words in _UNREADABLE):
        return not any(words in text.lower() for words in _LASTING)
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in _PASSING:
            return True
        link = link.__cause__ or link.__context__
    return False


def described(header: Header) -> dict[str, Any]:
    """Return the size and the place of an image as the journal has it; also that of its map."""
    placed = header.georeferenced
    return {
        "height": header.height,
        "width": header.width,
        "crs": header.crs.to_string() if placed else None,
        "transform": list(header.transform)[:6] if placed else None,
    }

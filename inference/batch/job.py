"""Attempt to map one image as plain data: the job that a worker is given, and the outcome that it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inference.batch.bucket.upload import Upload
from inference.options import Options


@dataclass(frozen=True)
class Job:
    """Attempt to map one image.

    Attributes:
        source: File or address.
        target: Path of the map.
        options: Options of the image; `overwrite` decides whether its files may be replaced.
        attempt: Number of the attempt, from 1.
        upload: Where its files are uploaded to; None if they stay.
    """

    source: str
    target: Path
    options: Options
    attempt: int = 1
    upload: Upload | None = None

    @property
    def files(self) -> list[Path]:
        """Paths of all files that may be written, the map last."""
        options = self.options
        given = [path for path in (options.probabilities, options.polygons, options.table) if path is not None]
        style = [self.target.with_suffix(".qml")] if options.qgis_style else []
        return [*map(Path, given), *style, self.target]

    def below(self, folder: Path) -> "Job":
        """Return the job with all files below another folder than that of its upload."""
        assert self.upload is not None
        before = self.upload.folder
        moved: dict[str, Any] = {
            name: folder / Path(path).relative_to(before)
            for name in ("probabilities", "polygons", "table")
            if (path := getattr(self.options, name)) is not None
        }
        target = folder / self.target.relative_to(before)
        return replace(
            self, target=target, options=replace(self.options, **moved), upload=replace(self.upload, folder=folder)
        )


@dataclass(frozen=True)
class Outcome:
    """Outcome of an attempt.

    Attributes:
        state: DONE or FAILED.
        reason: Reason of a failure, one line.
        may_pass: True if the same attempt may succeed later: a network or a disk failed.
        seconds: Time that it took.
        record: What the journal says of the map or of the image, see `inference.batch.failure.described`.
        notices: Notices for the user, a line each.
        trace: Traceback of an internal error; empty for others.
        uploaded: Names of the files that were uploaded.
        upload_failed: True if the image was mapped, but its files could not be uploaded.
    """

    state: str
    reason: str = ""
    may_pass: bool = False
    seconds: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    trace: str = ""
    uploaded: tuple[str, ...] = ()
    upload_failed: bool = False

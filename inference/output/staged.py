"""Output of one file, or of a file with companions (.shp), written in a temporary folder until it is whole."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from inference.common.files import publish, temporary_path, write_errors

_PLAIN = "file"


class StagedFile:
    """Output that appears under its name when it is whole; whatever happens, the target is the old file or the new one.

    Args:
        path: Target.
        overwrite: True if it may replace an existing file.
        companions: Names of files that belong to an earlier output of this name, and are removed when it is replaced.

    Attributes:
        path: Target.
        file: File to write; others beside it are published with it.

    Raises:
        UserError: The temporary folder can't be made.
    """

    def __init__(self, path: Path, overwrite: bool, companions: Sequence[str] = ()) -> None:
        self.path, self._overwrite, self._companions = path, overwrite, companions
        self._folder = temporary_path(path)
        # A plain name: drivers stumble over suffixes in capitals, line breaks, and signs that addresses have.
        self.file = self._folder / f"{_PLAIN}{path.suffix.lower()}"
        self._claimed: list[Path] = []
        with self.failing():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()

    def write_text(self, text: str) -> None:
        """Write text as the content of the file, in UTF-8."""
        with self.failing():
            self.file.write_text(text, encoding="utf-8", newline="\n")

    def complete(self) -> None:
        """Complete the file; it keeps its temporary name."""

    def publish(self) -> None:
        """Give the files their names; existing ones are replaced, or removed, only if that is allowed.

        Raises:
            UserError: One can't be renamed, or another command has written a file of this name in the meantime.
        """
        files = sorted(self._folder.iterdir(), key=lambda found: found == self.file)
        with self.failing():
            for found in files:  # the target last: where it exists, the others do too
                target = self._target(found)
                if publish(found, target, self._overwrite):
                    self._claimed.append(target)
            if self._overwrite:
                for name in {self.path.name, *self._companions} - {self._target(found).name for found in files}:
                    self.path.with_name(name).unlink(missing_ok=True)
            self._folder.rmdir()

    def _target(self, found: Path) -> Path:
        """Return the final path of a file."""
        if found == self.file:
            return self.path
        return self.path.with_name(self.path.stem + found.name.removeprefix(_PLAIN))

    def discard(self) -> None:
        """Remove the temporary files, and what was published under a name that was free."""
        for path in self._claimed:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            shutil.rmtree(self._folder)

    def failing(self) -> AbstractContextManager[None]:
        """Convert errors of the system into a `UserError`."""
        return write_errors(self.path)

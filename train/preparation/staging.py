"""Files of a data set that appear all at once: written to a folder beside their places, and moved there at the end."""

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from inference.common.errors import UserError
from inference.common.files import process_alive, replace
from inference.common.paths import shown_path
from inference.common.targets import make_folder

_PREFIX = ".preparing-"


class Staging:
    """Folder in which a data set is written until it is whole; a context manager.

    If the work fails or is stopped, the data set is as it was before, and a folder that was made for it is gone.

    Args:
        target: Folder of the data set; None to write nothing, in which case the staging folder lies elsewhere.
        option: Key that names it, for error messages.

    Attributes:
        folder: Staging folder.
    """

    def __init__(self, target: Path | None, option: str) -> None:
        self._target, self._option = target, option
        self._made: list[Path] = []

    def __enter__(self) -> "Staging":
        if self._target is None:
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX.strip(".")))
            return self
        self._made = [folder for folder in (self._target, *self._target.parents) if not folder.exists()]
        try:
            make_folder(self._target, self._option)
            _clear_stale(self._target)
            self.folder = self._target / f"{_PREFIX}{platform.node()}-{os.getpid()}"
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
        except BaseException:
            self._remove_made()
            raise
        return self

    def commit(self) -> list[str]:
        """Move all files to their places, those of subfolders first; return the names of those that changed."""
        assert self._target is not None
        changed = []
        files = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        for name in sorted(files, key=lambda name: (-len(name.parts), str(name))):
            place = self._target / name
            place.parent.mkdir(exist_ok=True)
            if place.is_file() and _same(self.folder / name, place):
                continue
            try:
                replace(self.folder / name, place)
            except OSError as error:
                raise UserError(
                    f"{shown_path(place)}: can't be written: {error.strerror} (close it in other programs, or choose "
                    f"another {self._option})"
                ) from None
            changed.append(name.as_posix())
        self._made = []
        return changed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._remove_made()

    def _remove_made(self) -> None:
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:  # another program has put something there
                return


def _same(one: Path, other: Path) -> bool:
    """Return True if two files have the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while part := first.read(2**20):
            if part != second.read(2**20):
                return False
    return True


def _clear_stale(folder: Path) -> None:
    """Remove the staging folders of killed processes of this machine."""
    for found in folder.glob(f"{_PREFIX}*"):
        match = re.fullmatch(rf"{re.escape(_PREFIX)}{re.escape(platform.node())}-(\d+)", found.name)
        if match is not None and not process_alive(int(match[1])):
            shutil.rmtree(found, ignore_errors=True)

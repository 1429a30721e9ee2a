"""Files of a data set that appear all at once: written to a folder beside their places, and moved there at the end."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import replace
from inference.common.paths import shown_path
from inference.common.signals import finishing
from inference.common.staging import StagingFolder


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
        self._context = ExitStack()

    def __enter__(self) -> "Staging":
        if self._target is None:
            temporary = tempfile.TemporaryDirectory(prefix="preparing-", ignore_cleanup_errors=True)
            self.folder = Path(self._context.enter_context(temporary))
        else:
            self.folder = self._context.enter_context(StagingFolder(self._target, self._option, "prepared")).folder
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def keep(self, place: Path, name: str) -> None:
        """Let a file that stays as it is be found in the staging folder too, under its name there."""
        try:
            (self.folder / name).symlink_to(place.resolve())
        except OSError:  # a file system without links
            shutil.copyfile(place, self.folder / name)

    def commit(self) -> list[str]:
        """Move all files to their places, those of subfolders first; return the names of those that changed."""
        assert self._target is not None
        files = [
            path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()
        ]
        files.sort(key=lambda name: (-len(name.parts), str(name)))
        changed = [name for name in files if not _same(self.folder / name, self._target / name)]
        with finishing():
            for name in changed:
                place = self._target / name
                place.parent.mkdir(exist_ok=True)
                try:
                    replace(self.folder / name, place)
                except OSError as error:
                    raise UserError(
                        f"{shown_path(place)}: can't be written: {error.strerror} (close it in other programs, or "
                        f"choose another {self._option})"
                    ) from None
        return [name.as_posix() for name in changed]


def _same(one: Path, other: Path) -> bool:
    """Return True if both files are there and have the same bytes."""
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while part := first.read(2**20):
            if part != second.read(2**20):
                return False
    return True

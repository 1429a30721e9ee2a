"""Files of a data set that appear all at once: written to a folder beside their places, and moved there at the end."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from inference.common.errors import UserError
from inference.common.files import replace, temporary_path
from inference.common.paths import shown_path
from inference.common.targets import make_folder


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
            self.folder = Path(tempfile.mkdtemp(prefix="preparing-"))
            return self
        self._made = [folder for folder in (self._target, *self._target.parents) if not folder.exists()]
        try:
            make_folder(self._target, self._option)
            self.folder = temporary_path(self._target / "prepared")
            self.folder.mkdir()
        except BaseException:
            self._remove_made()
            raise
        return self

    def keep(self, place: Path, name: str) -> None:
        """Let a file that stays as it is be found in the staging folder too, under its name there."""
        try:
            (self.folder / name).symlink_to(place.resolve())
        except OSError:  # a file system without links
            shutil.copyfile(place, self.folder / name)

    def commit(self) -> list[str]:
        """Move all files to their places, those of subfolders first; return the names of those that changed."""
        assert self._target is not None
        changed = []
        files = [
            path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()
        ]
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

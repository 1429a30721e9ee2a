"""Folder beside the places of several files, in which they are written until all are whole."""

import contextlib
import shutil
from pathlib import Path

from inference.common.files import temporary_path
from inference.common.targets import make_folder


class StagingFolder:
    """Temporary folder within a target folder; a context manager.

    On leaving it the folder is gone, and so are the folders that were made for the target and have stayed empty.

    Args:
        target: Folder that the files will be moved to; it may exist.
        option: Option or key that names it, for error messages.
        name: Name of the temporary folder.

    Attributes:
        folder: The temporary folder.

    Raises:
        UserError: The target can't be made or written to.
    """

    def __init__(self, target: Path, option: str, name: str) -> None:
        self.target = target
        self.folder = temporary_path(target / name)
        self._option = option
        self._made: list[Path] = []

    def __enter__(self) -> "StagingFolder":
        self._made = [folder for folder in (self.target, *self.target.parents) if not folder.exists()]
        try:
            make_folder(self.target, self._option)
            self.folder.mkdir()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):  # not empty, or another program has removed it
                folder.rmdir()

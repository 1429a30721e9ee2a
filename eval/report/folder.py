"""Folder of a report, which holds a whole report or none."""

import contextlib
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.files import write_atomically
from inference.common.raster import GDAL_ERRORS, open_raster
from inference.common.signals import finishing
from inference.common.staging import StagingFolder
from inference.common.targets import check_target
from inference.common.text import print_line
from inference.output.geotiff import SIDECARS
from inference.output.map import SOFTWARE

FILES = ("report.html", "scores.json", "per_image.csv")
"""Names of the files of a report."""
MAPS = ("masks", "baseline-masks")
"""Names of the folders of maps in a report."""
PANELS = "panels"
"""Name of the folder of pictures in a report."""


class ReportFolder:
    """Context in which a report is written to a temporary folder, and takes the place of an earlier one when whole.

    On leaving it without `publish`, an earlier report is as it was, and folders made for a new one are gone.

    Args:
        path: Folder of the report; it may exist.
        inputs: Files that the evaluation reads, each with what it is; none of them is replaced.

    Attributes:
        path: The same.
        staging: Temporary folder within it to write to.

    Raises:
        UserError: The folder can't be written to, or holds what must stay: an input, or maps that aren't those of an
            earlier evaluation.
    """

    def __init__(self, path: Path, inputs: Mapping[str | Path, str] | None = None) -> None:
        self.path = path
        self.inputs = inputs
        self._staging = StagingFolder(path, "--out", "report")
        self.staging = self._staging.folder
        self._published = False

    def __enter__(self) -> "ReportFolder":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._staging)
            self._check()
            stack.pop_all()  # from here on `__exit__` clears the folder
        return self

    def _check(self) -> None:
        """Check that nothing in the folder is replaced that must stay."""
        for name in FILES:
            check_target(self.path / name, "--out", overwrite=True, inputs=self.inputs)
        for name in (*MAPS, PANELS):
            if (folder := self.path / name).exists() and not folder.is_dir():
                raise UserError(f"{folder}: is not a folder, and is kept (choose another --out)")
        if foreign := [path for path in self._maps() if not _is_map(path)]:
            raise UserError(f"{foreign[0]}: is not a map of an earlier evaluation, and is kept (choose another --out)")

    def __exit__(self, *_: Any) -> None:
        self._staging.__exit__()
        if not self._published and (self.path / FILES[0]).exists():
            # It must not be mistaken for that of the evaluation that has failed.
            print_line(f"notice: {self.path}: keeps the report of the earlier evaluation")

    def publish(self) -> list[Path]:
        """Replace an earlier report; return the paths of the files, and of the folder of the model's maps."""
        with finishing():
            panels = (self.path / PANELS).glob("[0-9][0-9]-*.png")
            for path in [*self._maps(), *(path for path in panels if path.is_file())]:
                path.unlink(missing_ok=True)
                for ending in SIDECARS:
                    path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
            for name in MAPS:
                with contextlib.suppress(OSError):  # not there, or not empty: another's files stay
                    (self.path / name).rmdir()
            for path in sorted(self.staging.rglob("*")):
                target = self.path / path.relative_to(self.staging)
                if path.is_dir():
                    target.mkdir(exist_ok=True)
                elif target.is_symlink():  # the link stays
                    write_atomically(target, partial(shutil.copyfile, path))
                else:
                    shutil.move(path, target)
            self._published = True
        return [*(self.path / name for name in FILES), self.path / MAPS[0]]

    def _maps(self) -> list[Path]:
        return [path for name in MAPS for path in (self.path / name).glob("*.tif")]


def _is_map(path: Path) -> bool:
    """Return True for a map that this software wrote."""
    try:
        with open_raster(path) as file:
            return bool(file.tags().get("TIFFTAG_SOFTWARE") == SOFTWARE)
    except GDAL_ERRORS:
        return False

"""Arguments of a batch: all checks that can be made before an image is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.batch.items import Item, check_inputs, find_items
from inference.batch.layout import INDEX, JOURNAL, MOSAIC, SITES, SUMMARY, Layout, check_names, make_layout
from inference.batch.settings import Settings, read_settings
from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path, user_path
from inference.common.targets import TIFF_SUFFIXES
from inference.options import Options

MOST_RETRIES = 100


@dataclass
class Batch:
    """Batch whose arguments have been checked.

    Attributes:
        folder: Folder of the maps.
        items: All images.
        options: Options of the user.
        layout: Names of the files.
        settings: What decides the content of the maps.
        retries: Number of further attempts after a failure that may pass.
    """

    folder: Path
    items: Sequence[Item]
    options: Options
    layout: Layout
    settings: Settings
    retries: int


def make_batch(inputs: Sequence[str], folder: str | Path, options: Options, retries: int = 2) -> Batch:
    """Check the arguments of a batch and find its images; writes nothing.

    Raises:
        UserError: An argument is invalid.
    """
    options.check()
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries: {retries} (allowed: 0 to {MOST_RETRIES})")
    path = _folder(folder)
    layout = make_layout(path, options)
    settings = read_settings(options, layout.templates)
    if layout.templates.keys() & {"polygons", "table"} or layout.style:
        from inference.common.vector import vector_libraries

        vector_libraries()
    items = find_items(inputs, path)
    check_inputs(items)
    check_names(layout, items)
    return Batch(path, items, options, layout, settings, retries)


def _folder(folder: str | Path) -> Path:
    text = str(folder)
    if is_address(text):
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is an address (name a folder of this machine, and copy it there afterwards)"
        )
    path = user_path(folder, "OUT_DIR")
    if not path.is_dir() and path.suffix.lower() in TIFF_SUFFIXES:
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is the name of a file (several images are mapped into a folder, which is the "
            "last argument)"
        )
    if path.exists() and not path.is_dir():
        raise UserError(f"OUT_DIR: {shown_path(text)} is a file, not a folder (choose another)")
    return path


def check_foreign(batch: Batch) -> None:
    """Check that the files about all maps belong to a batch, where they exist."""
    if batch.options.overwrite or (batch.folder / JOURNAL).exists():
        return
    for name in (SUMMARY, INDEX, MOSAIC, *([SITES] if batch.options.table is not None else [])):
        if (batch.folder / name).exists():
            raise UserError(
                f"{shown_path(batch.folder / name)}: exists already and is of no batch (replace it with --overwrite, "
                "or choose another OUT_DIR)"
            )

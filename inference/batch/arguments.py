"""Arguments of a batch: all checks that can be made before an image is opened."""

import hashlib
import importlib.util
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.batch.bucket.client import INSTALL
from inference.batch.items import Item, check_inputs, find_items
from inference.batch.layout import INDEX, JOURNAL, MOSAIC, SITES, SUMMARY, Layout, check_keys, check_names, make_layout
from inference.batch.place import Place
from inference.batch.settings import Settings, read_settings
from inference.common.errors import UserError
from inference.common.files import temporary_path
from inference.common.paths import is_address, shown_path, user_path
from inference.common.remote import store_path
from inference.common.targets import TIFF_SUFFIXES
from inference.options import Options

MOST_RETRIES = 100
S3 = "s3://"
_VSIS3 = "/vsis3/"
_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{1,254}")


@dataclass
class Batch:
    """Batch whose arguments have been checked.

    Attributes:
        folder: Folder of the maps; where they go to a bucket, the local folder in which they are made.
        items: All images.
        options: Options of the user.
        layout: Names of the files.
        settings: What decides the content of the maps.
        retries: Number of further attempts after a failure that may pass.
        address: Address of the folder of the maps in a bucket, s3://BUCKET/PREFIX; empty for a folder of this machine.
    """

    folder: Path
    items: Sequence[Item]
    options: Options
    layout: Layout
    settings: Settings
    retries: int
    address: str = ""

    @property
    def bucket(self) -> tuple[str, str]:
        """Bucket and prefix of the address."""
        bucket, _, prefix = self.address.removeprefix(S3).partition("/")
        return bucket, prefix


def make_batch(
    inputs: Sequence[str],
    folder: str | Path,
    options: Options,
    retries: int = 2,
    work_dir: str | Path | None = None,
) -> Batch:
    """Check the arguments of a batch and find its images; writes nothing.

    Args:
        inputs: Files, folders, patterns, manifests and prefixes.
        folder: Folder of the maps, or its address in a bucket, s3://BUCKET/PREFIX.
        options: Options of the maps.
        retries: Number of further attempts after a failure that may pass.
        work_dir: Folder in which maps that go to a bucket are made; None for the system's folder of temporary files.

    Raises:
        UserError: An argument is invalid.
    """
    options.check()
    if not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"--retries: {retries} (allowed: 0 to {MOST_RETRIES})")
    address = _address(str(folder))
    if work_dir is not None and not address:
        raise UserError("--work-dir: is for maps that go to a bucket, s3://BUCKET/FOLDER (leave it out)")
    path = _work_folder(address, work_dir) if address else _folder(folder)
    layout = make_layout(path, options)
    settings = read_settings(options, layout.templates)
    if layout.templates.keys() & {"polygons", "table"} or layout.style:
        from inference.common.vector import vector_libraries

        vector_libraries()
    items = find_items(inputs, path, address)
    check_inputs(items)
    check_names(layout, items)
    if address:
        check_keys(layout, items, address)
    return Batch(path, items, options, layout, settings, retries, address)


def _address(text: str) -> str:
    """Return the address of a folder in a bucket; empty for a folder of this machine.

    Raises:
        UserError: It is an address of another kind, or of a file.
    """
    if not is_address(text):
        return ""
    stored = store_path(text) or ""
    bucket, _, prefix = stored.removeprefix(_VSIS3).partition("/")
    if not stored.startswith(_VSIS3):
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is an address that can't be written to (allowed: s3://BUCKET/FOLDER, or a "
            "folder of this machine)"
        )
    prefix = prefix.strip("/")
    parts = prefix.split("/") if prefix else []
    if not _BUCKET.fullmatch(bucket) or not prefix.isprintable() or {"", ".", ".."} & set(parts):
        raise UserError(f"OUT_DIR: {shown_path(text)} names no folder in a bucket (write s3://BUCKET/FOLDER)")
    if Path(prefix).suffix.lower() in TIFF_SUFFIXES:
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is the name of a file (in a bucket, maps go to a folder, which is the last "
            "argument)"
        )
    if importlib.util.find_spec("boto3") is None:
        raise UserError(f"OUT_DIR: {shown_path(text)}: {INSTALL}")
    return f"{S3}{bucket}/{prefix}".rstrip("/")


def _work_folder(address: str, given: str | Path | None) -> Path:
    """Return the path of the local folder for a folder in a bucket."""
    parent = Path(tempfile.gettempdir()) if given is None else user_path(given, "--work-dir")
    name = f"maps-{hashlib.sha256(address.encode()).hexdigest()[:16]}"
    return temporary_path((parent / name).absolute())


def _folder(folder: str | Path) -> Path:
    text = str(folder)
    path = user_path(folder, "OUT_DIR")
    if not path.is_dir() and path.suffix.lower() in TIFF_SUFFIXES:
        raise UserError(
            f"OUT_DIR: {shown_path(text)} is the name of a file (several images are mapped into a folder, which is the "
            "last argument)"
        )
    if path.exists() and not path.is_dir():
        raise UserError(f"OUT_DIR: {shown_path(text)} is a file, not a folder (choose another)")
    return path


def check_foreign(batch: Batch, place: Place) -> None:
    """Check that the files about all maps belong to a batch, where they exist."""
    if batch.options.overwrite or place.exists(JOURNAL):
        return
    for name in (SUMMARY, INDEX, MOSAIC, *([SITES] if batch.options.table is not None else [])):
        if place.exists(name):
            raise UserError(
                f"{place.shown}/{name}: exists already and is of no batch (replace it with --overwrite, "
                "or choose another OUT_DIR)"
            )

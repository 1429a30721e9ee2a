"""Upload of the files of an image, by whatever process has mapped it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from inference.batch.bucket.place import BATCH
from inference.batch.bucket.store import Store, Taken

_SETTINGS = ("AWS_", "GDAL_", "CURL_")  # beginnings of variables that decide where requests go


@dataclass(frozen=True)
class Upload:
    """Destination of the files of an image.

    Attributes:
        bucket: Name of the bucket.
        prefix: Key of the folder of the batch.
        batch: Number of the batch.
        folder: Folder of this machine that stands for the folder in the bucket.
    """

    bucket: str
    prefix: str
    batch: str
    folder: Path


def store_of(bucket: str, prefix: str) -> Store:
    """Return the store of a folder, one for all images of a process.

    Raises:
        UserError: boto3 isn't installed, or a setting is invalid.
    """
    return _store(bucket, prefix, tuple(sorted(item for item in os.environ.items() if item[0].startswith(_SETTINGS))))


@lru_cache(maxsize=8)
def _store(bucket: str, prefix: str, settings: tuple[tuple[str, str], ...]) -> Store:
    return Store(bucket, prefix)


def upload_files(upload: Upload, files: Sequence[Path], overwrite: bool) -> tuple[str, ...]:
    """Upload files in their order and return their names.

    Args:
        upload: Where they go.
        files: Files below the folder of `upload`.
        overwrite: True if objects may be replaced that aren't the batch's own.

    Raises:
        StoreError: One can't be written, or would replace an object that isn't the batch's own.
    """
    store = store_of(upload.bucket, upload.prefix)
    names = []
    for path in files:
        name = path.relative_to(upload.folder).as_posix()
        metadata = {BATCH: upload.batch}
        try:
            store.put(name, path, metadata, only=None if overwrite else "")
        except Taken:
            found = store.find(name)  # what an earlier attempt has left may be replaced
            if found is None or found.metadata.get(BATCH) != upload.batch:
                raise
            store.put(name, path, metadata, only=found.etag)
        names.append(name)
    return tuple(names)

"""Batch that is being written to a bucket: the lock, the journal, the local folder, and files about all maps."""

import contextlib
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inference.batch.arguments import Batch, check_foreign
from inference.batch.bucket.journal import StoredJournal
from inference.batch.bucket.lock import Lock
from inference.batch.bucket.place import BATCH, StoredFolder
from inference.batch.bucket.store import Store
from inference.batch.bucket.upload import Upload, store_of
from inference.batch.journal import Record
from inference.batch.layout import JOURNAL, MOSAIC
from inference.batch.session import Session
from inference.common.errors import UserError
from inference.common.files import clear_temporaries
from inference.common.paths import path_within
from inference.common.remote import check_reachable
from inference.common.targets import make_folder
from inference.common.text import print_line

_READERS = 8


@dataclass
class StoredSession(Session):
    """Batch that is being written to a bucket.

    Attributes:
        folder: Local folder.
        store: Folder in the bucket.
    """

    folder: Path = Path()
    store: Store | None = None

    def announce(self, lines: Sequence[Record]) -> None:
        """Have the journal in the bucket say that maps which are done will be made anew.

        The line that an attempt writes may get there later than the files of the attempt. If the command is killed in
        between, the journal must not say that files of this attempt are those of the earlier one.
        """
        if lines:
            for line in lines:
                self.journal.append(line)
            assert isinstance(self.journal, StoredJournal)
            self.journal.upload()

    def fetch(self, names: Iterable[str]) -> None:
        """Download files into the local folder; one that isn't there stays away."""
        assert self.store is not None
        store = self.store

        def load(name: str) -> None:
            try:
                path = path_within(self.folder, name, JOURNAL)
            except UserError:  # said where the table is read
                return
            if (found := store.read(name)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(found.content)

        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(load, names))

    def publish(self, paths: Sequence[Path]) -> list[str]:
        """Upload files about all maps, and return their addresses; an earlier mosaic that isn't one now is removed."""
        assert self.store is not None
        assert self.upload is not None
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        for name, path in zip(names, paths, strict=True):
            self.store.put(name, path, {BATCH: self.upload.batch})
        if MOSAIC not in names and self.place.exists(MOSAIC):
            self.store.delete(MOSAIC)
        return [f"{self.store.address}/{name}" for name in names]


def look(batch: Batch) -> StoredFolder:
    """Return what is in the folder of a batch; writes nothing.

    Raises:
        UserError: The bucket can't be reached or listed.
    """
    check_reachable(batch.address, "or choose a folder of this machine")
    folder = StoredFolder(store_of(*batch.bucket))
    folder.read()
    return folder


@contextlib.contextmanager
def open_bucket(batch: Batch) -> Iterator[StoredSession]:
    """Open the place of a batch for writing, which shows whether that is allowed.

    Raises:
        UserError: It can't be written to, another batch writes to it, or its journal is invalid.
    """
    place = look(batch)
    check_foreign(batch, place)
    work = make_folder(batch.folder.parent, "--work-dir")
    with Lock(place.store, print_line) as lock:
        place.read()  # another batch may have ended meanwhile
        check_foreign(batch, place)
        place.store.abandon_uploads({name for item in batch.items for name in batch.layout.files(item)})
        clear_temporaries(work, batch.folder.name.split(".")[0])
        with _working_folder(batch.folder):
            (batch.folder / JOURNAL).write_bytes(b"" if place.journal is None else place.journal.content)
            number = place.batch or uuid.uuid4().hex
            etag = "" if place.journal is None else place.journal.etag
            upload = Upload(*batch.bucket, number, batch.folder)
            try:
                journal = StoredJournal(batch.folder / JOURNAL, place.store, number, etag, lock)
            except UserError as error:
                raise UserError(str(error).replace(str(batch.folder), batch.address)) from None
            with journal:
                if not place.batch:  # before the first map, so that it is known as the batch's own
                    journal.upload()
                session = StoredSession(place, journal, upload, batch.folder, place.store)
                if not place.store.conditional:
                    print_line(
                        f"{batch.address}: the server has no conditional requests; start one batch at a time in this "
                        "folder"
                    )
                yield session


@contextlib.contextmanager
def _working_folder(path: Path) -> Iterator[None]:
    """Make the local folder of a batch, and remove it on leaving."""
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(f"{path}: can't be made: {error.strerror} (choose another --work-dir)") from None
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)

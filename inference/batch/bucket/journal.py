"""Journal of a batch in a bucket: appended and synced on this machine, and uploaded as a whole now and then."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.batch.bucket.lock import Lock
from inference.batch.bucket.place import BATCH
from inference.batch.bucket.store import Store, StoreError, Taken
from inference.batch.journal import Journal
from inference.batch.layout import JOURNAL
from inference.common.text import print_line

UPLOAD_SECONDS = 10.0
"""Least time between two uploads."""
_SHARE = 0.05  # of the time of a batch that uploads of its journal take at most


class StoredJournal(Journal):
    """Journal that is open for writing; a context manager. It is uploaded on leaving, also after an error.

    Args:
        path: Its file on this machine, which holds what the bucket has.
        store: Folder in the bucket.
        batch: Number of the batch.
        etag: Tag of the journal in the bucket; empty if it has none.
        lock: Lock of the folder.

    Raises:
        UserError: A line is invalid, or it can't be read or written.
    """

    def __init__(self, path: Path, store: Store, batch: str, etag: str, lock: Lock) -> None:
        super().__init__(path)
        self._store, self._batch, self._etag, self._held = store, batch, etag, lock
        self._changed = False
        self._failed = False
        self._due = time.monotonic() + UPLOAD_SECONDS

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line, which the disk holds when this returns; the bucket may have it later.

        Raises:
            UserError: It can't be written, or another batch has taken over the folder.
        """
        super().append(record)
        self._changed = True
        self._held.check()
        if time.monotonic() >= self._due:
            try:
                self.upload()
            except StoreError as error:
                if error.for_all or isinstance(error, Taken):
                    raise
                if not self._failed:
                    print_line(f"{error} (it will be uploaded later)")
                self._failed = True
                self._due = time.monotonic() + UPLOAD_SECONDS

    def upload(self) -> None:
        """Upload the journal.

        Raises:
            StoreError: It can't be written, or another batch has written it.
        """
        began = time.monotonic()
        self._etag = self._store.put(JOURNAL, self.path, {BATCH: self._batch}, only=self._etag)
        self._changed = False
        now = time.monotonic()
        self._due = now + max(UPLOAD_SECONDS, (now - began) / _SHARE)

    def __exit__(self, *error: object) -> None:
        try:
            if self._changed:
                self._held.check()
                self.upload()
        except StoreError as failure:
            if error[0] is None:
                raise
            print_line(f"{failure} (images that were mapped since its last upload will be mapped again)")
        finally:
            super().__exit__(*error)

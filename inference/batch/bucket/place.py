"""Folder of a batch in a bucket, listed once when the batch is started."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from inference.batch.bucket.store import Found, Store
from inference.batch.layout import JOURNAL

BATCH = "batch"
"""Key of the metadata of each object of a batch: the number of the batch, which its journal has, too."""
LOCK = "batch.lock"
"""Object that exists while a batch writes to the folder."""
_ASKERS = 16


@dataclass
class StoredFolder:
    """Folder in a bucket.

    Attributes:
        store: The folder.
        names: Names of its objects, but for the lock.
        journal: Its journal; None if there is none.
    """

    store: Store
    names: set[str] = field(default_factory=set)
    journal: Found | None = None

    @property
    def shown(self) -> str:
        """Its address."""
        return self.store.address

    @property
    def batch(self) -> str:
        """Number of the batch that has written here; empty if it isn't known."""
        return "" if self.journal is None else self.journal.metadata.get(BATCH, "")

    def read(self) -> None:
        """List the folder and read its journal.

        Raises:
            UserError: That isn't possible.
        """
        self.names = set(self.store.list_names()) - {LOCK}
        self.journal = self.store.read(JOURNAL) if JOURNAL in self.names else None

    def exists(self, name: str) -> bool:
        """Return True if there was an object of this name, or the batch has written one."""
        return name in self.names

    def own(self, names: Iterable[str]) -> set[str]:
        """Return those of existing objects that the batch has written: their metadata has its number."""
        wanted = list(names)
        if not self.batch or not wanted:
            return set()
        with ThreadPoolExecutor(_ASKERS) as pool:
            found = list(pool.map(self.store.find, wanted))
        pairs = zip(wanted, found, strict=True)
        return {name for name, each in pairs if each is not None and each.metadata.get(BATCH) == self.batch}

    def add(self, names: Iterable[str]) -> None:
        """Count objects as existing that were written."""
        self.names.update(names)

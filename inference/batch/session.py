"""Batch that is being written: its place, its journal, and what is done with files that are finished."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inference.batch.arguments import Batch, check_foreign
from inference.batch.bucket.upload import Upload
from inference.batch.journal import Journal, Record
from inference.batch.layout import JOURNAL
from inference.batch.place import Folder, Place
from inference.common.targets import make_folder


@dataclass
class Session:
    """Batch that is being written to a folder of this machine.

    Attributes:
        place: Place of its files.
        journal: Its journal.
        upload: Where the files of an image are uploaded to; None if they stay.
    """

    place: Place
    journal: Journal
    upload: Upload | None = None

    def announce(self, lines: Sequence[Record]) -> None:
        """Have the journal say that maps which are done will be made anew; here each attempt says so when it starts."""

    def fetch(self, names: Iterable[str]) -> None:
        """Bring files into the local folder; here they are there."""

    def publish(self, paths: Sequence[Path]) -> list[str]:
        """Give finished files about all maps to the user, and return their paths or addresses."""
        return list(map(str, paths))


@contextmanager
def open_session(batch: Batch) -> Iterator[Session]:
    """Open the place of a batch for writing.

    Raises:
        UserError: It can't be written to, another batch writes to it, or its journal is invalid.
    """
    if batch.address:
        from inference.batch.bucket.session import open_bucket

        with open_bucket(batch) as stored:
            yield stored
        return
    place = Folder(batch.folder)
    check_foreign(batch, place)
    make_folder(batch.folder, "OUT_DIR")
    with Journal(batch.folder / JOURNAL) as journal:
        yield Session(place, journal)

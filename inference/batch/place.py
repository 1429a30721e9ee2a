"""Place of the files of a batch: a folder of this machine, or one in a bucket."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inference.common.paths import shown_path


class Place(Protocol):
    """Place that the files of a batch are in, under names below it."""

    @property
    def shown(self) -> str:
        """Path or address, for messages."""

    def exists(self, name: str) -> bool:
        """Return True if there is a file of this name."""

    def own(self, names: Iterable[str]) -> set[str]:
        """Return those of existing files that are known to be of the batch, beside what its journal says."""

    def add(self, names: Iterable[str]) -> None:
        """Count files as existing that were written."""


@dataclass(frozen=True)
class Folder:
    """Folder of this machine.

    Attributes:
        path: Its path.
    """

    path: Path

    @property
    def shown(self) -> str:
        """Its path, for messages."""
        return shown_path(self.path)

    def exists(self, name: str) -> bool:
        """Return True if there is a file of this name."""
        return (self.path / name).exists()

    def own(self, names: Iterable[str]) -> set[str]:
        """Return nothing: the journal says all."""
        return set()

    def add(self, names: Iterable[str]) -> None:
        """Do nothing: the folder itself is asked."""

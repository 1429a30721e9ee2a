"""Problem in a config, and access to plain data by path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from train.configs.document import KeyPath


@dataclass(frozen=True)
class Problem:
    """Problem that the user has to fix.

    Attributes:
        message: Text that says what is wrong and what is allowed, or a function that returns it, where it takes long to
            compute and may not be shown.
        paths: Path of the wrong value, then those of what it clashes with.
        of_key: True where the key itself is wrong, not its value.
    """

    message: str | Callable[[], str]
    paths: tuple[KeyPath, ...]
    of_key: bool = False

    @property
    def text(self) -> str:
        """Text of the message."""
        return self.message if isinstance(self.message, str) else self.message()


def value_at(data: Any, path: KeyPath) -> Any:
    """Return the value at a path of plain data; None where there is nothing."""
    for key in path:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and 0 <= key < len(data):
            data = data[key]
        else:
            return None
    return data

"""Problem in a config, and access to plain data by path."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.configs.document import KeyPath


@dataclass(frozen=True)
class Problem:
    """Problem that the user has to fix.

    Attributes:
        message: Text that says what is wrong and what is allowed.
        paths: Path of the wrong value, then those of what it clashes with.
        of_key: True where the key itself is wrong, not its value.
    """

    message: str
    paths: tuple[KeyPath, ...]
    of_key: bool = False


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

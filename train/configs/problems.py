"""Something that the user must mend, and how what is wrong is found in plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from train.configs.document import KeyPath

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """Something that the user must mend.

    Attributes:
        message: What is wrong, and what is allowed.
        paths: Where it shows, and then what it clashes with.
        of_key: The key itself is wrong, not its value.
    """

    message: str
    paths: tuple[KeyPath, ...]
    of_key: bool = False


def value_at(data: Any, path: KeyPath) -> Any:
    """The value at a path of plain data; None where there is nothing."""
    for key in path:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and 0 <= key < len(data):
            data = data[key]
        else:
            return None
    return data


@dataclass(frozen=True)
class View:
    """Typed reading of an untyped mapping: what has another type is Pydantic's to report, and passed over."""

    data: Any

    def get(self, *path: str | int) -> Any:
        """The value at a path; None where there is nothing."""
        return value_at(self.data, path)

    def typed(self, kind: type[T], *path: str | int) -> T | None:
        """The value at a path if it has this type."""
        value = value_at(self.data, path)
        return value if isinstance(value, kind) and not (kind is int and isinstance(value, bool)) else None

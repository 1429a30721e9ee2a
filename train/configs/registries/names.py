"""Matching of names, and loading of what a registry's row points to."""

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any


def folded(name: str) -> str:
    """Return a name without what doesn't matter in it: case, and the signs that people put between words."""
    return re.sub(r"[\s_-]", "", name.lower().replace("+", "plus"))


def spellings(names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return a table from each folded name and alias to the name.

    Args:
        names: Name to its aliases.
    """
    return {folded(alias): name for name, aliases in names.items() for alias in (name, *aliases)}


def load(path: str) -> Any:
    """Import the class or function at a dotted path, such as `train.model:AerialFormer`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)

"""Names and values as messages show them: on one line, of limited length, with the nearest right name."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_LONGEST = 60


def shown(value: Any) -> str:
    """Return a value much as the user wrote it: `nothing` for null, `true` for True, quotes around text."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        text = f"[{', '.join('null' if item is None else shown(item) for item in value[:20])}]"
    elif isinstance(value, float) and abs(value) == float("inf"):
        text = ".inf" if value > 0 else "-.inf"  # as YAML writes it
    else:
        text = ".nan" if value != value else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def dotted(path: Iterable[str | int]) -> str:
    """Return a path of keys as overrides write it."""
    parts = (str(part) for part in path)
    return ".".join(part if part.isprintable() and len(part) <= _LONGEST else shown(part) for part in parts)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ` (did you mean 'X'?)`, or nothing where no known name is near."""
    names = {str(k).lower(): str(k) for k in known}
    found = get_close_matches(str(name).lower(), names, n=1, cutoff=cutoff)
    return f" (did you mean {names[found[0]]!r}?)" if found else ""

"""Text of CSV tables: names of columns that any program reads, and numbers."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_RESERVED = ("site", "invalid", "outside")  # beginnings of other columns that end in _m2
_LONGEST = 60


def column_stems(names: Sequence[str]) -> list[str]:
    """Return a name for the columns of each class: letters, digits and _ alone, and different in lower case, too."""
    taken, stems = set(_RESERVED), []
    for value, name in enumerate(names):
        stem = re.sub(r"\W+", "_", unicodedata.normalize("NFC", name)).strip("_")[:_LONGEST] or f"class_{value}"
        if stem.casefold() in taken:
            stem = f"{stem}_{value}"
        while stem.casefold() in taken:
            stem += "_"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def cell_text(value: Any) -> str:
    """Return the text of a value: ten digits of a number, nothing for NaN."""
    if not isinstance(value, float):
        return str(value)
    return "" if value != value else f"{value + 0.0:.10g}"

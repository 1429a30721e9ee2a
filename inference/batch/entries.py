"""Images of a batch as its journal has them: the state of each, and what is known of its map."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rasterio import Affine

from inference.batch.journal import Record


@dataclass(frozen=True)
class Entry:
    """Image of a batch; what isn't known is empty or None.

    Attributes:
        image: File or address.
        output: Path of the map below the folder of the batch.
        state: State, see `inference.batch.journal`.
        reason: Reason of a failure.
        site: Site.
        date: Date, YYYY-MM-DD.
        pixels: Pixels of the map.
        invalid: Invalid pixels of the map.
        class_pixels: Pixels of each class.
        areas: Ground area of each class, m².
        model: Name of the model.
        revision: Revision of the model.
        sha256: SHA-256 of the map.
        height: Rows of the image.
        width: Columns of the image.
        crs: CRS of the image, an authority's code or WKT.
        transform: From (column, row) to the CRS.
        background: Class that is no target.
        table: Path of the table of its sites below the folder of the batch.
    """

    image: str
    output: str
    state: str
    reason: str = ""
    site: str = ""
    date: str = ""
    pixels: int | None = None
    invalid: int | None = None
    class_pixels: Mapping[str, float] | None = None
    areas: Mapping[str, float] | None = None
    model: str = ""
    revision: str = ""
    sha256: str = ""
    height: int = 0
    width: int = 0
    crs: str = ""
    transform: Affine | None = None
    background: int | None = None
    table: str = ""


def entry(record: Record) -> Entry:
    """Return the image that a line of the journal is about; values of another type than expected count as unknown."""

    def text(key: str) -> str:
        value = record.get(key)
        return value if isinstance(value, str) else ""

    def whole(key: str) -> int | None:
        value = record.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    transform = record.get("transform")
    placed = isinstance(transform, list) and len(transform) == 6 and all(map(_is_number, transform))
    return Entry(
        **{key: text(key) for key in ("image", "output", "state", "reason", "site", "date")},
        **{key: text(key) for key in ("model", "revision", "sha256", "crs", "table")},
        pixels=whole("pixels"),
        invalid=whole("invalid"),
        class_pixels=_numbers(record.get("class_pixels")),
        areas=_numbers(record.get("areas")),
        height=whole("height") or 0,
        width=whole("width") or 0,
        transform=Affine(*transform) if placed and isinstance(transform, list) else None,
        background=whole("background"),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> dict[str, float] | None:
    return value if isinstance(value, dict) and all(map(_is_number, value.values())) else None

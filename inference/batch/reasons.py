"""Reasons of many images, grouped: a reason, how many images have it, and the first of them."""

from collections.abc import Sequence

from inference.common.paths import shown_path
from inference.common.text import clean_line

MOST = 20
"""Reasons that are shown."""
_LONGEST = 400


class Reasons:
    """Texts about images that say the same but for the name of the image, counted."""

    def __init__(self) -> None:
        self._images: dict[str, list[str]] = {}

    def add(self, source: str, text: str) -> None:
        """Add a text about an image; the name of the image in it doesn't count."""
        kind = text.removeprefix(f"{source}: ")
        if source:
            kind = kind.replace(source, "IMAGE")
        self._images.setdefault(kind, []).append(source)

    def __len__(self) -> int:
        return len(self._images)

    def images(self) -> Sequence[Sequence[str]]:
        """Return the images of each reason."""
        return list(self._images.values())

    def table(self, title: str) -> list[str]:
        """Return a table as lines: number of images, reason, first image; empty without reasons."""
        if not self._images:
            return []
        rows = sorted(self._images.items(), key=lambda row: -len(row[1]))
        lines = [f"{title}:"]
        for kind, images in rows[:MOST]:
            first = f": {shown_path(images[0])}" if images[0] else ""
            more = f" and {len(images) - 1:,} more" if len(images) > 1 else ""
            lines.append(f"  {len(images):>6,}  {clean_line(kind, _LONGEST)}{first}{more}")
        if len(rows) > MOST:
            others = sum(len(images) for _, images in rows[MOST:])
            lines.append(f"  {others:>6,}  {len(rows) - MOST:,} other reasons (see batch.jsonl)")
        return lines

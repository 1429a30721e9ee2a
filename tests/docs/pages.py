"""Pages of the documentation, and the code blocks in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: Path from the root of the repository.
        language: Word behind the fence.
        text: Content.
        reason: Why the tests can't run it; None where there is no comment above it.
    """

    page: str
    language: str
    text: str
    reason: str | None


def blocks(language: str) -> list[Block]:
    """Return the blocks of a language on all pages."""
    return [
        Block(str(page.relative_to(ROOT)), match["language"], match["text"], match["reason"])
        for page in PAGES
        for match in _BLOCK.finditer(page.read_text("utf-8"))
        if match["language"] == language
    ]


def commands(block: Block) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command of a shell block: without comments, `uv run`, and what comes before `&&`."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            words = words[words.index("&&") + 1 :]
        if words[:2] == ["uv", "run"]:
            words = words[2:]
        if words:
            yield tuple(words)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))

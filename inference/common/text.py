"""Text for the terminal: names and messages from files are cleaned, shortened and quoted before they are shown.

A class name, a key or a library's message can hold escape sequences that move the cursor, hide a line or change the
terminal's title, and it can be a megabyte long. Commands pass everything that they print about a file through here.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable
from itertools import islice
from typing import TextIO

LONGEST_LINE = 2000
"""Characters of a line that are shown; a real message with two long paths has some 600."""
LONGEST_NAME = 80
"""Characters of a name from a file that are shown within a message."""
MOST_LINES = 40
"""Lines about one file that are shown, a screen."""
# Control characters (which escape sequences begin with), format characters (which reverse the direction of text),
# lone surrogates (which can't be encoded), and separators of lines and paragraphs.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_KEPT = {"\t", "\u200c", "\u200d", "\u00ad"}  # joiners, which scripts and emoji need, and the soft hyphen


def clean_line(text: str, longest: int = LONGEST_LINE) -> str:
    r"""Return text that is safe to print on one line.

    Args:
        text: Any text. A hidden character, a line break included, becomes its escape, such as `\x1b`.
        longest: Largest number of characters to keep.

    Returns:
        The text; a longer one loses its middle, and says how much.
    """
    if len(text) > longest:
        head, tail = 2 * longest // 3, longest // 6
        text = f"{text[:head]} ... ({len(text) - head - tail:,} more characters) ... {text[-tail:]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _HIDDEN and c not in _KEPT else c for c in text)


def clean_lines(text: str) -> str:
    """Return text of several lines that is safe to print; its line breaks stay, see `clean_line` for the rest."""
    return "\n".join(clean_line(line.removesuffix("\r")) for line in text.split("\n"))


def clean_json(text: str) -> str:
    r"""Return JSON text with the same content that is safe to print: hidden characters as `\uXXXX`."""
    return "".join(
        json.dumps(c)[1:-1] if c > "\x7f" and unicodedata.category(c) in _HIDDEN else r"\u007f" if c == "\x7f" else c
        for c in text
    )


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print a message, a notice or a result, cleaned, at once.

    Args:
        text: One line or more.
        file: Stream to print on; None for stderr.
    """
    out = sys.stderr if file is None else file
    out.write(f"{clean_lines(text)}\n")
    out.flush()


def quoted(text: object) -> str:
    """Return a name from a file, in quotes, safe and short enough to stand within a message."""
    return f'"{clean_line(str(text), LONGEST_NAME)}"'


def limited(lines: Iterable[str], most: int = MOST_LINES, count: int | None = None) -> list[str]:
    """Return the first lines of many, and a line that says how many more there are.

    Args:
        lines: The lines; of an iterator no more are computed than are shown. A line that is repeated is shown once.
        most: Largest number of lines to return.
        count: Number of lines of an iterator.
    """
    if count is None:
        lines = list(dict.fromkeys(lines))
        count = len(lines)
    if count <= most:
        return list(dict.fromkeys(lines))
    return [*dict.fromkeys(islice(lines, most - 1)), f"... and {count - most + 1:,} more"]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

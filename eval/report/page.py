"""Frame of a report: one self-contained HTML page, its style, and tables that sort themselves."""

import html
import math
from collections.abc import Iterable, Sequence

from inference.common.text import clean_lines

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.verdict { background: #f3f7fa; border-left: 4px solid #0072B2; padding: .8rem 1rem; font-size: 1.05rem; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.sortable th { cursor: pointer; } .sortable th:hover { background: #f3f7fa; }
h1, p, .sortable td:nth-child(-n+2), .classes td:first-child { overflow-wrap: anywhere; }
.note { color: #555; font-size: .9rem; } img, svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .8rem; }
.wide { overflow-x: auto; } .classes { font-size: .8rem; } .classes th, .classes td { padding: .25rem .35rem; }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable"))
  table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
    const down = head.dataset.order !== "down";
    table.querySelectorAll("th").forEach(other => delete other.dataset.order);
    head.dataset.order = down ? "down" : "up";
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => {
      const a = key(one), b = key(other), x = parseFloat(a), y = parseFloat(b);
      if (a === "" || b === "") return (a === "") - (b === "");  // n/a last in either order
      return (isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  }));
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole page of HTML.

    Args:
        title: Title, as text.
        parts: HTML of the body, in order.
    """
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


class Cell(str):
    """HTML of a table cell with a sort key other than its text."""

    __slots__ = ()


def cell(value: float, text: str) -> Cell:
    """Return a cell that is sorted by a number; NaN comes last."""
    return Cell(f'<td data-value="{"" if math.isnan(value) else value}">{escape(text)}</td>')


def escape(text: object) -> str:
    """Return text as HTML, with hidden characters as their escapes."""
    return html.escape(clean_lines(str(text)))


def table(heads: Iterable[object], rows: Iterable[Sequence[object]], attributes: str = "") -> str:
    """Return a table as HTML.

    Args:
        heads: Headings.
        rows: Cells of each row, as text or as `Cell`.
        attributes: Attributes of the element, such as class="sortable".
    """
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    cells = ("".join(one if isinstance(one, Cell) else f"<td>{escape(one)}</td>" for one in row) for row in rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="wide"><table {attributes}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

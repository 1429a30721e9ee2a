"""The report: one HTML file with everything in it, which opens from disk and asks no network for anything."""

import base64
import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from eval.report.figures import chosen_images, curves, panels
from eval.report.results import Outcome, gains, number, verdict
from eval.scoring import calibration
from eval.scoring.bootstrap import FEW_GROUPS

_SHOWN = 3  # images of each kind
_GAINS = 5
_IMAGE_COLUMNS = ("dice", "iou", "precision", "recall", "average_precision", "area_error")

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.verdict { background: #f3f7fa; border-left: 4px solid #0072B2; padding: .8rem 1rem; font-size: 1.05rem; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.sortable th { cursor: pointer; } .sortable th:hover { background: #f3f7fa; }
.note { color: #555; font-size: .9rem; } img, svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .8rem; }
.wide { overflow-x: auto; }
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
      if (a === "" || b === "") return (a === "") - (b === "");  // n/a last, whichever way
      return (isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  }));
"""


def report(found: Outcome, folder: Path) -> str:
    """The report as HTML.

    Args:
        found: What came out.
        folder: Where the pictures of images may be kept.
    """
    split = found.judged.split
    parts = [
        f"<h1>{_text(found.judged.model.name)}</h1>",
        f'<p class="note">{_text(split.name)} split of {_text(split.data)} · {_text(found.judged.backend)}</p>',
        f'<p class="verdict">{_text(verdict(found))}</p>',
        "<h2>Scores</h2>",
        _headline(found),
        "<h2>By class</h2>",
        _by_class(found),
        _gains(found),
        "<h2>Confusion matrix</h2>",
        _confusion(found),
        "<h2>Precision, recall and reliability</h2>",
        curves(found),
        "<h2>Worst, median and best images</h2>",
        '<p class="note">By Dice. Of a large image the window with most errors is shown.</p>',
        *(_picture(path) for path in panels(found, chosen_images(found, _SHOWN), folder)),
        "<h2>Each image</h2>",
        '<p class="note">A click on a heading sorts by it.</p>',
        _images(found),
        "<h2>How this was measured</h2>",
        _method(found),
        "<h2>Model card</h2>",
        f"<pre>{_text(found.judged.model.card.dumps())}</pre>",
    ]
    title = f"{found.judged.model.name}: {split.name} split of {split.data}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _text(text: object) -> str:
    return html.escape(str(text))


def _table(heads: Iterable[object], rows: Iterable[Sequence[object]], attributes: str = "") -> str:
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    cells = (
        "".join(one if isinstance(one, _Cell) else f"<td>{_text(one)}</td>" for one in row)  # as it is, or plain text
        for row in rows
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="wide"><table {attributes}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _headline(found: Outcome) -> str:
    heads = ["score", "value", "95 % interval"]
    if found.baseline is not None:
        heads += ["baseline", "difference", "95 % interval"]
    rows = []
    for name in found.headline:
        row = [name.replace("_", " "), number(found.scores[name], name), _interval(found.intervals[name], name)]
        if found.baseline is not None and found.differences is not None:
            gain, bounds = found.differences[name]
            row += [number(found.baseline.scores[name], name), _signed(gain, name), _interval(bounds, name, True)]
        rows.append(row)
    return _table(heads, rows)


def _by_class(found: Outcome) -> str:
    names = ["iou", "dice", "precision", "recall", *(f"boundary_iou@{d}" for d in found.classes.distances)]
    names += [f"boundary_f1@{d}" for d in found.classes.distances]
    names += ["average_precision", "true_area", "predicted_area", "area_error"]
    rows = [
        [one, *(number(found.scores.get(f"{name}/{one}", math.nan), f"{name}/{one}") for name in names)]
        for one in found.classes.names
    ]
    heads = [name.replace("_", " ") + (", m²" if name.endswith("_area") else "") for name in names]
    return _table(["class", *heads], rows)


def _confusion(found: Outcome) -> str:
    matrix = found.counts["confusion"]
    rows = []
    for name, counts in zip(found.classes.names, matrix, strict=True):
        total = counts.sum()
        shares = [f"{int(n):,} ({n / total:.1%})" if total else "0" for n in counts]
        rows.append([f"true {name}", *shares])
    return _table(["pixels (share of the true class)", *(f"mapped as {n}" for n in found.classes.names)], rows)


def _gains(found: Outcome) -> str:
    changes = gains(found)
    if not changes:
        return ""
    shown = min(_GAINS, (len(changes) + 1) // 2)
    rows = [[name, f"{gain:+.4f}"] for name, gain in changes[:shown]]
    lost = [[name, f"{gain:+.4f}"] for name, gain in changes[: shown - 1 : -1][:shown]]
    return (
        "<h2>Gained and lost against the baseline</h2>"
        + _table(["gained most, or lost least", "Dice"], rows)
        + (_table(["lost most, or gained least", "Dice"], lost) if lost else "")
    )


def _images(found: Outcome) -> str:
    changes = dict(gains(found))
    heads = ["image", "group", "pixels", *(name.replace("_", " ") for name in _IMAGE_COLUMNS if name in found.scores)]
    heads += ["dice, difference"] if changes else []
    rows = []
    for name, group, counts, scores in zip(found.names, found.groups, found.judged.counts, found.images, strict=True):
        pixels = int(counts["confusion"].sum())
        row: list[object] = [name, group, _cell(pixels, f"{pixels:,}")]
        row += [_cell(scores[one], number(scores[one], one)) for one in _IMAGE_COLUMNS if one in found.scores]
        if changes:
            gain = changes.get(name, math.nan)
            row.append(_cell(gain, _signed(gain, "dice")))
        rows.append(row)
    return _table(heads, rows, 'class="sortable"')


class _Cell(str):
    """HTML of a cell that is sorted by another value than it shows."""

    __slots__ = ()


def _cell(value: float, shown: str) -> _Cell:
    return _Cell(f'<td data-value="{"" if math.isnan(value) else value}">{_text(shown)}</td>')


def _interval(bounds: tuple[float, float], name: str, signed: bool = False) -> str:
    if math.isnan(bounds[0]):
        return "n/a"
    low, high = (_signed(one, name) if signed else number(one, name) for one in bounds)
    return f"{low} to {high}"


def _signed(value: float, name: str) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value:+.2%}" if name.startswith("area_error") else f"{value:+.4f}"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{_text(path.stem)}" src="data:image/png;base64,{data}">'


def _method(found: Outcome) -> str:
    few = f" {found.group_count} groups are few: intervals are too narrow." if found.group_count < FEW_GROUPS else ""
    lines = [
        "Whole images were mapped by the code that maps mosaics; each valid, labelled pixel counts once. Scores are of "
        "counts pooled over all images, never means of images. n/a: not defined, such as the score of an absent class.",
        "Headline scores are of the target class, or with several classes means over those that are present.",
        "Intervals: 1000 bootstrap draws of whole groups of images (those whose footprints touch, or by --group), the "
        f"2.5th to 97.5th percentile; differences on the same draws for both models.{few}",
        "Boundary IoU: Cheng et al., CVPR 2021; boundary F1: Csurka et al., BMVC 2013. The edge of an image or of what "
        "is ignored is no outline.",
        f"Average precision from {calibration.BINS} bins of probability, finer towards 0 and 1. Calibration error: Guo "
        "et al., ICML 2017, 15 bins.",
        "Areas are on the ground, whatever the coordinate reference system; of labelled pixels only.",
    ]
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"

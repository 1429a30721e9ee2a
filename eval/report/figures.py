"""Pictures of a report: curves as SVG, and images with label, prediction and errors as PNG."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rasterio.windows import Window

from eval.report.results import Outcome
from eval.scoring import calibration
from eval.scoring.counting import Judged
from inference.common.palette import OVERLAY_COLOURS
from inference.common.raster import open_raster
from train.data.pairs import Scene
from train.data.reader import Reader
from train.run.panels import Panel, draw_panels

_SIDE = 768
"""Pixels: of a larger image the window with most errors is shown."""
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
_OURS, _OTHERS = "#0072B2", "#E69F00"


def curves(found: Outcome) -> str:
    """Precision-recall and reliability, as one SVG."""
    outcomes = [(found, "this model", "-")] + ([(found.baseline, "baseline", "--")] if found.baseline else [])
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for one, who, line in outcomes:
            _precision_recall(left, one, who, line)
            colour = _OURS if one is found else _OTHERS
            histogram, sums = one.counts["probability"][-1], one.counts["sums"][-1]
            probability, share, number = calibration.reliability(histogram, sums)
            right.plot(probability, share, line, color=colour, marker="o", markersize=3, label=who)
            if one is found:
                right.bar(
                    (np.arange(len(number)) + 0.5) / len(number),
                    number / max(1, number.sum()),
                    0.9 / len(number),
                    color="0.85",
                    zorder=0,
                    label="share of pixels",
                )
        right.plot([0, 1], [0, 1], ":", color="0.5", linewidth=1)
        left.set(title="Precision and recall", xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
        expected = "probability" if found.classes.target is not None else "probability of the chosen class"
        right.set(title="Reliability", xlabel=expected, ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        for axis in (left, right):
            axis.set_axisbelow(True)
            axis.legend(frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _precision_recall(axis: Any, found: Outcome, who: str, line: str) -> None:
    for place, index in enumerate(found.classes.outlined):
        _, precision, recall = calibration.precision_recall(found.counts["probability"][place])
        single = found.classes.target is not None
        colour = (_OURS if line == "-" else _OTHERS) if single else OVERLAY_COLOURS[index % len(OVERLAY_COLOURS)]
        label = who if single else f"{found.classes.names[index]} ({who})"
        axis.plot(recall, precision, line, color=colour, linewidth=1.6, label=label)
        if single:
            at = calibration.border(_threshold(found))
            axis.plot(recall[at], precision[at], "o", color=colour, markersize=5)


def _threshold(found: Outcome) -> float:
    card = found.judged.model.card
    return card.threshold if card.activation == "sigmoid" else 0.5


def chosen_images(found: Outcome, each: int) -> list[tuple[str, int]]:
    """The worst, median and best images by Dice, as (which, number); each image once, at most `each` of a kind."""
    order = [i for i, s in enumerate(found.images) if not math.isnan(s["dice"])]
    order.sort(key=lambda i: found.images[i]["dice"])
    middle = max(0, (len(order) - each) // 2)
    picked: dict[int, str] = {}
    for which, numbers in (
        ("worst", order[:each]),
        ("best", order[::-1][:each]),
        ("median", order[middle : middle + each]),
    ):
        for number in numbers:
            picked.setdefault(number, which)
    rank = {"worst": 0, "median": 1, "best": 2}
    return sorted(((which, n) for n, which in picked.items()), key=lambda one: (rank[one[0]], order.index(one[1])))


def panels(found: Outcome, numbers: Sequence[tuple[str, int]], folder: Path) -> list[Path]:
    """Draws some images with label, prediction and errors; one PNG each."""
    reader = Reader(found.judged.split.rule)
    drawn = [
        panel(found.judged, number, f"{which} {found.names[number]} dice {found.images[number]['dice']:.3f}", reader)
        for which, number in numbers
    ]
    reader.close()
    card = found.judged.model.card
    for old in folder.glob("*.png"):
        old.unlink()
    files = draw_panels(drawn, card.class_names, card.background_index, reader.rule.ignore_index, folder)
    for overview in files[:1]:
        overview.unlink()
    return files[1:]


def panel(judged: Judged, number: int, title: str, reader: Reader) -> Panel:
    """A window of an image: all of it, or where most is wrong."""
    scene, bands = judged.split.scenes[number], judged.split.bands
    window = _worst_window(scene, judged.masks[number], reader)
    if (window.height, window.width) != (scene.height, scene.width):
        title += f" row {window.row_off} column {window.col_off}"
    image, invalid = reader.image(scene, bands, window)
    label = reader.label(scene, window)
    if invalid is not None:
        label[invalid] = reader.rule.ignore_index
    with open_raster(judged.masks[number]) as file:
        prediction = file.read(1, window=window)
    return Panel(title, image, label, prediction)


def _worst_window(scene: Scene, mask: Path, reader: Reader) -> Window:
    if scene.height <= _SIDE and scene.width <= _SIDE:
        return Window(0, 0, scene.width, scene.height)
    worst, most = Window(0, 0, min(_SIDE, scene.width), min(_SIDE, scene.height)), -1
    with open_raster(mask) as file:
        for row in _starts(scene.height):
            height = min(_SIDE, scene.height - row)
            rows = Window(0, row, scene.width, height)
            label = reader.label(scene, rows)
            valid = (label != reader.rule.ignore_index) & (file.dataset_mask(window=rows) > 0)
            wrong = (file.read(1, window=rows) != label) & valid
            for col in _starts(scene.width):
                count = int(np.count_nonzero(wrong[:, col : col + _SIDE]))
                if count > most:
                    worst, most = Window(col, row, min(_SIDE, scene.width - col), height), count
    return worst


def _starts(length: int) -> list[int]:
    """Windows that cover a length, the last one flush with its end."""
    return sorted({*range(0, max(1, length - _SIDE), _SIDE), max(0, length - _SIDE)})

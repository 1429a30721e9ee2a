"""Figures of the report: precision-recall and reliability as SVG, images with label, prediction and errors as PNG."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rasterio.windows import Window

from eval.predictions import Predictions
from eval.report.results import Evaluation
from eval.scoring import calibration
from inference.common.palette import OVERLAY_COLOURS
from inference.common.raster import open_raster
from train.data.pairs import Scene
from train.data.reader import Reader
from train.run.figures import figure_style, figure_text
from train.run.panels import Panel, draw_panels, pixel_width

_SIDE = 768
"""Largest side of a panel, pixels; of a larger image, the window with the most errors is shown."""
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
_MODEL_COLOUR, _BASELINE_COLOUR = "#0072B2", "#E69F00"


def draw_curves(evaluation: Evaluation) -> str:
    """Return the precision-recall curves and the reliability diagram as one SVG."""
    models = [(evaluation, "this model", "-", _MODEL_COLOUR)]
    if evaluation.baseline is not None:
        models.append((evaluation.baseline, "baseline", "--", _BASELINE_COLOUR))
    with figure_style(_STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for one, name, line, colour in models:
            _draw_precision_recall(left, one, name, line, colour)
            histogram, sums = one.counts["probability"][-1], one.counts["sums"][-1]
            probability, frequency, number = calibration.reliability_curve(histogram, sums)
            right.plot(probability, frequency, line, color=colour, marker="o", markersize=3, label=name)
            if one is evaluation:
                right.bar(
                    (np.arange(len(number)) + 0.5) / len(number),
                    number / max(1, number.sum()),
                    0.9 / len(number),
                    color="0.85",
                    zorder=0,
                    label="share of pixels",
                )
        right.plot([0, 1], [0, 1], ":", color="0.5", linewidth=1)
        left.set(title="Precision-recall curve", xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
        binary = evaluation.settings.target is not None
        right.set(
            title="Reliability diagram",
            xlabel="predicted probability" if binary else "probability of the predicted class",
            ylabel="observed frequency" if binary else "share of correct predictions",
            xlim=(0, 1),
            ylim=(0, 1.02),
        )
        for axis in (left, right):
            axis.set_axisbelow(True)
            axis.legend(frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _draw_precision_recall(axis: Any, evaluation: Evaluation, name: str, line: str, colour: str) -> None:
    """Draw one curve for each foreground class; for a binary model, mark the current threshold."""
    settings = evaluation.settings
    single = settings.target is not None
    for position, index in enumerate(settings.foreground):
        _, precision, recall = calibration.precision_recall_curve(evaluation.counts["probability"][position])
        colour = colour if single else OVERLAY_COLOURS[index % len(OVERLAY_COLOURS)]
        label = name if single else figure_text(f"{settings.class_names[index]} ({name})")
        axis.plot(recall, precision, line, color=colour, linewidth=1.6, label=label)
        if single:
            at = calibration.threshold_bin(evaluation.current_threshold)
            axis.plot(recall[at], precision[at], "o", color=colour, markersize=5)


def select_images(evaluation: Evaluation, each: int) -> list[tuple[str, int]]:
    """Select the worst, median and best images by Dice.

    Args:
        evaluation: Results.
        each: Largest number of images of each kind.

    Returns:
        Kind ("worst", "median" or "best") and index of each image; no image twice, in ascending order of Dice.
    """
    order = [i for i, s in enumerate(evaluation.images) if not math.isnan(s["dice"])]
    order.sort(key=lambda i: evaluation.images[i]["dice"])
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


def draw_images(evaluation: Evaluation, selected: Sequence[tuple[str, int]], folder: Path) -> list[Path]:
    """Draw images with label, prediction and errors; one PNG each.

    Args:
        evaluation: Results.
        selected: Images, as `select_images` returns them.
        folder: Folder for the PNG files.

    Returns:
        Paths of the PNG files.
    """
    predictions = evaluation.predictions
    reader = Reader(predictions.split.rule)
    drawn = []
    for kind, number in selected:
        title = f"{kind} {evaluation.image_names[number]} dice {evaluation.images[number]['dice']:.3f}"
        drawn.append(_read_panel(predictions, number, title, reader))
    reader.close()
    card = predictions.model.card
    title = f"{Path(predictions.model.name).name}, {predictions.split.name} split"
    files = draw_panels(drawn, card.class_names, card.background_index, reader.rule.ignore_index, folder, title)
    for overview in files[:1]:
        overview.unlink()
    return files[1:]


def _read_panel(predictions: Predictions, number: int, title: str, reader: Reader) -> Panel:
    """Read an image with label and prediction; of a large image, the window with the most errors."""
    scene, bands = predictions.split.scenes[number], predictions.split.bands
    window = _worst_window(scene, predictions.masks[number], reader)
    if (window.height, window.width) != (scene.height, scene.width):
        title += f" row {window.row_off} column {window.col_off}"
    image, invalid = reader.image(scene, bands, window)
    label = reader.label(scene, window)
    if invalid is not None:
        label[invalid] = reader.rule.ignore_index
    with open_raster(predictions.masks[number]) as file:
        prediction = file.read(1, window=window)
    return Panel(title, image, label, prediction, pixel_width(scene.image))


def _worst_window(scene: Scene, mask: Path, reader: Reader) -> Window:
    """Return the window of at most _SIDE x _SIDE pixels with the most errors."""
    if scene.height <= _SIDE and scene.width <= _SIDE:
        return Window(0, 0, scene.width, scene.height)
    worst, most = Window(0, 0, min(_SIDE, scene.width), min(_SIDE, scene.height)), -1
    with open_raster(mask) as file:
        for row in _starts(scene.height):
            height = min(_SIDE, scene.height - row)
            rows = Window(0, row, scene.width, height)
            label = reader.label(scene, rows)
            counted = (label != reader.rule.ignore_index) & (file.dataset_mask(window=rows) > 0)
            wrong = (file.read(1, window=rows) != label) & counted
            for col in _starts(scene.width):
                count = int(np.count_nonzero(wrong[:, col : col + _SIDE]))
                if count > most:
                    worst, most = Window(col, row, min(_SIDE, scene.width - col), height), count
    return worst


def _starts(length: int) -> list[int]:
    """Return the starts of windows that cover a length; the last window ends at its end."""
    return sorted({*range(0, max(1, length - _SIDE), _SIDE), max(0, length - _SIDE)})

"""Report as one self-contained HTML file that needs no network."""

import base64
import math
from pathlib import Path

from eval.report.figures import draw_curves, draw_images, select_images
from eval.report.page import cell, escape, page, table
from eval.report.results import Evaluation
from eval.report.verdict import format_score, verdict
from eval.scoring import calibration
from eval.scoring.bootstrap import FEW_GROUPS, REPLICATES

_SHOWN = 3  # panels of each kind: worst, median, best
_DIFFERENCES = 5  # images in each table of differences
_IMAGE_COLUMNS = ("dice", "iou", "precision", "recall", "average_precision", "area_error")
_LABELS = {
    "iou": "IoU",
    "dice": "Dice",
    "kappa": "Cohen's kappa",
    "boundary_iou": "boundary IoU",
    "boundary_f1": "boundary F1",
    "calibration_error": "expected calibration error",
    "true_area": "labelled area, m²",
    "predicted_area": "predicted area, m²",
}


def html_report(evaluation: Evaluation, folder: Path) -> str:
    """Return the report as HTML.

    Args:
        evaluation: Results.
        folder: Folder for the PNG files of the image panels.
    """
    predictions = evaluation.predictions
    split, name = predictions.split, predictions.model.name
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="note">{escape(split.name)} split of {escape(split.data)} · {escape(predictions.backend)}</p>',
        f'<p class="verdict">{escape(verdict(evaluation))}</p>',
        "<h2>Scores</h2>",
        _scores_table(evaluation),
        "<h2>Scores by class</h2>",
        _class_table(evaluation),
        _differences(evaluation),
        "<h2>Confusion matrix</h2>",
        _confusion_table(evaluation),
        "<h2>Precision-recall curve and reliability diagram</h2>",
        draw_curves(evaluation),
        "<h2>Worst, median and best images</h2>",
        '<p class="note">Ranked by Dice. Of a large image, the window with the most errors is shown.</p>',
        *(_picture(path) for path in draw_images(evaluation, select_images(evaluation, _SHOWN), folder)),
        "<h2>Scores by image</h2>",
        '<p class="note">Click a column heading to sort.</p>',
        _image_table(evaluation),
        "<h2>Methods</h2>",
        _methods(evaluation),
        "<h2>Model card</h2>",
        f"<pre>{escape(predictions.model.card.dumps())}</pre>",
    ]
    title = f"{name}: {split.name} split of {split.data}"
    return page(title, parts)


def score_label(name: str) -> str:
    """Return the heading of a score: `boundary_iou@3 px` becomes "boundary IoU, 3 px"."""
    score, _, distance = name.partition("@")
    label = _LABELS.get(score, score.replace("_", " "))
    return f"{label}, {distance}" if distance else label


def _scores_table(evaluation: Evaluation) -> str:
    heads = ["score", "value", "95 % CI"]
    if evaluation.baseline is not None:
        heads += ["baseline", "difference", "95 % CI of the difference"]
    rows = []
    for name in evaluation.main_scores:
        value, interval = evaluation.scores[name], evaluation.intervals[name]
        row = [score_label(name), format_score(value, name), _format_interval(interval, name)]
        if evaluation.baseline is not None and evaluation.differences is not None:
            difference, bounds = evaluation.differences[name]
            row.append(format_score(evaluation.baseline.scores[name], name))
            row += [_format_difference(difference, name), _format_interval(bounds, name, signed=True)]
        rows.append(row)
    return table(heads, rows)


def _class_table(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    names = ["iou", "dice", "precision", "recall", *(f"boundary_iou@{d}" for d in settings.distances)]
    names += [f"boundary_f1@{d}" for d in settings.distances]
    names += ["average_precision", "true_area", "predicted_area", "area_error", "area_factor"]
    rows = [
        [one, *(format_score(evaluation.scores.get(f"{name}/{one}", math.nan), f"{name}/{one}") for name in names)]
        for one in settings.class_names
    ]
    return table(["class", *map(score_label, names)], rows, 'class="classes"')


def _confusion_table(evaluation: Evaluation) -> str:
    names = evaluation.settings.class_names
    rows = []
    for name, counts in zip(names, evaluation.counts["confusion"], strict=True):
        total = counts.sum()
        shares = [f"{int(n):,} ({n / total:.1%})" if total else "0" for n in counts]
        rows.append([f"labelled {name}", *shares])
    return table(["pixels (share of the labelled class)", *(f"predicted {name}" for name in names)], rows)


def _differences(evaluation: Evaluation) -> str:
    """Return the section of the images with the largest differences from the baseline; empty without a baseline."""
    changes = evaluation.image_differences()
    if not changes:
        return ""
    shown = min(_DIFFERENCES, (len(changes) + 1) // 2)
    highest = [[name, f"{change:+.4f}"] for name, change in changes[:shown]]
    lowest = [[name, f"{change:+.4f}"] for name, change in changes[: shown - 1 : -1][:shown]]
    return (
        "<h2>Images with the largest differences in Dice from the baseline</h2>"
        + table(["image, highest difference first", "Dice difference"], highest)
        + (table(["image, lowest difference first", "Dice difference"], lowest) if lowest else "")
    )


def _image_table(evaluation: Evaluation) -> str:
    changes = dict(evaluation.image_differences())
    columns = [name for name in _IMAGE_COLUMNS if name in evaluation.scores]
    heads = ["image", "group", "pixels", *map(score_label, columns), *(["Dice difference"] if changes else [])]
    rows = []
    for name, group, counts, scores in zip(
        evaluation.image_names, evaluation.groups, evaluation.predictions.counts, evaluation.images, strict=True
    ):
        pixels = int(counts["confusion"].sum())
        row: list[object] = [name, group, cell(pixels, f"{pixels:,}")]
        row += [cell(scores[one], format_score(scores[one], one)) for one in columns]
        if changes:
            change = changes.get(name, math.nan)
            row.append(cell(change, _format_difference(change, "dice")))
        rows.append(row)
    return table(heads, rows, 'class="sortable"')


def _format_interval(bounds: tuple[float, float], name: str, signed: bool = False) -> str:
    if math.isnan(bounds[0]):
        return "n/a"
    low, high = (_format_difference(one, name) if signed else format_score(one, name) for one in bounds)
    return f"{low} to {high}"


def _format_difference(value: float, name: str) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value:+.2%}" if name.startswith("area_error") else f"{value:+.4f}"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{data}">'


def _methods(evaluation: Evaluation) -> str:
    groups = evaluation.group_count
    few = f" With only {groups} groups, the intervals are too narrow." if 1 < groups < FEW_GROUPS else ""
    if groups == 1:
        few = " With a single group there are no intervals."
    lines = [
        "Each image was mapped as a whole, with the same code as inference.py. Each valid, labelled pixel counts once. "
        "Scores are computed from pixel counts pooled over all images; they are not means of image scores. n/a: "
        "undefined, for example the score of an absent class, or a boundary score at less than a pixel.",
        "Training scores windows of the tile size, side by side from the upper left corner and continued by a "
        "reflection; a map is blended from tiles that overlap and lie inside the image. With --overlap 0 --window none "
        "both scores are the same where the sides of the images are whole tiles, or less than one. Training's mean "
        "over two classes is not the score of the target.",
        "In the first table, scores of a model with one target class are those of that class; with several classes "
        "they are means over the classes present. With a target class, boundary scores and average precision are "
        "computed for it only. Accuracy and Cohen's kappa (Cohen, Educ. Psychol. Meas. 20(1), 1960) "
        "cover all classes.",
        f"95 % CI: confidence interval from a bootstrap over groups of images, {REPLICATES} replicates, 2.5th to "
        "97.5th percentile (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). A group contains the images "
        "whose footprints touch, the blocks of one site of a prepared data set, or those that --group puts together. "
        "Intervals of differences are paired: both models "
        f"are scored on the same resamples.{few}",
        "Boundary IoU: Cheng et al., CVPR 2021, arXiv:2103.16562. Boundary F1: Csurka et al., BMVC 2013, "
        "doi:10.5244/C.27.32. The edge of an image and the border of an ignored area are not boundaries.",
        f"Average precision is computed from {calibration.BINS} bins of probability, narrower towards 0 and 1. "
        f"Expected calibration error: Guo et al., ICML 2017, arXiv:1706.04599, {calibration.CALIBRATION_BINS} bins.",
        "Areas are true ground areas of the labelled pixels, whatever the coordinate reference system. Area error is "
        "(predicted area - labelled area) / labelled area. The area factor, labelled area / predicted area, corrects "
        "the area of a map of similar images (ratio estimator: Cochran, Sampling Techniques, 1977, chapter 6), with "
        "the interval of groups of images like these. eval/area.py corrects one map from points checked on it.",
    ]
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"

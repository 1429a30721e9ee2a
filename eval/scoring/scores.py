"""Scores computed from pixel counts."""

from collections.abc import Iterable, Mapping

import numpy as np

from eval.scoring import boundary, calibration, confusion
from eval.scoring.bootstrap import Counts
from eval.scoring.confusion import Floats
from eval.scoring.counts import ScoreSettings


def compute_scores(counts: Counts, settings: ScoreSettings) -> dict[str, Floats]:
    """Compute all scores.

    Scores with the name of a class, `SCORE/CLASS`, are those of that class. `iou`, `dice`, `precision`, `recall`,
    `average_precision`, `boundary_iou@3 px` and so on without a class are those of the target class, or means over the
    classes present. `accuracy` and `kappa` cover all classes. `calibration_error` is that of the target's probability;
    of several classes, that of the predicted class's probability (Guo et al. 2017). `area_error` is (predicted area -
    labelled area) / labelled area, and `area_factor`, which corrects the area of a map, labelled area / predicted area
    (the ratio estimator: Cochran, Sampling Techniques, 1977, chapter 6); where ground areas are unknown, the areas are
    numbers of pixels.

    Args:
        counts: As in `eval.scoring.counts`, with any number of leading axes (...).
        settings: Classes and distances.

    Returns:
        Arrays (...) by name; NaN where a score is undefined.
    """
    scores: dict[str, Floats] = {}
    matrix = counts["confusion"]
    for name, values in confusion.class_scores(matrix).items():
        _add_class_scores(scores, name, values, range(len(settings.class_names)), settings)
    scores["accuracy"], scores["kappa"] = confusion.accuracy(matrix), confusion.kappa(matrix)
    foreground = settings.foreground
    for index, distance in enumerate(settings.distances):
        outlines = counts["boundary"][..., index, :, :]
        _add_class_scores(scores, f"boundary_iou@{distance}", boundary.boundary_iou(outlines), foreground, settings)
        _add_class_scores(scores, f"boundary_f1@{distance}", boundary.boundary_f1(outlines), foreground, settings)
    histograms = counts["probability"][..., : len(foreground), :, :]
    precision = calibration.average_precision(histograms)
    _add_class_scores(scores, "average_precision", precision, foreground, settings)
    scores["calibration_error"] = calibration.calibration_error(
        counts["probability"][..., -1, :, :], counts["sums"][..., -1, :]
    )
    labelled, predicted = _areas(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.where(labelled > 0, (predicted - labelled) / labelled, np.nan)
        factors = np.where(predicted > 0, labelled / predicted, np.nan)
    for index, name in enumerate(settings.class_names):
        scores[f"area_error/{name}"] = errors[..., index]
        scores[f"area_factor/{name}"] = factors[..., index]
        scores[f"true_area/{name}"] = counts["area"][..., 0, index]
        scores[f"predicted_area/{name}"] = counts["area"][..., 1, index]
    if settings.target is not None:
        scores["area_error"] = errors[..., settings.target]
        scores["area_factor"] = factors[..., settings.target]
    return scores


def to_floats(scores: Mapping[str, Floats]) -> dict[str, float]:
    """Convert the 0-dimensional scores of one set of counts to floats."""
    return {name: float(value) for name, value in scores.items()}


def _add_class_scores(
    scores: dict[str, Floats], name: str, values: Floats, classes: Iterable[int], settings: ScoreSettings
) -> None:
    """Add a score (..., n) of n classes under the name of each class, and its summary under `name`."""
    classes = list(classes)
    for position, index in enumerate(classes):
        scores[f"{name}/{settings.class_names[index]}"] = values[..., position]
    if settings.target is not None:
        scores[name] = values[..., classes.index(settings.target)]
    else:
        scores[name] = confusion.mean_of_present(values)


def _areas(counts: Counts) -> tuple[Floats, Floats]:
    """Return labelled and predicted area of each class, (..., K), m²; pixels where ground areas are unknown."""
    matrix, area = counts["confusion"], counts["area"]
    known = np.expand_dims(~np.isnan(area).any(axis=(-2, -1)), -1)
    labelled = np.where(known, area[..., 0, :], matrix.sum(axis=-1))
    return labelled, np.where(known, area[..., 1, :], matrix.sum(axis=-2))

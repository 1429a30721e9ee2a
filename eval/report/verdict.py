"""Verdict: the main results of an evaluation in one paragraph of text, and scores as text."""

import math

from eval.report.results import Evaluation, ThresholdSuggestion
from eval.scoring import calibration
from eval.scoring.bootstrap import FEW_GROUPS
from inference.options import Options

_SAME_DICE = 5e-5
"""Gain in Dice below which two thresholds are equally good: it is not visible in four decimals."""


def verdict(evaluation: Evaluation) -> str:
    """Return the main results as a paragraph: scores, comparisons, area, outlines, calibration, threshold, caveats."""
    split, settings = evaluation.predictions.split, evaluation.settings
    names = settings.class_names
    mapped = names[settings.target] if settings.target is not None else f"{len(names)} classes"
    pixels = int(evaluation.counts["confusion"].sum())
    sentences = [
        f"{evaluation.predictions.model.name} maps {mapped} on the {split.name} split of {split.data} "
        f"({_image_count(evaluation)}, {pixels:,} labelled pixels) with Dice {_score_and_interval(evaluation, 'dice')} "
        f"and IoU {_score_and_interval(evaluation, 'iou')}."
    ]
    if (trained := evaluation.training_dice) is not None:
        sentences.append(_training(trained, evaluation))
    if evaluation.differences is not None and evaluation.baseline is not None:
        sentences.append(_comparison(evaluation, evaluation.baseline.predictions.model.name))
    if settings.target is not None:
        sentences.append(_area(evaluation, mapped))
    boundary_f1 = f"boundary_f1@{settings.distances[0]}" if settings.distances else None
    if boundary_f1 is not None and not math.isnan(evaluation.scores[boundary_f1]):
        sentences.append(f"Boundary F1 within {settings.distances[0]} is {evaluation.scores[boundary_f1]:.4f}.")
    error = evaluation.scores["calibration_error"]
    if not math.isnan(error):
        sentences.append(
            f"Predicted probabilities differ from observed frequencies by {100 * error:.1f} percentage points on "
            "average (expected calibration error)."
        )
    if evaluation.threshold is not None:
        sentences.append(_suggestion(evaluation.threshold, evaluation.scores["dice"], split.name))
    if evaluation.group_count == 1:
        sentences.append(
            "All images belong to one group, so there are no confidence intervals: results at other sites may differ."
        )
    elif evaluation.group_count < FEW_GROUPS:
        sentences.append(
            f"With only {evaluation.group_count} independent groups of images, the confidence intervals (CI) are too "
            "narrow; treat them as approximate."
        )
    if evaluation.ungeoreferenced > 1:
        sentences.append(
            f"{evaluation.ungeoreferenced} images are not georeferenced, or wrongly, so each counts as an independent "
            "group: if some show the same site, the confidence intervals are too narrow (group them with --group)."
        )
    return " ".join(sentences)


def format_score(value: float, name: str) -> str:
    """Return a score as text: percent for relative area errors, one decimal for areas, else four decimals."""
    if math.isnan(value):
        return "n/a"
    if name.startswith("area_error"):
        return f"{value:+.2%}"
    return f"{value:,.1f}" if "_area/" in name else f"{value:.4f}"


def _image_count(evaluation: Evaluation) -> str:
    images, groups = len(evaluation.image_names), evaluation.group_count
    return f"{images} image{'s' * (images > 1)} in {groups} group{'s' * (groups > 1)}"


def _score_and_interval(evaluation: Evaluation, name: str) -> str:
    low, high = evaluation.intervals[name]
    interval = "" if math.isnan(low) else f" (95 % CI {low:.3f} to {high:.3f})"
    return f"{format_score(evaluation.scores[name], name)}{interval}"


def _training(trained: float, evaluation: Evaluation) -> str:
    mapping = evaluation.predictions.mapping
    overlap = mapping.get("overlap", Options.overlap)
    how = f"blended from tiles that overlap by {100 * overlap:g} %" if overlap else "in tiles side by side"
    return (
        f"Training scored Dice {trained:.4f} on this split, in windows side by side; these maps score "
        f"{format_score(evaluation.scores['dice'], 'dice')}, {how}."
    )


def _comparison(evaluation: Evaluation, baseline: str) -> str:
    assert evaluation.differences is not None
    difference, (low, high) = evaluation.differences["dice"]
    if math.isnan(difference):
        return f"It can't be compared with {baseline}, because Dice is undefined for one of the two."
    if difference == 0 and low == high == 0:
        return f"Its Dice is exactly that of {baseline}."
    numbers = f"Dice {difference:+.4f}" + ("" if math.isnan(low) else f", 95 % CI {low:+.4f} to {high:+.4f}")
    if math.isnan(low) or low <= 0 <= high:
        return f"These images do not show whether it is better than {baseline} ({numbers})."
    return f"It is {'better' if difference > 0 else 'worse'} than {baseline} ({numbers})."


def _area(evaluation: Evaluation, target: str) -> str:
    labelled = evaluation.scores[f"true_area/{target}"]
    mapped = evaluation.scores[f"predicted_area/{target}"]
    error, (low, high) = evaluation.scores["area_error"], evaluation.intervals["area_error"]
    if math.isnan(error):
        return f"No {target} is labelled, so the error of its area is undefined."
    interval = "" if math.isnan(low) else f", 95 % CI {low:+.1%} to {high:+.1%}"
    if math.isnan(labelled):
        return (
            f"The mapped area differs from the labelled area by {error:+.1%}{interval} (counted in pixels, because "
            "ground areas are unknown)."
        )
    return (
        f"It maps {mapped:,.1f} m² where {labelled:,.1f} m² are labelled ({error:+.1%}{interval})."
        f"{_correction(evaluation)}"
    )


def _correction(evaluation: Evaluation) -> str:
    """Return how the area of a map of similar images is corrected; empty where nothing was mapped."""
    factor, (low, high) = evaluation.scores["area_factor"], evaluation.intervals["area_factor"]
    if math.isnan(factor):
        return ""
    interval = "" if math.isnan(low) else f" (95 % CI {low:.3f} to {high:.3f})"
    return f" Maps of similar images are corrected by the factor {factor:.3f}{interval}."


def _suggestion(threshold: ThresholdSuggestion, dice: float, split: str) -> str:
    if threshold.validation_dice - threshold.current_validation_dice < _SAME_DICE:
        return f"On the validation split, no threshold gives a higher Dice than the current one, {threshold.current:g}."
    value = calibration.format_threshold(threshold.value)
    if split == "val":
        return (
            f"On this split, threshold {value} would give Dice {threshold.dice:.4f} instead of {dice:.4f}. It was "
            "chosen on the same pixels, so this is too good for new images: evaluate it on the test split (not "
            f"applied; to use it, map with --threshold {value})."
        )
    return (
        f"On the validation split, threshold {value} gives Dice {threshold.validation_dice:.4f} and the current "
        f"threshold {threshold.current:g} gives {threshold.current_validation_dice:.4f}; on the {split} split, "
        f"{value} would give {threshold.dice:.4f} instead of {dice:.4f} (not applied; to use it, map with --threshold "
        f"{value})."
    )

"""From counts to what is said: scores with intervals, a table of images, a verdict in words, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.scoring import calibration
from eval.scoring.bootstrap import FEW_GROUPS, Counts, intervals
from eval.scoring.counting import Judged
from eval.scoring.scores import Classes, add, plain, score

Interval = tuple[float, float]


@dataclass(frozen=True)
class Threshold:
    """The threshold that maximises Dice on the validation split.

    Attributes:
        value: Above which a pixel is target.
        validation_dice: With it, on the validation split.
        now: The threshold that the maps were made with.
        validation_dice_now: With that one.
        dice: With `value`, on the judged split.
    """

    value: float
    validation_dice: float
    now: float
    validation_dice_now: float
    dice: float


@dataclass(frozen=True)
class Outcome:
    """What is known of a model after judging it.

    Attributes:
        judged: What was judged.
        classes: How classes were scored.
        groups: Of each image.
        scores: Pooled over the split.
        intervals: 95 % of each; NaN with a single group.
        images: Scores of each image.
        counts: Pooled over the split.
        threshold: Offered; None with several classes, or without a labelled validation split.
        baseline: Another model's outcome on the same images.
        differences: Of each score: this model's minus the baseline's, and its 95 % interval.
        unplaced: Images of which nothing tells where they were taken; each counts as a group of its own.
    """

    judged: Judged
    classes: Classes
    groups: tuple[str, ...]
    scores: dict[str, float]
    intervals: dict[str, Interval]
    images: tuple[dict[str, float], ...]
    counts: Counts
    threshold: Threshold | None = None
    baseline: "Outcome | None" = None
    differences: dict[str, tuple[float, Interval]] | None = None
    unplaced: int = 0

    @property
    def names(self) -> list[str]:
        """Of the images."""
        return [scene.pair.name for scene in self.judged.split.scenes]

    @property
    def group_count(self) -> int:
        """How many groups there are."""
        return len(set(self.groups))

    @property
    def headline(self) -> list[str]:
        """Names of the scores that a reader looks at first."""
        return [name for name in self.scores if "/" not in name]


def outcome(
    judged: Judged,
    classes: Classes,
    groups: Sequence[str],
    validation: Sequence[Counts] = (),
    baseline: "Outcome | None" = None,
    unplaced: int = 0,
) -> Outcome:
    """Scores what was counted.

    Args:
        judged: A model on a split.
        classes: How to score.
        groups: Of each image.
        validation: The same model's counts on the validation split.
        baseline: Another model's outcome on the same images.
        unplaced: How many images are groups of their own only because nothing tells where they were taken.
    """
    counts, by_group = add(judged.counts), _by_group(judged.counts, groups)
    scores = plain(score(counts, classes))

    def of_draws(drawn: Counts) -> Any:
        return score(drawn, classes)

    differences = None
    if baseline is not None:
        theirs = _by_group(baseline.judged.counts, groups)
        bounds = intervals(by_group, of_draws, theirs)
        differences = {
            name: (scores[name] - value, bounds[name]) for name, value in baseline.scores.items() if name in scores
        }
    return Outcome(
        judged,
        classes,
        tuple(groups),
        scores,
        intervals(by_group, of_draws),
        tuple(plain(score(one, classes)) for one in judged.counts),
        counts,
        _threshold(judged, classes, validation, counts),
        baseline,
        differences,
        unplaced,
    )


def _by_group(counts: Sequence[Counts], groups: Sequence[str]) -> Counts:
    parts = [
        add(one for one, group in zip(counts, groups, strict=True) if group == wanted)
        for wanted in dict.fromkeys(groups)
    ]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _threshold(judged: Judged, classes: Classes, validation: Sequence[Counts], counts: Counts) -> Threshold | None:
    card = judged.model.card
    if not validation or classes.target != 1:
        return None
    histogram = add(validation)["probability"][0]
    found = calibration.best_threshold(histogram)
    if found is None:
        return None
    now = card.threshold if card.activation == "sigmoid" else 0.5
    return Threshold(
        found[0],
        found[1],
        now,
        calibration.dice_at(histogram, now),
        calibration.dice_at(counts["probability"][0], found[0]),
    )


def verdict(found: Outcome) -> str:
    """What a scientist would want to know first, in one paragraph."""
    split, classes = found.judged.split, found.classes
    what = classes.names[classes.target] if classes.target is not None else f"{len(classes.names)} classes"
    pixels = int(found.counts["confusion"].sum())
    said = [
        f"{found.judged.model.name} maps {what} on the {split.name} split of {split.data} ({_several(found)}, "
        f"{pixels:,} labelled pixels) with Dice {_with(found, 'dice')} and IoU {_with(found, 'iou')}."
    ]
    if found.differences is not None and found.baseline is not None:
        said.append(_compared(found, found.baseline.judged.model.name))
    if classes.target is not None:
        said.append(_extent(found, what))
    outlines = f"boundary_f1@{classes.distances[0]}" if classes.distances else None
    if outlines is not None and not math.isnan(found.scores[outlines]):
        said.append(f"Of the outlines {found.scores[outlines]:.1%} agree within {classes.distances[0]} (boundary F1).")
    said.append(f"Its probabilities are off by {found.scores['calibration_error']:.1%} on average (calibration).")
    if found.threshold is not None:
        said.append(_offer(found.threshold, found.scores["dice"]))
    if found.group_count == 1:
        said.append(
            "All images belong to one group, so nothing can be said of how sure this is: other sites may differ."
        )
    elif found.group_count < FEW_GROUPS:
        said.append(
            f"With only {found.group_count} independent groups of images the intervals are too narrow: they are a hint."
        )
    if found.unplaced > 1:
        said.append(
            f"Nothing tells where {found.unplaced} of the images were taken, so each counts as independent: if some "
            "show the same site, the intervals are too narrow (say which belong together with --group)."
        )
    return " ".join(said)


def _several(found: Outcome) -> str:
    images = len(found.names)
    return f"{images} image{'s' * (images > 1)} in {found.group_count} group{'s' * (found.group_count > 1)}"


def _with(found: Outcome, name: str) -> str:
    low, high = found.intervals[name]
    bounds = "" if math.isnan(low) else f" (95 % interval {low:.3f} to {high:.3f})"
    return f"{number(found.scores[name], name)}{bounds}"


def _compared(found: Outcome, other: str) -> str:
    assert found.differences is not None
    gain, (low, high) = found.differences["dice"]
    if math.isnan(gain):
        return f"It can't be compared with {other}: one of them has no Dice here."
    by = f"Dice {gain:+.4f}" + ("" if math.isnan(low) else f", 95 % interval {low:+.4f} to {high:+.4f}")
    if gain == 0 and low == high == 0:
        return f"It scores exactly as {other} does."
    if math.isnan(low) or low <= 0 <= high:
        return f"Whether it is better than {other} can't be told from these images ({by})."
    return f"It is {'better' if gain > 0 else 'worse'} than {other} ({by})."


def _extent(found: Outcome, what: str) -> str:
    true, mapped = found.scores[f"true_area/{what}"], found.scores[f"predicted_area/{what}"]
    error, (low, high) = found.scores["area_error"], found.intervals["area_error"]
    if math.isnan(error):
        return f"No {what} is labelled, so its extent can't be judged."
    bounds = "" if math.isnan(low) else f", 95 % interval {low:+.1%} to {high:+.1%}"
    if math.isnan(true):
        return f"The mapped extent is {error:+.1%} off the labelled one{bounds} (in pixels: no ground areas are known)."
    return f"It maps {mapped:,.1f} m² where {true:,.1f} m² are labelled ({error:+.1%}{bounds})."


def _offer(threshold: Threshold, dice: float) -> str:
    if threshold.validation_dice - threshold.validation_dice_now < 5e-5:
        return f"Its threshold, {threshold.now:g}, is as good as any on the validation split."
    value = calibration.shortest(threshold.value)
    return (
        f"On the validation split a threshold of {value} gives Dice {threshold.validation_dice:.4f}, "
        f"{threshold.now:g} gives {threshold.validation_dice_now:.4f}; here it would give {threshold.dice:.4f}, not "
        f"{dice:.4f} (not used; map with --threshold {value} if you want it)."
    )


def number(value: float, name: str) -> str:
    """A score as people read it."""
    if math.isnan(value):
        return "n/a"
    if name.startswith("area_error"):
        return f"{value:+.2%}"
    return f"{value:,.1f}" if "_area/" in name else f"{value:.4f}"


def gains(found: Outcome) -> list[tuple[str, float]]:
    """Images by how much Dice they gained over the baseline, most first; without those that have none."""
    if found.baseline is None:
        return []
    changes = [
        (name, ours["dice"] - theirs["dice"])
        for name, ours, theirs in zip(found.names, found.images, found.baseline.images, strict=True)
    ]
    return sorted((one for one in changes if not math.isnan(one[1])), key=lambda one: -one[1])


def as_json(found: Outcome) -> str:
    """All scores; what isn't defined is null."""
    threshold = found.threshold
    content: dict[str, Any] = {
        "verdict": verdict(found),
        "model": found.judged.model.name,
        "data": found.judged.split.data,
        "split": found.judged.split.name,
        "images": len(found.names),
        "groups": found.group_count,
        "backend": found.judged.backend,
        "classes": list(found.classes.names),
        "scores": found.scores,
        "intervals": {name: list(bounds) for name, bounds in found.intervals.items()},
        "confusion": found.counts["confusion"].astype(int).tolist(),
        "threshold": None if threshold is None else vars(threshold),
        "card": found.judged.model.card.model_dump(mode="json"),
    }
    if found.baseline is not None and found.differences is not None:
        content["baseline"] = {
            "model": found.baseline.judged.model.name,
            "scores": found.baseline.scores,
            "differences": {
                name: {"value": value, "interval": list(bounds)} for name, (value, bounds) in found.differences.items()
            },
        }
    return json.dumps(_without_nan(content), indent=2, ensure_ascii=False) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_csv(found: Outcome) -> str:
    """A line for each image; what isn't defined is empty."""
    out = io.StringIO()
    columns = list(found.scores)
    extra = [] if found.baseline is None else ["dice_difference"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "group", "pixels", *extra, *columns])
    changes = dict(gains(found))
    for name, group, counts, scores in zip(found.names, found.groups, found.judged.counts, found.images, strict=True):
        values = [changes.get(name, math.nan)] * len(extra) + [scores[column] for column in columns]
        shown = ["" if math.isnan(value) else repr(value) for value in values]
        writer.writerow([name, group, int(counts["confusion"].sum()), *shown])
    return out.getvalue()

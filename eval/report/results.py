"""Results of an evaluation: pooled scores, confidence intervals, scores by image, differences from a baseline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from eval.predictions import Predictions
from eval.scoring import calibration
from eval.scoring.bootstrap import Counts, percentile_intervals
from eval.scoring.counts import ScoreSettings, add_counts
from eval.scoring.scores import compute_scores, to_floats
from train.run.card import data_source

Interval = tuple[float, float]


@dataclass(frozen=True)
class ThresholdSuggestion:
    """Threshold that maximises Dice on the validation split.

    Attributes:
        value: The threshold; pixels with a higher probability are target.
        validation_dice: Dice on the validation split at this threshold.
        current: Threshold that the maps were made with.
        current_validation_dice: Dice on the validation split at the current threshold.
        dice: Dice on the evaluated split at the suggested threshold.
    """

    value: float
    validation_dice: float
    current: float
    current_validation_dice: float
    dice: float


@dataclass(frozen=True)
class Evaluation:
    """Results of evaluating a model on a split.

    Attributes:
        predictions: Maps and pixel counts of the model.
        settings: Classes and boundary distances.
        groups: Group of each image.
        scores: Scores of the counts pooled over the split.
        intervals: 95 % confidence interval of each score; NaN with a single group.
        images: Scores of each image.
        counts: Counts pooled over the split.
        threshold: Suggested threshold; None with several classes, or without a labelled validation split.
        baseline: Results of the baseline on the same images.
        differences: For each score, this model's minus the baseline's, with its 95 % confidence interval.
        ungeoreferenced: Number of images that are groups of their own because they are not georeferenced.
    """

    predictions: Predictions
    settings: ScoreSettings
    groups: tuple[str, ...]
    scores: dict[str, float]
    intervals: dict[str, Interval]
    images: tuple[dict[str, float], ...]
    counts: Counts
    threshold: ThresholdSuggestion | None = None
    baseline: "Evaluation | None" = None
    differences: dict[str, tuple[float, Interval]] | None = None
    ungeoreferenced: int = 0

    @property
    def image_names(self) -> list[str]:
        """Names of the images."""
        return [scene.name for scene in self.predictions.split.scenes]

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return len(set(self.groups))

    @property
    def main_scores(self) -> list[str]:
        """Names of the scores that are not of a single class of several."""
        return [name for name in self.scores if "/" not in name]

    @property
    def current_threshold(self) -> float:
        """Threshold that the maps were made with."""
        return self.predictions.threshold

    @property
    def training_dice(self) -> float | None:
        """Dice that training scored on the same split, of the same class or classes; None if the card has none."""
        predictions, target = self.predictions, self.settings.target
        card, split = predictions.model.card, predictions.split
        known = card.training_data is not None and card.training_data.source == data_source(split.data)
        if not known or split.rule.ignore_index != card.ignore_index:
            return None
        config = predictions.model.config
        if config is not None and split.name in {"val", "test"}:
            limit = config.trainer.limit_val_batches if split.name == "val" else config.trainer.limit_test_batches
            if isinstance(limit, int) or limit < 1:  # it scored a part of the split
                return None
        score = f"{split.name}/dice"
        # Of two softmax classes, training's score without a class is the mean over both.
        of_target = target is not None and card.activation == "softmax"
        return card.scores.get(f"{score}/{self.settings.class_names[cast(int, target)]}" if of_target else score)

    def image_differences(self) -> list[tuple[str, float]]:
        """Return name and difference in Dice from the baseline of each image with both, in descending order."""
        if self.baseline is None:
            return []
        differences = [
            (name, scores["dice"] - reference["dice"])
            for name, scores, reference in zip(self.image_names, self.images, self.baseline.images, strict=True)
        ]
        return sorted((one for one in differences if not math.isnan(one[1])), key=lambda one: -one[1])


def score_predictions(
    predictions: Predictions,
    settings: ScoreSettings,
    groups: Sequence[str],
    validation: Sequence[Counts] = (),
    baseline: Evaluation | None = None,
    ungeoreferenced: int = 0,
) -> Evaluation:
    """Compute the scores of predictions, their confidence intervals and their differences from a baseline.

    Args:
        predictions: Pixel counts of a model on a split.
        settings: Classes and boundary distances.
        groups: Group of each image.
        validation: Counts of the same model for each image of the validation split; empty: no threshold is suggested.
        baseline: Results of the baseline on the same images.
        ungeoreferenced: Number of images that are groups of their own because they are not georeferenced.
    """
    counts, by_group = add_counts(predictions.counts), _add_by_group(predictions.counts, groups)
    score = partial(compute_scores, settings=settings)
    scores = to_floats(score(counts))
    differences = None
    if baseline is not None:
        bounds = percentile_intervals(by_group, score, _add_by_group(baseline.predictions.counts, groups))
        differences = {
            name: (scores[name] - value, bounds[name]) for name, value in baseline.scores.items() if name in scores
        }
    return Evaluation(
        predictions,
        settings,
        tuple(groups),
        scores,
        percentile_intervals(by_group, score),
        tuple(to_floats(score(one)) for one in predictions.counts),
        counts,
        _suggest_threshold(predictions, settings, validation, counts),
        baseline,
        differences,
        ungeoreferenced,
    )


def _add_by_group(counts: Sequence[Counts], groups: Sequence[str]) -> Counts:
    """Return the counts pooled by group, arrays (groups, ...)."""
    parts = [
        add_counts(one for one, group in zip(counts, groups, strict=True) if group == wanted)
        for wanted in dict.fromkeys(groups)
    ]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _suggest_threshold(
    predictions: Predictions, settings: ScoreSettings, validation: Sequence[Counts], counts: Counts
) -> ThresholdSuggestion | None:
    if not validation or settings.target != 1:
        return None
    histogram = add_counts(validation)["probability"][0]
    found = calibration.best_threshold(histogram)
    if found is None:
        return None
    current = predictions.threshold
    return ThresholdSuggestion(
        found[0],
        found[1],
        current,
        calibration.dice_at(histogram, current),
        calibration.dice_at(counts["probability"][0], found[0]),
    )

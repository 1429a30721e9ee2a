"""Contents of scores.json and per_image.csv."""

import csv
import io
import json
import math
from typing import Any

from eval.predictions import described
from eval.report.results import Evaluation, ThresholdSuggestion
from eval.report.verdict import verdict


def scores_json(evaluation: Evaluation) -> str:
    """Return all scores, intervals and differences, and the model card, as JSON; undefined scores are null."""
    predictions = evaluation.predictions
    content: dict[str, Any] = {
        "verdict": verdict(evaluation),
        "model": predictions.model.name,
        "data": predictions.split.data,
        "split": predictions.split.name,
        "mapping": described(predictions.mapping),
        "images": len(evaluation.image_names),
        "groups": evaluation.group_count,
        "backend": predictions.backend,
        "classes": list(evaluation.settings.class_names),
        "scores": evaluation.scores,
        "training_dice": evaluation.training_dice,
        "intervals": {name: list(bounds) for name, bounds in evaluation.intervals.items()},
        "confusion": evaluation.counts["confusion"].astype(int).tolist(),
        "threshold": None if evaluation.threshold is None else _threshold(evaluation.threshold),
        "card": predictions.model.card.model_dump(mode="json"),
    }
    if evaluation.baseline is not None and evaluation.differences is not None:
        content["baseline"] = {
            "model": evaluation.baseline.predictions.model.name,
            "scores": evaluation.baseline.scores,
            "differences": {
                name: {"value": value, "interval": list(bounds)}
                for name, (value, bounds) in evaluation.differences.items()
            },
        }
    return json.dumps(_without_nan(content), indent=2, ensure_ascii=False) + "\n"


def per_image_csv(evaluation: Evaluation) -> str:
    """Return a row of scores for each image as CSV; undefined scores are empty."""
    out = io.StringIO()
    columns = list(evaluation.scores)
    extra = [] if evaluation.baseline is None else ["dice_difference"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "group", "pixels", *extra, *columns])
    differences = dict(evaluation.image_differences())
    for name, group, counts, scores in zip(
        evaluation.image_names, evaluation.groups, evaluation.predictions.counts, evaluation.images, strict=True
    ):
        values = [differences.get(name, math.nan)] * len(extra) + [scores[column] for column in columns]
        cells = ["" if math.isnan(value) else repr(value) for value in values]
        writer.writerow([name, group, int(counts["confusion"].sum()), *cells])
    return out.getvalue()


def _threshold(threshold: ThresholdSuggestion) -> dict[str, float]:
    return {
        "value": threshold.value,
        "validation_dice": threshold.validation_dice,
        "now": threshold.current,
        "validation_dice_now": threshold.current_validation_dice,
        "dice": threshold.dice,
    }


def _without_nan(value: Any) -> Any:
    """Replace NaN with None, recursively."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value

"""The scores of a confusion matrix, against scikit-learn's on the pooled pixels of all batches."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from train.metrics import scores

from .pixels import IGNORE, NAMES, batches, count, pooled_pixels


def expected_scores(pairs, **options):
    prediction, target = pooled_pixels(pairs)
    options = {"zero_division": 0, **options}
    f1 = sklearn_metrics.f1_score(target, prediction, **options)
    return {
        "iou": sklearn_metrics.jaccard_score(target, prediction, **options),
        "dice": f1,
        "f1": f1,
        "precision": sklearn_metrics.precision_score(target, prediction, **options),
        "recall": sklearn_metrics.recall_score(target, prediction, **options),
    }


def accuracy(pairs):
    prediction, target = pooled_pixels(pairs)
    return sklearn_metrics.accuracy_score(target, prediction)


def test_binary_scores_are_scikit_learns_of_the_target_class():
    pairs = batches(2)
    expected = {"accuracy": accuracy(pairs), **expected_scores(pairs, pos_label=1)}
    result = scores(count(pairs, 1).confusion, NAMES[:2], target_only=True)
    assert result == pytest.approx(expected, rel=1e-12)
    assert result["f1"] == result["dice"]
    assert len(set(result.values())) == 5  # no score is another under a wrong name


def test_multiclass_scores_are_scikit_learns_macro_means_and_each_class():
    pairs = batches(3)
    result = scores(count(pairs, 3).confusion, NAMES, target_only=False)
    expected = {"accuracy": accuracy(pairs), **expected_scores(pairs, average="macro")}
    for key, values in expected_scores(pairs, average=None).items():
        expected |= {f"{key}/{name}": value for name, value in zip(NAMES, values, strict=True)}
    assert result == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_the_mean_of_batch_scores_is_another_number(num_classes):
    target_only = num_classes == 1
    pairs = batches(2 if target_only else 3)
    names = NAMES[:2] if target_only else NAMES
    pooled = scores(count(pairs, num_classes).confusion, names, target_only=target_only)
    for key in ("accuracy", "iou", "dice", "precision", "recall"):
        each = [scores(count([pair], num_classes).confusion, names, target_only=target_only)[key] for pair in pairs]
        assert abs(np.mean(each) - pooled[key]) > 0.01


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    pairs = [(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))]
    result = scores(count(pairs, 3).confusion, NAMES, target_only=False)
    # scikit-learn's labels are those that occur in the truth or the prediction.
    expected = expected_scores(pairs, average="macro")
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert all(math.isnan(result[f"{key}/nereo"]) for key in expected)


@pytest.mark.parametrize(("prediction", "target"), [([0, 0, 2], [0, 0, 0]), ([0, 0, 0], [0, 0, 2])])
def test_a_class_that_is_only_predicted_or_only_true_scores_zero_in_the_mean(prediction, target):
    pairs = [(torch.tensor(prediction), torch.tensor(target))]
    result = scores(count(pairs, 3).confusion, NAMES, target_only=False)
    expected = expected_scores(pairs, average="macro")
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert [result[f"{key}/nereo"] for key in expected] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(("prediction", "target"), [([0, 1], [0, 0]), ([0, 0], [0, 1])])
def test_binary_scores_are_zero_where_only_one_side_has_the_target(prediction, target):
    result = scores(count([(torch.tensor(prediction), torch.tensor(target))], 1).confusion, NAMES[:2], target_only=True)
    assert result == {"accuracy": 0.5, "iou": 0, "dice": 0, "f1": 0, "precision": 0, "recall": 0}


def test_binary_scores_without_any_target_are_undefined_but_accuracy():
    result = scores(count([(torch.tensor([0, 0]), torch.tensor([0, 0]))], 1).confusion, NAMES[:2], target_only=True)
    assert result.pop("accuracy") == 1
    assert len(result) == 5
    assert all(math.isnan(value) for value in result.values())


@pytest.mark.parametrize("num_classes", [1, 3])
def test_without_a_valid_pixel_every_score_is_undefined(num_classes):
    target_only = num_classes == 1
    confusion = count([(torch.tensor([0, 1]), torch.tensor([IGNORE, IGNORE]))], num_classes)
    result = scores(confusion.confusion, NAMES[:2] if target_only else NAMES, target_only=target_only)
    assert all(math.isnan(value) for value in result.values())
    assert math.isnan(confusion.loss)


def test_an_inverted_prediction_scores_zero_after_any_number_of_perfect_training_batches():
    # What the earlier tool got wrong: one metric set for all phases let training batches lift the validation score.
    target = torch.tensor([[0, 1], [1, 0]])
    phases = {"train": count([(target, target)] * 20, 1), "val": count([(1 - target, target)], 1)}
    assert scores(phases["val"].confusion, NAMES[:2], target_only=True)["dice"] == 0
    assert scores(phases["train"].confusion, NAMES[:2], target_only=True)["dice"] == 1

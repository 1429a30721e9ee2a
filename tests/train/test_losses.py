"""Values of the losses against other people's code and formulas written out in NumPy, one pixel list at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, matthews_corrcoef
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from tests.train.every_loss import IGNORE, draw, loss_and_grad, make, pixel_list
from train.losses import SumOfLosses, build_loss


def overlap(p, g, *, alpha, beta, smooth):
    tp, fp, fn = (p * g).sum(), (p * (1 - g)).sum(), ((1 - p) * g).sum()
    return (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(
    ("name", "opts", "alpha", "beta", "gamma"),
    [
        ("DiceLoss", {}, 0.5, 0.5, 1),
        ("JaccardLoss", {}, 1, 1, 1),
        ("TverskyLoss", {"alpha": 0.2, "beta": 0.9}, 0.2, 0.9, 1),
        ("TverskyLoss", {"alpha": 0.2, "beta": 0.9, "gamma": 2.0}, 0.2, 0.9, 2.0),
        ("FocalTverskyLoss", {}, 0.3, 0.7, 3 / 4),
        ("FocalTverskyLoss", {"delta": 0.9, "gamma": 2.0}, 0.1, 0.9, 2.0),
    ],
)
def test_overlap_losses_follow_their_formula(name, opts, alpha, beta, gamma, smooth, num_classes):
    logits, target = draw(num_classes)
    p, g = pixel_list(logits, target)
    classes = [1] if num_classes == 1 else [0, 1, 2]
    terms = [(1 - overlap(p[:, c], g[:, c], alpha=alpha, beta=beta, smooth=smooth)) ** gamma for c in classes]
    loss = make(name, {**opts, "smooth": smooth}, num_classes)(logits, target)
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_log_classes_and_class_weights_of_an_overlap_loss():
    logits, target = draw(3)
    p, g = pixel_list(logits, target)
    scores = [overlap(p[:, c], g[:, c], alpha=0.5, beta=0.5, smooth=1.0) for c in range(3)]
    opts = {"classes": [0, 2], "class_weights": [1.0, 5.0, 3.0], "log_loss": True}
    expected = -(1 * math.log(scores[0]) + 3 * math.log(scores[2])) / 4
    assert make("DiceLoss", opts, 3)(logits, target).item() == pytest.approx(expected, rel=1e-12)


def test_an_absent_class_counts_by_its_false_positives_or_without_smoothing_not_at_all():
    logits, target = draw(3)
    target[target == 1] = 2
    p, g = pixel_list(logits, target)
    for smooth, classes in ((1.0, [0, 1, 2]), (0.0, [0, 2])):
        expected = np.mean([1 - overlap(p[:, c], g[:, c], alpha=0.5, beta=0.5, smooth=smooth) for c in classes])
        assert make("DiceLoss", {"smooth": smooth}, 3)(logits, target).item() == pytest.approx(expected, rel=1e-12)


def test_a_false_positive_costs_alpha_and_a_false_negative_beta():
    target = torch.tensor([[[1, 1, 0, 0]]])
    too_much, too_little = (torch.tensor([[[row]]]) * 1e4 for row in ([1.0, 1, 1, -1], [1.0, -1, -1, -1]))
    loss = make("TverskyLoss", {"alpha": 2.0, "beta": 5.0, "smooth": 0.0}, 1)
    assert loss(too_much, target).item() == pytest.approx(1 - 2 / (2 + 2 * 1))
    assert loss(too_little, target).item() == pytest.approx(1 - 1 / (1 + 5 * 1))


@pytest.mark.parametrize("num_classes", [1, 3])
def test_hard_predictions_give_the_discrete_scores_of_scikit_learn(num_classes):
    logits, target = draw(num_classes, seed=3)
    hard = logits.sign() * 1e4 if num_classes == 1 else logits * 1e4
    predicted = hard.argmax(1) if num_classes > 1 else (hard[:, 0] > 0).long()
    valid = target != IGNORE
    truth, predicted = target[valid].numpy(), predicted[valid].numpy()
    average = "binary" if num_classes == 1 else "macro"
    expected = {
        "DiceLoss": 1 - f1_score(truth, predicted, average=average),
        "JaccardLoss": 1 - jaccard_score(truth, predicted, average=average),
        "MCCLoss": 1 - matthews_corrcoef(truth, predicted),
    }
    if num_classes > 1:
        expected["LovaszLoss"] = expected["JaccardLoss"]
    opts = {"DiceLoss": {"smooth": 0.0}, "JaccardLoss": {"smooth": 0.0}, "MCCLoss": {"eps": 1e-9}}
    for name, value in expected.items():
        assert 0.1 < value < 1.5  # the draw is neither right nor hopeless
        assert make(name, opts.get(name, {}), num_classes)(hard, target).item() == pytest.approx(value, abs=1e-8), name


def jaccard_set_loss(wrong, foreground):
    """1 - IoU where exactly the pixels ``wrong`` are mispredicted (Berman et al. 2018, eq. 3 to 6)."""
    union = foreground | wrong
    return 1 - len(foreground - wrong) / len(union) if union else 0.0


def lovasz_extension(errors, foreground):
    """The definition: chains of sets of the worst pixels, each weighed by the error of the pixel that joins it."""
    foreground = {i for i, is_foreground in enumerate(foreground) if is_foreground}
    total, wrong = 0.0, set()
    for i in np.argsort(-errors):
        total += errors[i] * (jaccard_set_loss(wrong | {i}, foreground) - jaccard_set_loss(wrong, foreground))
        wrong |= {i}
    return total


def lovasz_of_pixels(logits, target, classes, *, absent=False):
    p, g = pixel_list(logits, target)
    if logits.shape[1] == 1:
        margin = np.log(p[:, 1] / p[:, 0]) * (2 * g[:, 1] - 1)
        return lovasz_extension(np.maximum(0, 1 - margin), g[:, 1])
    return np.mean([lovasz_extension(abs(g[:, c] - p[:, c]), g[:, c]) for c in classes if absent or g[:, c].any()])


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(
    ("num_classes", "opts", "classes"),
    [
        (1, {}, None),
        (3, {}, [0, 1, 2]),
        (3, {"classes": [2, 0]}, [0, 2]),
        (3, {"classes": "all"}, [0, 1, 2]),
    ],
)
def test_lovasz_is_the_lovasz_extension_of_the_jaccard_loss(num_classes, opts, classes, per_image):
    logits, target = draw(num_classes, shape=(3, 4, 5))
    target[1][target[1] == 1] = 0  # a class that one image lacks
    images = [(logits[i : i + 1], target[i : i + 1]) for i in range(3)] if per_image else [(logits, target)]
    expected = [lovasz_of_pixels(*image, classes, absent=opts.get("classes") == "all") for image in images]
    loss = make("LovaszLoss", {**opts, "per_image": per_image}, num_classes)
    assert loss(logits, target).item() == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_lovasz_per_image_leaves_out_an_image_that_is_wholly_ignored(num_classes):
    logits, target = draw(num_classes, shape=(3, 4, 5))
    target[1] = IGNORE
    loss = make("LovaszLoss", {"per_image": True}, num_classes)
    assert loss(logits, target).item() == pytest.approx(loss(logits[[0, 2]], target[[0, 2]]).item(), rel=1e-12)


def test_lovasz_softmax_leaves_absent_classes_out_of_the_mean_unless_told():
    logits, target = draw(3)
    target[target == 1] = 2
    present = make("LovaszLoss", {}, 3)(logits, target).item()
    assert present == pytest.approx(lovasz_of_pixels(logits, target, [0, 2]), rel=1e-9)
    assert make("LovaszLoss", {"classes": [1, 2]}, 3)(logits, target).item() == pytest.approx(
        lovasz_of_pixels(logits, target, [2]), rel=1e-9
    )
    everything = lovasz_of_pixels(logits, target, [0, 1, 2], absent=True)
    assert make("LovaszLoss", {"classes": "all"}, 3)(logits, target).item() == pytest.approx(everything, rel=1e-9)


@pytest.mark.parametrize("wrong", list(itertools.product([False, True], repeat=5)))
def test_lovasz_hinge_is_one_minus_iou_of_any_wrong_set(wrong):
    target = torch.tensor([[[1, 1, 0, 0, 1]]])
    side = 2.0 * target - 1
    # A right pixel beyond margin 1 has no error, a pixel on the boundary the error 1: the corners of the unit cube.
    logits = torch.where(torch.tensor([[wrong]]), 0.0, 1e4 * side).unsqueeze(1)
    expected = jaccard_set_loss({i for i in range(5) if wrong[i]}, {0, 1, 4})
    assert make("LovaszLoss", {}, 1)(logits, target).item() == pytest.approx(expected, abs=1e-6)


def test_lovasz_of_many_pixels_keeps_its_gradient_in_float32():
    pixels = 2**19
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 1, pixels, generator=generator)
    target = (torch.rand(1, 1, pixels, generator=generator) < 0.3).long()
    loss = make("LovaszLoss", {}, 1)
    _, single = loss_and_grad(loss, logits, target)
    _, double = loss_and_grad(loss, logits.double(), target)
    used = double != 0
    assert used.sum() > pixels / 2
    # Equal hinges in float32 may swap places, which moves a step by about one part in a million.
    assert ((single[used] - double[used]).abs() / double[used].abs()).quantile(0.999) < 1e-5


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.7, 0.0), (-1, 3.0), (0.4, 0.5)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_binary_focal_loss_is_torchvisions(alpha, gamma, reduction):
    logits, target = draw(1)
    valid = target != IGNORE
    expected = sigmoid_focal_loss(logits[:, 0][valid], target[valid].double(), alpha, gamma, reduction)
    opts = {"alpha": None if alpha < 0 else alpha, "gamma": gamma, "reduction": reduction}  # -1 switches theirs off
    assert make("FocalLoss", opts, 1)(logits, target).item() == pytest.approx(expected.item(), rel=1e-9)


def focal_terms(logits, target, gamma):
    p, g = pixel_list(logits, target)
    p_true, labels = p[g == 1], g.argmax(1)
    return p_true, labels, (1 - p_true) ** gamma


def test_focal_loss_of_a_softmax():
    logits, target = draw(3)
    p_true, labels, factor = focal_terms(logits, target, 1.7)
    per_class = np.array([0.2, 0.3, 0.9])
    terms = -factor * np.log(p_true)
    for alpha, weight in ((None, 1), (list(per_class), per_class[labels]), (0.8, np.array([0.2, 0.8, 0.8])[labels])):
        loss = make("FocalLoss", {"gamma": 1.7, "alpha": alpha}, 3)(logits, target)
        assert loss.item() == pytest.approx((weight * terms).mean(), rel=1e-12)


def test_a_pair_of_channels_has_the_focal_loss_of_one():
    logits, target = draw(1)
    pair = torch.cat([torch.full_like(logits, 0.3), logits + 0.3], dim=1)
    opts = {"alpha": 0.2}
    one, two = make("FocalLoss", opts, 1)(logits, target), make("FocalLoss", opts, 2)(pair, target)
    assert one.item() == pytest.approx(two.item(), rel=1e-12)


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_reduced_focal_loss(num_classes, threshold):
    logits, target = draw(num_classes)
    p_true, _, factor = focal_terms(logits, target, 2.0)
    factor = np.where(p_true < threshold, 1.0, factor / threshold**2)
    loss = make("FocalLoss", {"gamma": 2.0, "reduced_threshold": threshold}, num_classes)(logits, target)
    assert loss.item() == pytest.approx((-factor * np.log(p_true)).mean(), rel=1e-12)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_normalized_focal_loss_is_a_weighted_mean_whose_weights_get_no_gradient(num_classes):
    logits, target = draw(num_classes)
    p_true, _, factor = focal_terms(logits, target, 2.0)
    value, grad = loss_and_grad(make("FocalLoss", {"normalized": True}, num_classes), logits, target)
    assert value.item() == pytest.approx((-factor * np.log(p_true)).sum() / factor.sum(), rel=1e-12)
    _, plain = loss_and_grad(make("FocalLoss", {"reduction": "sum"}, num_classes), logits, target)
    torch.testing.assert_close(grad, plain / factor.sum())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 3.0]])
def test_cross_entropy_is_torchs(class_weights, label_smoothing):
    logits, target = draw(3)
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=logits.dtype)
    expected = F.cross_entropy(logits, target, weight, ignore_index=IGNORE, label_smoothing=label_smoothing)
    opts = {"class_weights": class_weights, "label_smoothing": label_smoothing}
    assert make("CELoss", opts, 3)(logits, target).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_torchs(label_smoothing):
    logits, target = draw(1)
    valid = target != IGNORE
    z, y = logits[:, 0][valid], target[valid].double()
    soft = y * (1 - label_smoothing) + label_smoothing / 2
    plain = F.binary_cross_entropy_with_logits(z, soft)
    for name in ("BCELoss", "CELoss"):
        loss = make(name, {"label_smoothing": label_smoothing}, 1)(logits, target)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    weighted = F.binary_cross_entropy_with_logits(z, soft, pos_weight=torch.tensor(3.0))
    loss = make("BCELoss", {"label_smoothing": label_smoothing, "pos_weight": 3.0}, 1)(logits, target)
    assert loss.item() == pytest.approx(weighted.item(), rel=1e-12)


def test_binary_class_weights_are_those_of_background_and_target():
    logits, target = draw(1)
    valid = target != IGNORE
    z, y = logits[:, 0][valid], target[valid].double()
    weight = torch.where(y == 1, 5.0, 0.5)
    expected = F.binary_cross_entropy_with_logits(z, y, weight, reduction="sum") / weight.sum()
    for name in ("BCELoss", "CELoss"):
        loss = make(name, {"class_weights": [0.5, 5.0]}, 1)(logits, target)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_mcc_loss_follows_the_usual_formula():
    logits, target = draw(1)
    p, g = (values[:, 1] for values in pixel_list(logits, target))
    tp, fp = (p * g).sum() + 1, (p * (1 - g)).sum() + 1
    fn, tn = ((1 - p) * g).sum() + 1, ((1 - p) * (1 - g)).sum() + 1
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert make("MCCLoss", {}, 1)(logits, target).item() == pytest.approx(1 - mcc, rel=1e-12)


def test_mcc_loss_of_several_classes_is_gorodkins_coefficient():
    logits, target = draw(3)
    p, g = pixel_list(logits, target)
    table = g.T @ p
    size, truth, predicted = table.sum(), table.sum(1), table.sum(0)
    numerator = table.trace() * size - truth @ predicted
    expected = numerator / math.sqrt((size**2 - predicted @ predicted) * (size**2 - truth @ truth))
    assert make("MCCLoss", {"eps": 1e-12}, 3)(logits, target).item() == pytest.approx(1 - expected, rel=1e-9)


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize(("alpha", "focal_weight", "dice_weight"), [(None, 1, 1), (0.3, 0.3, 0.7)])
def test_focal_dice_combo_adds_both_with_their_own_options(num_classes, alpha, focal_weight, dice_weight):
    logits, target = draw(num_classes)
    mode = "binary" if num_classes == 1 else "multiclass"
    focal_kwargs = {"mode": mode, "gamma": 3.0, "reduction": "mean", "alpha": None}
    dice_kwargs = {"mode": mode, "from_logits": True, "smooth": 4.0}
    opts = {"mode": mode, "focal_kwargs": focal_kwargs, "dice_kwargs": dice_kwargs, "alpha": alpha}
    focal = make("FocalLoss", focal_kwargs, num_classes)(logits, target)
    dice = make("DiceLoss", dice_kwargs, num_classes)(logits, target)
    loss = make("FocalDiceComboLoss", opts, num_classes)(logits, target)
    assert loss.item() == pytest.approx((focal_weight * focal + dice_weight * dice).item(), rel=1e-12)


def test_build_loss_weighs_and_adds_its_terms():
    logits, target = draw(1)
    terms = [
        {"name": "DiceLoss", "weight": 0.25, "opts": {"smooth": 3.0}},
        {"name": "BCELoss", "weight": 4.0, "opts": {}},
    ]
    loss = build_loss(terms, num_classes=1, ignore_index=IGNORE)
    assert isinstance(loss, SumOfLosses)
    dice, bce = make("DiceLoss", {"smooth": 3.0}, 1), make("BCELoss", {}, 1)
    expected = 0.25 * dice(logits, target) + 4 * bce(logits, target)
    assert loss(logits, target).item() == pytest.approx(expected.item(), rel=1e-12)

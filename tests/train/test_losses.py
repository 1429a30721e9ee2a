"""The losses against other people's code and against formulas written out in NumPy, one pixel list at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, matthews_corrcoef
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from train.losses import LOSSES, SumOfLosses, build_loss

IGNORE = 255

# Every loss, with the options that change its shape. None of them is left out of a property below without a reason.
SHARED = [
    ("DiceLoss", {}),
    ("DiceLoss", {"smooth": 0.0}),
    ("DiceLoss", {"log_loss": True}),
    ("JaccardLoss", {}),
    ("TverskyLoss", {"alpha": 0.3, "beta": 0.7, "gamma": 1.5}),
    ("FocalTverskyLoss", {}),
    ("LovaszLoss", {}),
    ("LovaszLoss", {"per_image": True}),
    ("FocalLoss", {}),
    ("FocalLoss", {"alpha": 0.25, "gamma": 0.5}),
    ("FocalLoss", {"normalized": True}),
    ("FocalLoss", {"reduced_threshold": 0.5}),
    ("FocalLoss", {"reduction": "sum"}),
    ("CELoss", {"label_smoothing": 0.1}),
    ("MCCLoss", {}),
    ("FocalDiceComboLoss", {"alpha": 0.3, "focal_kwargs": {"gamma": 1.0}, "dice_kwargs": {"smooth": 0.5}}),
]
BINARY = [("BCELoss", {}), ("BCELoss", {"pos_weight": 30.0, "class_weights": [0.5, 20.0]})]
MULTICLASS = [
    ("CELoss", {"class_weights": [0.5, 2.0, 30.0]}),
    ("DiceLoss", {"classes": [1, 2], "class_weights": [1.0, 2.0, 3.0]}),
    ("FocalLoss", {"alpha": [0.2, 0.3, 0.5]}),
    ("LovaszLoss", {"classes": "all"}),
    ("LovaszLoss", {"classes": [0, 2]}),
]
CASES = [
    pytest.param(name, opts, num_classes, id=f"{name}-{num_classes}-{'-'.join(opts)}")
    for num_classes, cases in ((1, SHARED + BINARY), (3, SHARED + MULTICLASS))
    for name, opts in cases
]
every_loss = pytest.mark.parametrize(("name", "opts", "num_classes"), CASES)


def every_loss_but(left_out):
    """Every loss for which ``left_out(num_classes, options)`` doesn't hold; each use says why."""
    chosen = [case for case in CASES if not left_out(case.values[2], case.values[1])]
    return pytest.mark.parametrize(("name", "opts", "num_classes"), chosen)


def make(name, opts, num_classes, ignore_index=IGNORE):
    return build_loss([{"name": name, "weight": 1.0, "opts": opts}], num_classes=num_classes, ignore_index=ignore_index)


def draw(num_classes, *, seed=0, shape=(2, 4, 5), scale=2.0, dtype=torch.float64):
    """Logits and labels with each class and some ignored pixels in every image."""
    generator = torch.Generator().manual_seed(seed)
    count, height, width = shape
    logits = torch.randn(count, num_classes, height, width, generator=generator, dtype=dtype) * scale
    pixels = height * width
    labels = torch.arange(pixels).repeat(count, 1) % (max(num_classes, 2) + 1)
    labels = torch.stack([row[torch.randperm(pixels, generator=generator)] for row in labels])
    target = labels.reshape(count, height, width)
    return logits, target.masked_fill(target == max(num_classes, 2), IGNORE)


def loss_and_grad(loss, logits, target):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    (grad,) = torch.autograd.grad(value, logits)
    return value.detach(), grad


def pixel_list(logits, target):
    """Probabilities (M, K) and one-hot labels (M, K) of the M valid pixels, in NumPy."""
    z = logits.movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    labels = target.reshape(-1).numpy()
    z, labels = z[labels != IGNORE], labels[labels != IGNORE]
    if z.shape[1] == 1:
        positive = 1 / (1 + np.exp(-z[:, 0]))
        p = np.stack([1 - positive, positive], axis=1)
    else:
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return p, np.eye(p.shape[1])[labels]


# Values


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


@pytest.mark.parametrize("wrong", itertools.product([False, True], repeat=5))
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


# Properties of every loss


@every_loss
def test_every_loss_is_named_and_a_scalar(name, opts, num_classes):
    logits, target = draw(num_classes)
    value = make(name, opts, num_classes)(logits, target)
    assert name in LOSSES
    assert value.shape == ()
    assert value.item() > 0


def test_every_name_is_tested():
    assert {case.values[0] for case in CASES} == set(LOSSES)


@every_loss
def test_ignored_pixels_change_neither_the_loss_nor_any_gradient(name, opts, num_classes):
    logits, target = draw(num_classes)
    ignored = (target == IGNORE).unsqueeze(1).expand_as(logits)
    loss = make(name, opts, num_classes)
    value, grad = loss_and_grad(loss, logits, target)
    for garbage in (-50.0, math.inf, math.nan):
        other_value, other_grad = loss_and_grad(loss, logits.masked_fill(ignored, garbage), target)
        assert torch.equal(value, other_value)
        assert torch.equal(grad, other_grad)
    assert (grad[ignored] == 0).all()
    assert (grad[~ignored] != 0).any()


# Images have no meaning in a list of pixels; test_lovasz_per_image_... are theirs.
@every_loss_but(lambda _, opts: "per_image" in opts)
def test_ignored_pixels_are_in_no_divider_and_no_smoothing(name, opts, num_classes):
    logits, target = draw(num_classes)
    valid = target != IGNORE
    listed = logits.movedim(1, -1)[valid].T.reshape(1, num_classes, 1, -1)
    loss = make(name, opts, num_classes)
    value, grad = loss_and_grad(loss, logits, target)
    listed_value, listed_grad = loss_and_grad(loss, listed, target[valid].reshape(1, 1, -1))
    assert value.item() == pytest.approx(listed_value.item(), rel=1e-12)
    torch.testing.assert_close(grad.movedim(1, -1)[valid], listed_grad[0, :, 0].T)


@every_loss
def test_a_batch_without_valid_pixels_is_a_graph_connected_zero(name, opts, num_classes):
    logits, target = draw(num_classes, dtype=torch.float32)
    logits.requires_grad_()
    value = make(name, opts, num_classes)(logits, torch.full_like(target, IGNORE))
    assert value.shape == ()
    assert value.item() == 0
    (value * 2**16).backward()  # as under a gradient scaler, which an infinite inner slope would turn into NaN
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("name", "opts", "num_classes"),
    [
        ("CELoss", {"class_weights": [0.0, 1.0]}, 1),
        ("DiceLoss", {"smooth": 0.0}, 1),
        ("DiceLoss", {"smooth": 0.0, "classes": [1, 2]}, 3),
        ("DiceLoss", {"smooth": 0.0, "class_weights": [0.0, 1.0, 1.0]}, 3),
        ("LovaszLoss", {"classes": [1, 2]}, 3),
        ("LovaszLoss", {"classes": [1, 2], "per_image": True}, 3),
    ],
)
def test_a_mean_over_nothing_is_zero_and_has_no_slope(name, opts, num_classes):
    logits, target = draw(num_classes, dtype=torch.float32)
    logits.requires_grad_()
    value = make(name, opts, num_classes)(logits, target.masked_fill(target != IGNORE, 0))
    (value * 2**16).backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_batch_of_one_class_is_finite(name, opts, num_classes, label, scale):
    logits, target = draw(num_classes, scale=scale, dtype=torch.float32)
    target = target.masked_fill(target != IGNORE, label)
    value, grad = loss_and_grad(make(name, opts, num_classes), logits, target)
    assert value.isfinite()
    assert value >= 0
    assert grad.isfinite().all()


# Without smoothing, Dice has no slope where the target is absent; [1, 2] has background out of the mean.
@every_loss_but(
    lambda num_classes, opts: opts == {"smooth": 0.0} if num_classes == 1 else opts.get("classes") == [1, 2]
)
def test_a_batch_of_background_teaches_to_leave_it_empty(name, opts, num_classes):
    logits, target = draw(num_classes)
    target = target.masked_fill(target != IGNORE, 0)
    loss = make(name, opts, num_classes)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    predicted = logits[:, 0] > 0 if num_classes == 1 else logits.argmax(1)
    assert (predicted[target != IGNORE] == 0).all()


@every_loss
@pytest.mark.parametrize("right", [True, False])
def test_extreme_logits_stay_finite(name, opts, num_classes, right):
    _, target = draw(num_classes)
    labels = target.masked_fill(target == IGNORE, 0)
    onehot = labels.unsqueeze(1) if num_classes == 1 else F.one_hot(labels, num_classes).movedim(-1, 1)
    logits = (2.0 * onehot - 1) * (1e4 if right else -1e4)
    value, grad = loss_and_grad(make(name, opts, num_classes), logits, target)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert grad.isfinite().all()
    if right and "label_smoothing" not in opts and name != "MCCLoss":
        assert value.item() == pytest.approx(0, abs=1e-4)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name, opts, num_classes, dtype):
    logits, target = draw(num_classes, shape=(2, 60, 60), scale=4.0)
    half = logits.to(dtype)
    loss = make(name, opts, num_classes)
    expected, expected_grad = loss_and_grad(loss, half.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, grad = loss_and_grad(loss, half, target)
        inside, _ = loss_and_grad(loss, half.float(), target)
        alone = LOSSES[name](num_classes=num_classes, ignore_index=IGNORE, **opts)(half, target)
    assert value.dtype == torch.float32
    assert torch.equal(alone, expected)
    assert torch.equal(value, expected)
    assert torch.equal(inside, expected)
    assert grad.dtype == dtype
    assert torch.equal(grad, expected_grad.to(dtype))


# A class that the mean leaves out isn't learned.
@every_loss_but(lambda _, opts: opts.get("classes") in ([1, 2], [0, 2]))
def test_descending_the_loss_finds_the_labels(name, opts, num_classes):
    logits, target = draw(num_classes, seed=1)
    logits.requires_grad_()
    loss = make(name, opts, num_classes)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    values = []
    for _ in range(80):
        optimizer.zero_grad()
        values.append(loss(logits, target))
        values[-1].backward()
        optimizer.step()
    predicted = (logits[:, 0] > 0).long() if num_classes == 1 else logits.argmax(1)
    valid = target != IGNORE
    assert torch.equal(predicted[valid], target[valid])
    assert values[40] < values[0]
    assert values[-1] < 0.75 * values[0]


# The weights of the normalized focal loss are held constant on purpose; its gradient is compared with the plain one's.
@every_loss_but(lambda _, opts: "normalized" in opts)
def test_gradients_are_those_of_finite_differences(name, opts, num_classes):
    logits, target = draw(num_classes, shape=(2, 2, 4), scale=1.0)
    loss = make(name, opts, num_classes)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_(), atol=1e-7)


@every_loss
def test_the_layout_and_the_label_dtype_do_not_matter(name, opts, num_classes):
    logits, target = draw(num_classes)
    expected = make(name, opts, num_classes)(logits, target)
    strided = logits.contiguous(memory_format=torch.channels_last)
    assert make(name, opts, num_classes)(strided, target.to(torch.uint8)).item() == pytest.approx(expected.item())
    for ignore_index in (3, -1, -100):
        relabelled = target.masked_fill(target == IGNORE, ignore_index)
        assert make(name, opts, num_classes, ignore_index)(logits, relabelled).item() == pytest.approx(expected.item())


def test_a_negative_ignore_index_is_not_wrapped_into_uint8():
    # 156 is -100 in uint8: such pixels must not be taken for ignored ones where they are class 156.
    logits = torch.randn(1, 157, 1, 2, generator=torch.Generator().manual_seed(0))
    target = torch.full((1, 1, 2), 156)
    loss = make("CELoss", {}, 157, ignore_index=-100)
    assert loss(logits, target.to(torch.uint8)).item() == pytest.approx(F.cross_entropy(logits, target).item())


@every_loss
def test_nothing_depends_on_the_data_but_values(name, opts, num_classes):
    # Without data there is nothing to wait for: .item() and boolean indexing raise on fake tensors.
    from torch._subclasses.fake_tensor import FakeTensorMode

    logits, target = draw(num_classes)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(logits).requires_grad_()
        value = make(name, opts, num_classes)(fake, mode.from_tensor(target))
        value.backward()
    assert value.shape == ()
    assert fake.grad.shape == logits.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_deterministic_cuda_gives_what_the_cpu_gives_without_waiting():
    for name, opts, num_classes in (case.values for case in CASES):
        logits, target = draw(num_classes)
        loss = make(name, opts, num_classes)
        expected, expected_grad = loss_and_grad(loss, logits, target)
        on_device, target_on_device = logits.cuda(), target.cuda()
        torch.use_deterministic_algorithms(True)
        try:
            value, grad = loss_and_grad(loss, on_device, target_on_device)
            torch.cuda.set_sync_debug_mode("error")
            loss(on_device, target_on_device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            torch.use_deterministic_algorithms(False)
        torch.testing.assert_close(value.cpu(), expected)
        torch.testing.assert_close(grad.cpu(), expected_grad)


# Errors


@pytest.mark.parametrize(
    ("name", "opts", "num_classes", "message"),
    [
        ("DiceLoss", {"mode": "multiclass"}, 1, "mode is 'multiclass', but num_classes = 1 means 'binary'"),
        ("LovaszLoss", {"mode": "binary"}, 3, "mode is 'binary', but num_classes = 3 means 'multiclass'"),
        ("FocalDiceComboLoss", {"dice_kwargs": {"mode": "binary"}}, 2, "DiceLoss: mode is 'binary'"),
        ("FocalLoss", {"from_logits": False}, 1, "from_logits must be true"),
        ("BCELoss", {}, 3, "CELoss takes several classes"),
        ("CELoss", {"class_weights": [1.0, 2.0]}, 3, "class_weights needs 3 numbers"),
        ("CELoss", {"label_smoothing": 1.0}, 3, "label_smoothing must be from 0 to below 1"),
        ("FocalLoss", {"alpha": [0.5]}, 1, "alpha needs 2 numbers"),
        ("FocalLoss", {"reduction": "none"}, 1, "reduction must be 'mean' or 'sum'"),
        ("DiceLoss", {"classes": [0]}, 1, "multiclass only"),
        ("DiceLoss", {"class_weights": [1.0, 1.0]}, 1, "multiclass only"),
        ("DiceLoss", {"classes": [0, 3]}, 3, "classes must be some of 0..2"),
        ("DiceLoss", {"classes": []}, 3, "classes must be some of 0..2"),
        ("LovaszLoss", {"classes": "some"}, 3, "classes must be 'present', 'all' or a list"),
        ("MCCLoss", {"eps": 0.0}, 1, "eps must be above 0"),
        ("DiseLoss", {}, 1, "unknown loss DiseLoss; allowed: DiceLoss, JaccardLoss"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, opts, num_classes, message):
    with pytest.raises(ValueError, match=message):
        make(name, opts, num_classes)


def test_more_refusals():
    with pytest.raises(ValueError, match="ignore_index 1 is also a class"):
        make("DiceLoss", {}, 1, ignore_index=1)
    with pytest.raises(ValueError, match="none given"):
        build_loss([], num_classes=1, ignore_index=2)
    with pytest.raises(TypeError, match="smoth"):
        make("DiceLoss", {"smoth": 1.0}, 1)


@pytest.mark.parametrize(
    ("logits_shape", "target_shape"),
    [((2, 1, 4, 4), (2, 1, 4, 4)), ((2, 3, 4, 4), (2, 4, 4)), ((2, 1, 4, 4), (2, 4, 5)), ((2, 4, 4), (2, 4, 4))],
)
def test_shapes_that_do_not_fit_are_refused(logits_shape, target_shape):
    with pytest.raises(ValueError, match=r"DiceLoss: logits .* are not"):
        make("DiceLoss", {}, 1)(torch.zeros(logits_shape), torch.zeros(target_shape, dtype=torch.long))

"""Boundary loss: its distance map against SciPy's, its value against the formula in NumPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from tests.train.every_loss import IGNORE, Case, draw, loss_and_grad, make
from train.configs.loader import load_config
from train.configs.registries.losses import match
from train.loss_terms.combo_boundary import signed_distance

EXEMPT = {
    "order": "distances depend on where pixels are",
    "zero": "the boundary term is negative where everything is right",
    "host": "distances are computed on the CPU",
}
CASES = [
    Case("ComboBoundaryLoss", exempt=EXEMPT),
    Case("ComboBoundaryLoss", {"alpha": 0.05, "dice_kwargs": {"smooth": 0.5}}, exempt=EXEMPT),
]


def masks_of(labels, classes):
    return np.stack([labels == c for c in range(classes)])


def reference(labels, classes):
    """Signed distances as the paper's authors compute them, in float64; ignored pixels belong to neither side."""
    found = np.zeros((classes, *labels.shape))
    for c in range(classes):
        inside, outside = labels == c, (labels != c) & (labels != IGNORE)
        if inside.any() and outside.any():
            found[c] = distance_transform_edt(~inside) * outside - (distance_transform_edt(~outside) - 1) * inside
    return found


def labels_of(shape, classes, seed):
    """Blobs of classes with ignored pixels between them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int64)
    for _ in range(4):
        centre, radius = rng.uniform(0, shape), rng.uniform(1, max(shape) / 3)
        labels[np.hypot(rows - centre[0], columns - centre[1]) < radius] = rng.integers(classes)
    labels[rng.random(shape) < 0.2] = IGNORE
    return labels


@pytest.mark.parametrize("shape", [(1, 9), (7, 1), (33, 40), (128, 61)])
@pytest.mark.parametrize("classes", [2, 4])
def test_distances_are_scipys(shape, classes):
    for seed in range(5):
        labels = labels_of(shape, classes, seed)
        found = signed_distance(masks_of(labels, classes))
        np.testing.assert_allclose(found, reference(labels, classes), rtol=1e-6, atol=1e-6)


def test_distances_of_a_bar():
    labels = np.array([[0, 0, 1, 1, 1, 1, IGNORE, 0]])
    # Next to the outline: 1 outside and 0 inside; the nearest background on the right is behind an ignored pixel.
    assert signed_distance(masks_of(labels, 2))[1].tolist() == [[2, 1, 0, -1, -2, -1, 0, 2]]


@pytest.mark.parametrize("labels", [[[0, 0, IGNORE]], [[1, 1, IGNORE]], [[IGNORE, IGNORE, IGNORE]]])
def test_a_class_without_an_outline_has_no_distance(labels):
    assert not signed_distance(masks_of(np.array(labels), 2)).any()


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("alpha", [0.01, 2.0])
def test_the_loss_is_dice_and_the_mean_of_distance_times_probability(num_classes, alpha):
    logits, target = draw(num_classes, shape=(3, 12, 15))
    target[1][target[1] == 1] = 0  # a class that one image lacks
    dice_kwargs = {"smooth": 2.0}
    z = logits.numpy() if num_classes > 1 else np.concatenate([0 * logits.numpy(), logits.numpy()], axis=1)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    distances = np.stack([reference(labels, max(num_classes, 2)) for labels in target.numpy()])
    counted = (distances * p)[:, 1:] if num_classes == 1 else distances * p
    boundary = counted.mean(1).sum() / (target != IGNORE).sum().item()
    dice = make("DiceLoss", dice_kwargs, num_classes)(logits, target).item()
    loss = make("ComboBoundaryLoss", {"alpha": alpha, "dice_kwargs": dice_kwargs}, num_classes)
    assert loss(logits, target).item() == pytest.approx(dice + alpha * boundary, rel=1e-6)


def test_a_false_positive_costs_more_the_further_away_it_is():
    target = torch.zeros(1, 1, 30, dtype=torch.long)
    target[..., :5] = 1
    loss = make("ComboBoundaryLoss", {"alpha": 1.0}, 1)
    values = []
    for wrong in (6, 15, 29):
        logits = (2.0 * target - 1).unsqueeze(1) * 20
        logits[..., wrong] = 20
        values.append(loss(logits, target).item())
    assert values == sorted(values)
    assert values[2] - values[0] == pytest.approx((29 - 6) / 30, rel=1e-4)


def test_without_alpha_only_dice_is_left():
    logits, target = draw(1)
    value, grad = loss_and_grad(make("ComboBoundaryLoss", {"alpha": 0.0}, 1), logits, target)
    expected, expected_grad = loss_and_grad(make("DiceLoss", {}, 1), logits, target)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad)


def test_the_same_numbers_every_time():
    logits, target = draw(3, shape=(2, 64, 64), dtype=torch.float32)
    loss = make("ComboBoundaryLoss", {}, 3)
    first, again = loss_and_grad(loss, logits, target), loss_and_grad(loss, logits, target)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", ["ComboBoundary", "ComboBoundaryLoss", "combo_boundary"])
def test_a_config_may_name_it(name, tmp_path):
    assert match(name) == "ComboBoundaryLoss"
    path = tmp_path / "c.yml"
    opts = "{alpha: 0.1, dice_kwargs: {smooth: 0.5}}"
    path.write_text(f"data_module: {{data_dir: d}}\nsegmentation_config: {{loss: {{name: {name}, opts: {opts}}}}}\n")
    assert load_config(path).config.loss_terms == [
        {"name": "ComboBoundaryLoss", "weight": 1.0, "opts": {"alpha": 0.1, "dice_kwargs": {"smooth": 0.5}}}
    ]

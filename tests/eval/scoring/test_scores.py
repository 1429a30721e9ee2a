"""Scores: each against an independent library or a closed form."""

import math
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scipy import ndimage
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from eval.scoring import boundary, calibration, confusion
from eval.scoring.bootstrap import draws, intervals
from eval.scoring.scores import Block, Classes, Distance, Grid, add, count_image, plain, score

BINARY = Classes(("background", "kelp"), 1, (Distance(2, "px"),))
SPECIES = Classes(("background", "macro", "nereo"), None, (Distance(2, "px"),))


def reader(
    label: np.ndarray, probability: np.ndarray, counted: np.ndarray | None = None, threshold: float = 0.5
) -> Any:
    """Reads blocks of arrays: probability (H, W) of class 1, or (K, H, W)."""
    if probability.ndim == 2:
        prediction, probability = (probability > threshold).astype(np.uint8), probability[None]
    else:
        prediction = probability.argmax(axis=0).astype(np.uint8)
    counted = np.ones(label.shape, bool) if counted is None else counted

    def read(first: int, stop: int) -> Block:
        rows = np.s_[first:stop]
        return Block(
            label[rows].astype(np.uint8), prediction[rows], probability[:, rows].astype(np.float32), counted[rows]
        )

    return read


def scored(label: np.ndarray, probability: np.ndarray, classes: Classes = BINARY, **more: Any) -> dict[str, float]:
    counts = count_image(reader(label, probability, **more), Grid(*label.shape), classes)
    return plain(score(counts, classes))


def blobs(rng: np.random.Generator, shape: tuple[int, int], classes: int = 2) -> np.ndarray:
    """Smooth shapes."""
    fields = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 4, 4))
    return fields.argmax(axis=0).astype(np.uint8)


def noisy(rng: np.random.Generator, label: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities that lean to the label; (H, W) for two classes."""
    logits = np.stack([label == value for value in range(classes)]) * 2.0 + rng.normal(size=(classes, *label.shape))
    shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    return (shares[1] if classes == 2 else shares).astype(np.float32)


@pytest.mark.parametrize("classes", [BINARY, SPECIES], ids=["binary", "species"])
def test_confusion_scores_are_sklearns(classes: Classes) -> None:
    rng = np.random.default_rng(0)
    label = blobs(rng, (60, 70), len(classes.names))
    probability = noisy(rng, label, len(classes.names))
    counted = rng.random(label.shape) < 0.8
    found = scored(label, probability, classes, counted=counted)
    prediction = (probability > 0.5).astype(int) if probability.ndim == 2 else probability.argmax(axis=0)
    y, p = label[counted], prediction[counted]
    average: Any = {"average": "binary"} if classes.target == 1 else {"average": "macro"}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, p), abs=1e-12)
    assert found["kappa"] == pytest.approx(sk.cohen_kappa_score(y, p), abs=1e-12)
    for name, theirs in (
        ("iou", sk.jaccard_score),
        ("dice", sk.f1_score),
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
    ):
        assert found[name] == pytest.approx(theirs(y, p, **average), abs=1e-12)
        each = theirs(y, p, average=None)
        assert [found[f"{name}/{c}"] for c in classes.names] == pytest.approx(list(each), abs=1e-12)


def test_scores_are_those_of_training() -> None:
    import torch

    from train import metrics

    matrix = np.array([[50, 3, 0], [4, 20, 0], [0, 0, 0]], float)
    theirs = metrics.scores(torch.tensor(matrix.astype(int)), SPECIES.names, target_only=False)
    ours = confusion.class_scores(matrix)
    for name, values in ours.items():
        assert confusion.mean_of_present(values) == pytest.approx(theirs[name])
        assert list(values) == pytest.approx([theirs[f"{name}/{c}"] for c in SPECIES.names], nan_ok=True)
    assert confusion.accuracy(matrix) == pytest.approx(theirs["accuracy"])


def test_boundary_iou_is_chengs() -> None:
    """His definition with his erosion, restated with SciPy; edge and ignored pixels are no outlines."""
    rng = np.random.default_rng(1)
    label, prediction = blobs(rng, (80, 90)) > 0, blobs(rng, (80, 90)) > 0
    prediction[:40] = label[:40]
    counted = np.ones(label.shape, bool)
    counted[30:50, 20:40] = False
    for d in (1, 3):
        bands = []
        for mask in (label | ~counted, prediction | ~counted):
            eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=1)
            bands.append(mask & ~eroded & counted)
        counts = boundary.count_boundary(label, prediction, counted, d, np.s_[:])
        assert counts[0] == (bands[0] & bands[1]).sum() > 0
        assert counts[1] == (bands[0] | bands[1]).sum()


@pytest.mark.parametrize("d", [1, 1.5, 3])
def test_boundary_f1_by_distances(d: float) -> None:
    rng = np.random.default_rng(2)
    label, prediction = blobs(rng, (70, 60)) > 0, blobs(rng, (70, 60)) > 0
    outlines = [m & ~ndimage.binary_erosion(m, np.ones((3, 3)), border_value=1) for m in (label, prediction)]
    far = [ndimage.distance_transform_edt(~outline) for outline in outlines]
    precision = (far[0][outlines[1]] <= d).mean()
    recall = (far[1][outlines[0]] <= d).mean()
    counts = boundary.count_boundary(label, prediction, np.ones(label.shape, bool), d, np.s_[:])
    assert boundary.boundary_f1(counts) == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_shift_by_one_pixel_changes_boundary_scores_as_the_closed_form_says(d: int) -> None:
    """A straight edge, moved by one pixel: of two bands of d rows, d - 1 are common and d + 1 are covered."""
    label = np.zeros((64, 50), np.uint8)
    label[30:] = 1
    shifted = np.roll(label, 1, axis=0)
    shifted[0] = 0
    counts = boundary.count_boundary(label > 0, shifted > 0, np.ones(label.shape, bool), d, np.s_[:])
    assert boundary.boundary_iou(counts) == pytest.approx((d - 1) / (d + 1))
    assert boundary.boundary_f1(counts) == 1
    near = boundary.count_boundary(label > 0, shifted > 0, np.ones(label.shape, bool), 0.9, np.s_[:])
    assert boundary.boundary_f1(near) == 0


def test_a_shifted_square() -> None:
    """Frames of width d of a square of side a: 4 d (a - d) pixels each, and what they share counts on paper."""
    a, d = 20, 3
    label = np.zeros((60, 60), bool)
    label[20 : 20 + a, 20 : 20 + a] = True
    shifted = np.roll(label, 1, axis=1)
    each = 4 * d * (a - d)
    # Of the upper and the lower band a - 1 columns are common; of those beside, over a - 2 d rows, d - 1 columns.
    common = 2 * d * (a - 1) + 2 * (d - 1) * (a - 2 * d)
    counts = boundary.count_boundary(label, shifted, np.ones(label.shape, bool), d, np.s_[:])
    assert boundary.boundary_iou(counts) == pytest.approx(common / (2 * each - common))


def test_strips_change_nothing() -> None:
    rng = np.random.default_rng(3)
    classes = Classes(SPECIES.names, None, (Distance(3, "px"), Distance(0.25, "m")))
    label = blobs(rng, (150, 64), 3)
    probability = noisy(rng, label, 3)
    counted = ndimage.binary_dilation(rng.random(label.shape) > 0.01, iterations=1)
    grid = Grid(*label.shape, CRS.from_epsg(32609), from_origin(5e5, 5.8e6, 0.1, 0.1))
    read = reader(label, probability, counted)
    whole = count_image(read, grid, classes, strip=1000)
    parts = count_image(read, grid, classes, strip=17)
    for name, values in whole.items():
        assert np.allclose(values, parts[name], rtol=1e-9), name


@pytest.mark.parametrize("classes", [BINARY, SPECIES], ids=["binary", "species"])
def test_a_perfect_prediction_scores_one(classes: Classes) -> None:
    label = blobs(np.random.default_rng(4), (50, 60), len(classes.names))
    shares = np.stack([label == value for value in range(len(classes.names))]).astype(np.float32)
    found = scored(label, shares[1] if classes is BINARY else shares, classes)
    for name, value in found.items():
        if name.startswith(("area_error", "calibration_error")):
            assert value == 0, name
        elif "_area/" not in name:
            assert value == 1, name


def test_an_empty_prediction_scores_zero() -> None:
    label = blobs(np.random.default_rng(5), (50, 60))
    found = scored(label, np.zeros(label.shape))
    for name in ("iou", "dice", "precision", "recall", "kappa", "boundary_iou@2 px", "boundary_f1@2 px"):
        assert found[name] == 0, name
    assert found["area_error"] == -1
    assert found["average_precision"] == pytest.approx(label.mean())  # every pixel is as probable as any other


def test_nothing_true_and_nothing_predicted_has_no_score() -> None:
    found = scored(np.zeros((20, 20)), np.zeros((20, 20)))
    for name in ("iou", "dice", "kappa", "boundary_iou@2 px", "boundary_f1@2 px", "average_precision", "area_error"):
        assert math.isnan(found[name]), name
    assert found["accuracy"] == 1


def test_an_absent_class_is_left_out_of_the_mean() -> None:
    label = blobs(np.random.default_rng(6), (50, 60))
    shares = np.stack([label == 0, label == 1, np.zeros(label.shape)]).astype(np.float32)
    found = scored(label, shares, SPECIES)
    assert found["iou"] == 1
    assert math.isnan(found["iou/nereo"])
    assert math.isnan(found["boundary_f1@2 px/nereo"])


def test_uncounted_pixels_count_nowhere() -> None:
    rng = np.random.default_rng(7)
    label, counted = blobs(rng, (60, 60)), np.ones((60, 60), bool)
    counted[20:40, 10:50] = False
    one = noisy(rng, label, 2)
    other = np.where(counted, one, np.nan).astype(np.float32)
    changed = np.where(counted, label, 255)
    grid = Grid(60, 60, CRS.from_epsg(32609), from_origin(5e5, 5.8e6, 0.1, 0.1))
    first = count_image(reader(label, one, counted), grid, BINARY)
    second = count_image(reader(changed, other, counted), grid, BINARY)
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name
    assert first["confusion"].sum() == counted.sum() == first["probability"].sum()
    assert first["area"].sum() == pytest.approx(2 * counted.sum() * 0.01, rel=2e-3)


@pytest.mark.parametrize("sureness", [1, 8], ids=["unsure", "sure"])
def test_average_precision_is_sklearns(sureness: int) -> None:
    """Of a network that is sure of itself most probabilities lie within 1/3840 of 0 or 1."""
    rng = np.random.default_rng(8)
    label = blobs(rng, (200, 200))
    share = noisy(rng, label, 2).astype(np.float64)
    probability = (1 / (1 + ((1 - share) / share) ** sureness)).astype(np.float32)
    assert (((probability > 1 - 1 / 3840) | (probability < 1 / 3840)).mean() > 0.3) == (sureness == 8)
    counts, _ = calibration.count_probabilities(probability.ravel(), label.ravel() == 1)
    exact = sk.average_precision_score(label.ravel(), probability.ravel())
    rounded = np.searchsorted(calibration.UPPER, probability)
    assert calibration.average_precision(counts) == pytest.approx(exact, abs=2e-4)
    assert calibration.average_precision(counts) == pytest.approx(
        sk.average_precision_score(label.ravel(), rounded.ravel()), abs=1e-12
    )


def test_calibration_error_is_that_of_sklearns_curve() -> None:
    rng = np.random.default_rng(9)
    probability = rng.random(50_000).astype(np.float32)
    true = rng.random(50_000) < probability**1.5
    counts, sums = calibration.count_probabilities(probability, true)
    share, mean = calibration_curve(true, probability.astype(np.float64), n_bins=15, strategy="uniform")
    number, _ = np.histogram(probability.astype(np.float64), bins=15, range=(0, 1))
    assert calibration.calibration_error(counts, sums) == pytest.approx(
        float(np.average(np.abs(share - mean), weights=number)), abs=1e-9
    )


def test_thresholds_count_exactly() -> None:
    """A float32 probability a hair above k/3840 is above it, and one that is equal isn't."""
    k = np.arange(1, calibration.UNIFORM)
    edge = (k / calibration.UNIFORM).astype(np.float32)
    for values in (edge, np.nextafter(edge, np.float32(1)), np.nextafter(edge, np.float32(0))):
        for value, index in zip(values, k, strict=True):
            counts, _ = calibration.count_probabilities(np.array([value]), np.array([True]))
            above = counts[calibration.border(index / calibration.UNIFORM) :].sum()
            assert above == (float(value) > index / calibration.UNIFORM)


def test_the_best_threshold_is_the_best() -> None:
    rng = np.random.default_rng(10)
    label = blobs(rng, (100, 100)).ravel()
    probability = noisy(rng, label.reshape(100, 100), 2).ravel() ** 2
    counts, _ = calibration.count_probabilities(probability, label == 1)
    found = calibration.best_threshold(counts)
    assert found is not None
    threshold, dice = found
    each = {t: sk.f1_score(label, probability > t) for t in (*np.arange(1, 384) / 384, threshold)}
    assert dice == pytest.approx(each[threshold], abs=1e-12)
    assert dice >= max(each.values()) - 1e-12
    assert calibration.dice_at(counts, 0.5) == pytest.approx(sk.f1_score(label, probability > 0.5))
    assert calibration.best_threshold(np.zeros((calibration.BINS, 2))) is None


@pytest.mark.parametrize("value", [0.5, 0.873977661, 3e-4, 2e-7, 0.99991, 0.9999998])
def test_a_threshold_is_printed_so_that_it_can_be_used(value: float) -> None:
    chosen = float(calibration.LOWER[calibration.border(value)])
    text = calibration.shortest(chosen)
    assert 0 < float(text) < 1
    assert calibration.border(float(text)) == calibration.border(chosen)
    assert len(text) <= 11
    assert calibration.shortest(0.5) == "0.500"


def test_areas_are_on_the_ground() -> None:
    """EPSG:3857 at 52 degrees north: its square metres are 0.38 of a square metre."""
    label = np.zeros((40, 40), np.uint8)
    label[10:20] = 1
    probability = np.zeros((40, 40), np.float32)
    probability[10:25] = 1
    grid = Grid(40, 40, CRS.from_epsg(3857), from_origin(-1.4e7, 6.8e6, 1, 1))
    found = plain(score(count_image(reader(label, probability), grid, BINARY), BINARY))
    latitude = 2 * math.atan(math.exp(6.8e6 / 6378137)) - math.pi / 2
    assert found["true_area/kelp"] == pytest.approx(400 * math.cos(latitude) ** 2, rel=7e-3)  # the sphere's
    assert found["area_error"] == pytest.approx(0.5, rel=1e-5)
    metres = Classes(BINARY.names, 1, (Distance(2.0, "m"),))
    assert Distance(2.0, "m").pixels(grid.side) == pytest.approx(2 / math.cos(latitude), rel=4e-3)
    assert "boundary_f1@2 m" in score(count_image(reader(label, probability), grid, metres), metres)


def test_without_a_place_on_the_earth_there_are_no_metres() -> None:
    classes = Classes(BINARY.names, 1, (Distance(2, "px"), Distance(1, "m")))
    label = blobs(np.random.default_rng(11), (30, 30))
    found = scored(label, label * 1.0, classes)
    assert math.isnan(found["boundary_iou@1 m"])
    assert math.isnan(found["true_area/kelp"])
    assert found["boundary_iou@2 px"] == 1
    assert found["area_error"] == 0  # of pixels


def test_a_target_that_is_class_zero() -> None:
    """Background last: probabilities come of class 1, the target's are the rest."""
    rng = np.random.default_rng(12)
    label = blobs(rng, (50, 50))
    p = noisy(rng, label, 2)
    turned = scored(1 - label, 1 - p, Classes(("kelp", "background"), 0, BINARY.distances))
    plain_way = scored(label, p)
    for name, value in plain_way.items():
        assert turned[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_intervals_cover_the_truth() -> None:
    """A mean of normal numbers has a known interval; the bootstrap's is close to it."""
    rng = np.random.default_rng(13)
    values = rng.normal(3, 2, 400)
    counts = {"sum": values, "n": np.ones(400)}
    low, high = intervals(counts, lambda c: {"mean": c["sum"] / c["n"]})["mean"]
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_paired_differences_are_surer_than_unpaired() -> None:
    rng = np.random.default_rng(14)
    hard = rng.normal(0, 5, 60)
    ours, theirs = {"s": hard + 0.2, "n": np.ones(60)}, {"s": hard + rng.normal(0, 0.1, 60), "n": np.ones(60)}
    low, high = intervals(ours, lambda c: {"mean": c["s"] / c["n"]}, theirs)["mean"]
    assert 0.1 < low < 0.2 < high < 0.3


def test_one_group_has_no_interval() -> None:
    low, high = intervals({"s": np.ones(1), "n": np.ones(1)}, lambda c: {"mean": c["s"] / c["n"]})["mean"]
    assert math.isnan(low)
    assert math.isnan(high)
    assert (draws(7, 20).sum(axis=1) == 7).all()


def test_images_add_up() -> None:
    rng = np.random.default_rng(15)
    labels = [blobs(rng, (40, 50)) for _ in range(3)]
    shares = [noisy(rng, label, 2) for label in labels]
    parts = [count_image(reader(y, p), Grid(40, 50), BINARY) for y, p in zip(labels, shares, strict=True)]
    together = plain(score(add(parts), BINARY))
    y, p = np.concatenate(labels).ravel(), np.concatenate(shares).ravel() > 0.5
    assert together["dice"] == pytest.approx(sk.f1_score(y, p))
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    assert score(stacked, BINARY)["dice"][1] == pytest.approx(sk.f1_score(labels[1].ravel(), shares[1].ravel() > 0.5))


def test_memory_does_not_grow_with_the_image() -> None:
    """Rows come as they are asked for; ten times as many take no more memory."""
    width = 2048
    rng = np.random.default_rng(16)
    label = (cv2.GaussianBlur(rng.normal(size=(512, width)), (0, 0), 5) > 0).astype(np.uint8)
    share = label * np.float32(0.8) + np.float32(0.1)

    def read(first: int, stop: int) -> Block:
        rows = np.arange(first, stop) % 512
        return Block(label[rows], label[rows], share[None, rows], np.ones((len(rows), width), bool))

    peaks = []
    for height in (1024, 8192):
        tracemalloc.start()
        counts = count_image(read, Grid(height, width), BINARY)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert counts["confusion"].sum() == height * width
    assert peaks[1] < 1.05 * peaks[0]

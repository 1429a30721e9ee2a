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

from eval.scoring import confusion
from eval.scoring.counts import Block, Distance, Grid, ScoreSettings, add_counts, count_image
from eval.scoring.scores import compute_scores, to_floats

from .maps import BINARY, SPECIES, blobs, noisy, reader, scored


@pytest.mark.parametrize("settings", [BINARY, SPECIES], ids=["binary", "species"])
def test_confusion_scores_are_sklearns(settings: ScoreSettings) -> None:
    rng = np.random.default_rng(0)
    label = blobs(rng, (60, 70), len(settings.class_names))
    probability = noisy(rng, label, len(settings.class_names))
    counted = rng.random(label.shape) < 0.8
    found = scored(label, probability, settings, counted=counted)
    prediction = (probability > 0.5).astype(int) if probability.ndim == 2 else probability.argmax(axis=0)
    y, p = label[counted], prediction[counted]
    average: Any = {"average": "binary"} if settings.target == 1 else {"average": "macro"}
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
        assert [found[f"{name}/{c}"] for c in settings.class_names] == pytest.approx(list(each), abs=1e-12)


def test_scores_are_those_of_training() -> None:
    import torch

    from train import metrics

    matrix = np.array([[50, 3, 0], [4, 20, 0], [0, 0, 0]], float)
    theirs = metrics.scores(torch.tensor(matrix.astype(int)), SPECIES.class_names, target_only=False)
    ours = confusion.class_scores(matrix)
    for name, values in ours.items():
        assert confusion.mean_of_present(values) == pytest.approx(theirs[name])
        assert list(values) == pytest.approx([theirs[f"{name}/{c}"] for c in SPECIES.class_names], nan_ok=True)
    assert confusion.accuracy(matrix) == pytest.approx(theirs["accuracy"])


def test_strips_change_nothing() -> None:
    rng = np.random.default_rng(3)
    settings = ScoreSettings(SPECIES.class_names, None, (Distance(3, "px"), Distance(0.25, "m")))
    label = blobs(rng, (150, 64), 3)
    probability = noisy(rng, label, 3)
    counted = ndimage.binary_dilation(rng.random(label.shape) > 0.01, iterations=1)
    grid = Grid(*label.shape, CRS.from_epsg(32609), from_origin(5e5, 5.8e6, 0.1, 0.1))
    read = reader(label, probability, counted)
    whole = count_image(read, grid, settings, strip=1000)
    parts = count_image(read, grid, settings, strip=17)
    for name, values in whole.items():
        assert np.allclose(values, parts[name], rtol=1e-9), name


@pytest.mark.parametrize("settings", [BINARY, SPECIES], ids=["binary", "species"])
def test_a_perfect_prediction_scores_one(settings: ScoreSettings) -> None:
    label = blobs(np.random.default_rng(4), (50, 60), len(settings.class_names))
    shares = np.stack([label == value for value in range(len(settings.class_names))]).astype(np.float32)
    found = scored(label, shares[1] if settings is BINARY else shares, settings)
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


def test_areas_are_on_the_ground() -> None:
    """EPSG:3857 at 52 degrees north: its square metres are 0.38 of a square metre."""
    label = np.zeros((40, 40), np.uint8)
    label[10:20] = 1
    probability = np.zeros((40, 40), np.float32)
    probability[10:25] = 1
    grid = Grid(40, 40, CRS.from_epsg(3857), from_origin(-1.4e7, 6.8e6, 1, 1))
    found = to_floats(compute_scores(count_image(reader(label, probability), grid, BINARY), BINARY))
    latitude = 2 * math.atan(math.exp(6.8e6 / 6378137)) - math.pi / 2
    assert found["true_area/kelp"] == pytest.approx(400 * math.cos(latitude) ** 2, rel=7e-3)  # the sphere's
    assert found["area_error"] == pytest.approx(0.5, rel=1e-5)
    metres = ScoreSettings(BINARY.class_names, 1, (Distance(2.0, "m"),))
    assert Distance(2.0, "m").pixels(grid.pixel_size) == pytest.approx(2 / math.cos(latitude), rel=4e-3)
    assert "boundary_f1@2 m" in compute_scores(count_image(reader(label, probability), grid, metres), metres)


def test_without_a_place_on_the_earth_there_are_no_metres() -> None:
    settings = ScoreSettings(BINARY.class_names, 1, (Distance(2, "px"), Distance(1, "m")))
    label = blobs(np.random.default_rng(11), (30, 30))
    found = scored(label, label * 1.0, settings)
    assert math.isnan(found["boundary_iou@1 m"])
    assert math.isnan(found["true_area/kelp"])
    assert found["boundary_iou@2 px"] == 1
    assert found["area_error"] == 0  # of pixels


def test_a_target_that_is_class_zero() -> None:
    """Background last: probabilities come of class 1, the target's are the rest."""
    rng = np.random.default_rng(12)
    label = blobs(rng, (50, 50))
    p = noisy(rng, label, 2)
    turned = scored(1 - label, 1 - p, ScoreSettings(("kelp", "background"), 0, BINARY.distances))
    usual = scored(label, p)
    for name, value in usual.items():
        assert turned[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_images_add_up() -> None:
    rng = np.random.default_rng(15)
    labels = [blobs(rng, (40, 50)) for _ in range(3)]
    shares = [noisy(rng, label, 2) for label in labels]
    parts = [count_image(reader(y, p), Grid(40, 50), BINARY) for y, p in zip(labels, shares, strict=True)]
    together = to_floats(compute_scores(add_counts(parts), BINARY))
    y, p = np.concatenate(labels).ravel(), np.concatenate(shares).ravel() > 0.5
    assert together["dice"] == pytest.approx(sk.f1_score(y, p))
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    assert compute_scores(stacked, BINARY)["dice"][1] == pytest.approx(
        sk.f1_score(labels[1].ravel(), shares[1].ravel() > 0.5)
    )


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

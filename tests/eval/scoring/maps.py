"""Synthetic labels and predictions for the tests of scores."""

from typing import Any

import numpy as np
from scipy import ndimage

from eval.scoring.counts import Block, Distance, Grid, ScoreSettings, count_image
from eval.scoring.scores import compute_scores, to_floats

BINARY = ScoreSettings(("background", "kelp"), 1, (Distance(2, "px"),))
SPECIES = ScoreSettings(("background", "macro", "nereo"), None, (Distance(2, "px"),))


def reader(
    label: np.ndarray, probability: np.ndarray, counted: np.ndarray | None = None, threshold: float = 0.5
) -> Any:
    """Return a function that reads blocks of arrays; probability is (H, W) of class 1, or (K, H, W)."""
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


def scored(
    label: np.ndarray, probability: np.ndarray, settings: ScoreSettings = BINARY, **options: Any
) -> dict[str, float]:
    """Count a map and return its scores."""
    counts = count_image(reader(label, probability, **options), Grid(*label.shape), settings)
    return to_floats(compute_scores(counts, settings))


def blobs(rng: np.random.Generator, shape: tuple[int, int], classes: int = 2) -> np.ndarray:
    """Draw a label of smooth shapes."""
    fields = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 4, 4))
    return np.asarray(fields.argmax(axis=0), np.uint8)


def noisy(rng: np.random.Generator, label: np.ndarray, classes: int) -> np.ndarray:
    """Draw probabilities that are higher for the labelled class; (H, W) for two classes, else (K, H, W)."""
    logits = np.stack([label == value for value in range(classes)]) * 2.0 + rng.normal(size=(classes, *label.shape))
    shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    return np.asarray(shares[1] if classes == 2 else shares, np.float32)

"""Labels and predictions that the tests of scores draw."""

from typing import Any

import numpy as np
from scipy import ndimage

from eval.scoring.scores import Block, Classes, Distance, Grid, count_image, plain, score

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

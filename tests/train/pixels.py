"""Labels and predictions that the tests of metrics draw."""

import numpy as np
import torch

from train.metrics import PooledConfusion

IGNORE = 255


NAMES = ("background", "macro", "nereo")


Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # (predictions, labels) of each batch


def batches(num_labels: int, *, seed: int = 0) -> Pairs:
    """Labels and predictions of batches of unequal size, difficulty and class balance, with ignored pixels."""
    generator = np.random.default_rng(seed)
    result = []
    for count, balance, mistakes in ((1, 0.02, 0.6), (4, 0.5, 0.1), (2, 0.9, 0.3)):
        shape = (count, 8, 9)
        others = generator.integers(1, num_labels, shape)
        target = np.where(generator.random(shape) < balance, others, 0)
        prediction = np.where(generator.random(shape) < mistakes, generator.integers(0, num_labels, shape), target)
        target[generator.random(shape) < 0.2] = IGNORE
        result.append((torch.from_numpy(prediction), torch.from_numpy(target)))
    return result


def pooled_pixels(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    prediction, target = (torch.cat([pair[i].flatten() for pair in pairs]).numpy() for i in (0, 1))
    return prediction[target != IGNORE], target[target != IGNORE]


def count(pairs: Pairs, num_classes: int) -> PooledConfusion:
    confusion = PooledConfusion(num_classes, ignore_index=IGNORE)
    for prediction, target in pairs:
        confusion.update(prediction, target)
    return confusion

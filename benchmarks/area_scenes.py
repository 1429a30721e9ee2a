"""Scenes whose every pixel is labelled, for benchmarks.area: read from files or drawn, and thinned to a prevalence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray

from eval.sampling.design import Floats


@dataclass(frozen=True)
class Scene:
    """Images of one kind, each with its truth and the probability of the target, (H, W); NaN where not labelled."""

    name: str
    truth: list[NDArray[np.bool_]]
    probability: list[NDArray[np.float32]]


def read_scenes(specifications: Sequence[str]) -> list[Scene]:
    """Read scenes; files that have the same name of a scene belong to one scene."""
    scenes: dict[str, Scene] = {}
    for specification in specifications:
        name, labels, probabilities = specification.split(":")
        scene = scenes.setdefault(name, Scene(name, [], []))
        with rasterio.open(labels) as first, rasterio.open(probabilities) as second:
            label, probability = first.read(1), second.read(second.count)  # the target is the last band
        scene.truth.append(label == 1)
        scene.probability.append(np.where(label <= 1, probability, np.float32(np.nan)))
    return list(scenes.values())


def draw_scenes(side: int, rng: np.random.Generator) -> list[Scene]:
    """Draw scenes of smooth noise, in which a tenth of the area is target."""
    height = smooth_noise(side, 8, rng)
    threshold = np.quantile(height, 0.9)
    blurred = height - threshold + 0.15 * smooth_noise(side, 4, rng)
    missed = smooth_noise(side, 40, rng) > 1.28
    truth = height > threshold
    return [
        Scene("drawn, calibrated", [truth], [sigmoid(11 * blurred)]),
        Scene("drawn, too sure", [truth], [sigmoid(40 * blurred)]),
        Scene("drawn, misses objects", [truth], [sigmoid(np.where(missed & truth, -7, 40 * blurred))]),
    ]


def smooth_noise(side: int, scale: float, rng: np.random.Generator) -> Floats:
    """Return Gaussian noise (side, side), smoothed by a Gaussian of `scale` pixels, with mean 0 and variance 1."""
    frequency = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side) ** 2
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * np.exp(-2 * (np.pi * scale) ** 2 * frequency)
    noise = np.fft.irfft2(spectrum, (side, side))
    standard: Floats = (noise - noise.mean()) / noise.std()
    return standard


def sigmoid(logits: Floats) -> NDArray[np.float32]:
    """Return probabilities of logits, in float32 as inference writes them."""
    return (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)


def thin(
    scene: Scene, prevalence: float, block: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Floats] | None:
    """Remove blocks that contain the target, in random order, until it has the wanted share of what is left.

    Returns:
        Truth and probability of the pixels that are left, (N,) each; None if the target's share is lower already.
    """
    blocks: list[tuple[NDArray[np.bool_], Floats]] = []
    for truth, probability in zip(scene.truth, scene.probability, strict=True):
        for row in range(0, truth.shape[0], block):
            for column in range(0, truth.shape[1], block):
                window = np.s_[row : row + block, column : column + block]
                known = ~np.isnan(probability[window])
                if known.any():
                    blocks.append((truth[window][known], probability[window][known].astype(np.float64)))
    target = np.array([np.count_nonzero(truth) for truth, _ in blocks])
    pixels = np.array([len(truth) for truth, _ in blocks])
    if target.sum() < prevalence * pixels.sum():
        return None
    # Of the blocks with target, keep the first of a random order that reach the share together with all others.
    having = rng.permutation(np.flatnonzero(target))
    share = np.cumsum(target[having]) / (pixels[target == 0].sum() + np.cumsum(pixels[having]))
    enough = np.flatnonzero(share >= prevalence)
    kept = np.concatenate([np.flatnonzero(target == 0), having[: (enough[0] if len(enough) else len(having)) + 1]])
    return np.concatenate([blocks[i][0] for i in kept]), np.concatenate([blocks[i][1] for i in kept])

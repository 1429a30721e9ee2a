"""Coverage and width of the intervals of eval.area, on scenes whose every pixel is labelled.

Of each scene, target pixels are removed by blocks until the target covers a given share of the area. Then samples of
the remaining pixels are drawn, 2,000 times by default, and labelled with the truth. For each design the table gives the
share of draws whose interval contains the true area, with the interval of eval.sampling and with estimate ± 1.96
standard errors (Wald), and the mean half width as a share of the true area.

    python -m benchmarks.area
    python -m benchmarks.area --scene water:y1.tif:p1.tif --scene water:y2.tif:p2.tif --scene roofs:y.tif:p.tif

Without a scene, three are drawn: fields of smooth noise, with a model that is calibrated, one that is too sure, and one
that is too sure and misses every tenth object without a trace.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from eval.sampling.allocation import Allocation, allocate, sigma_cuts
from eval.sampling.design import Floats, Ints, Strata, Totals
from eval.sampling.intervals import ResidualMoments, area_interval, estimated_share, expected_variance, label_moments
from eval.scoring.calibration import LOWER_EDGES

EDGES = np.append(LOWER_EDGES, 1.0)
NORMAL = 1.959964


@dataclass(frozen=True)
class Scene:
    """Images of one kind, each with its truth and the probability of the target, (H, W); NaN where not labelled."""

    name: str
    truth: list[NDArray[np.bool_]]
    probability: list[NDArray[np.float32]]


@dataclass(frozen=True)
class Design:
    """Way to draw and to estimate.

    Attributes:
        name: Name in the table.
        strata: "class", or "probability" with this many strata.
        assisted: Use the difference estimator with the probabilities.
        allocation: Allocation of the units.
    """

    name: str
    strata: int
    assisted: bool
    allocation: Allocation = "neyman"


CLASS = Design("class strata", 0, assisted=False)
DESIGNS = (
    CLASS,
    Design("class strata, probabilities", 0, assisted=True),
    Design("probability strata", 6, assisted=True),
    Design("probability strata, proportional", 6, assisted=True, allocation="proportional"),
    Design("probability strata, labels only", 6, assisted=False),
)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--scene",
        action="append",
        default=[],
        metavar="NAME:LABELS.tif:PROBABILITIES.tif",
        help="labels (1: target, 0: not, other: left out) and probabilities as written by inference; repeatable",
    )
    arguments.add_argument("--points", type=int, default=300, help="labelled pixels in a draw (default: 300)")
    arguments.add_argument("--draws", type=int, default=2000, help="default: 2000")
    arguments.add_argument("--block", type=int, default=32, help="side of a removed block, pixels (default: 32)")
    arguments.add_argument("--prevalence", type=float, nargs="+", default=[0.03, 0.01, 0.002])
    arguments.add_argument("--side", type=int, default=2048, help="side of the drawn scenes, pixels (default: 2048)")
    arguments.add_argument("--seed", type=int, default=0)
    return arguments


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


def build_strata(design: Design, truth: NDArray[np.bool_], probability: Floats) -> tuple[Strata, Ints]:
    """Return the strata of a design, and the stratum of each pixel."""
    mapped = probability > 0.5
    if design.strata:
        cuts = sigma_cuts(np.histogram(probability, EDGES)[0].astype(np.float64), EDGES, design.strata)
        stratum = np.searchsorted(cuts, probability, side="right")
    else:
        stratum = mapped.astype(np.int64)
    number = int(stratum.max()) + 1

    def both(values: Floats) -> Floats:
        return np.stack([np.bincount(stratum, column, number) for column in (1 - values, values)], axis=1)

    units = np.bincount(stratum, minlength=number).astype(np.float64)
    variance = np.bincount(stratum, probability * (1 - probability), number)
    totals = Totals(units, units, both(mapped.astype(np.float64)))
    if design.assisted or design.strata:
        totals = Totals(units, units, totals.mapped, both(probability), np.stack([variance, variance], axis=1))
    kind: Literal["class", "probability"] = "probability" if design.strata else "class"
    return Strata(kind, ("other", "target"), tuple(map(str, range(number))), totals), stratum


def draw_moments(
    design: Design,
    strata: Strata,
    stratum: Ints,
    truth: NDArray[np.bool_],
    probability: Floats,
    sizes: Ints,
    draws: int,
    rng: np.random.Generator,
) -> ResidualMoments:
    """Draw samples without replacement from each stratum, and return the moments of the target, (draws, H, 1)."""
    totals = strata.totals
    picked = [
        members[draw_without_replacement(len(members), int(size), draws, rng)]
        for members, size in zip((np.flatnonzero(stratum == index) for index in range(len(sizes))), sizes, strict=True)
    ]
    slope = np.zeros(draws)
    prior = squares = expected = None
    known = np.zeros(draws)
    if design.assisted:
        assert totals.probability is not None
        slope = calibration_slopes(truth, probability, np.concatenate(picked, axis=1))
        known = slope * totals.probability[:, 1].sum()
    residuals = [truth[units] - slope[:, None] * probability[units] for units in picked]
    mean = by_stratum(residuals)
    total = known[:, None] + (totals.area[:, None] * mean).sum(axis=1)
    if design.assisted:
        assert totals.probability is not None
        predicted = totals.probability[:, 1].sum() / totals.area.sum()
        found, expecting = (
            np.concatenate([values[units] for units in picked], axis=1).sum(axis=1)
            for values in (truth.astype(np.float64), probability)
        )
        share = estimated_share(
            both_classes(total[:, 0], float(totals.area.sum())),
            totals,
            both_classes(found, float(sizes.sum())),
            both_classes(expecting, float(sizes.sum())),
        )
        prior = expected_variance(totals, slope, share)[..., [1]]
        pairs = [
            label_moments(
                truth[units].astype(np.float64)[..., None],
                probability[units][..., None],
                slope,
                share[:, [1]],
                predicted,
            )
            for units in picked
        ]
        squares, expected = (np.stack([pair[which].sum(axis=1) for pair in pairs], axis=1) for which in (0, 1))
    limit = np.ones((len(sizes), 1))
    return ResidualMoments(
        area=totals.area,
        units=totals.units,
        sizes=sizes.astype(np.float64),
        total=total,
        surplus=by_stratum(np.maximum(residual, 0) for residual in residuals),
        deficit=by_stratum(np.maximum(-residual, 0) for residual in residuals),
        variance=by_stratum(
            (residual - residual.mean(axis=1, keepdims=True)) ** 2 * (residual.shape[1] / max(residual.shape[1] - 1, 1))
            for residual in residuals
        ),
        surplus_limit=limit,
        deficit_limit=0 * limit,
        prior=prior,
        squares=squares,
        expected=expected,
    )


def both_classes(target: Floats, whole: float) -> Floats:
    """Return values of the other class and of the target, (draws, 2), that sum to the whole."""
    return np.stack([whole - target, target], axis=1)


def by_stratum(values: Iterable[Floats]) -> Floats:
    """Return means (draws, H, 1) of the values (draws, n_h) of the units of each stratum."""
    means: Floats = np.stack([of_stratum.mean(axis=1) for of_stratum in values], axis=1)[..., None]
    return means


def calibration_slopes(truth: NDArray[np.bool_], probability: Floats, units: Ints) -> Floats:
    """Return the slope of eval.sampling for each row of units (draws, n); it is the same for both classes."""
    chance = probability[units]
    centred = chance - chance.mean(axis=1, keepdims=True)
    slopes: Floats = np.clip((centred * truth[units]).sum(axis=1) / (centred * chance).sum(axis=1), 0, 1)
    return slopes


def draw_without_replacement(population: int, size: int, draws: int, rng: np.random.Generator) -> Ints:
    """Return indices (draws, size), each row without repetitions."""
    if size * 4 > population:
        return np.stack([rng.permutation(population)[:size] for _ in range(draws)])
    picked = rng.integers(0, population, (draws, size))
    while True:
        ordered = np.sort(picked, axis=1)
        again = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if not len(again):
            return picked
        picked[again] = rng.integers(0, population, (len(again), size))


def measure(
    design: Design, truth: NDArray[np.bool_], probability: Floats, points: int, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Return error, coverage and half width of a design, as shares of the true area."""
    strata, stratum = build_strata(design, truth, probability)
    sizes = allocate(strata, points, design.allocation)
    moments = draw_moments(design, strata, stratum, truth, probability, sizes, draws, rng)
    area, total = float(np.count_nonzero(truth)), float(len(truth))
    estimate = moments.total[:, 0]
    error = np.sqrt(moments.design_variance.sum(axis=-2))[:, 0]
    least = np.zeros(draws) if design.assisted else moments.surplus[:, :, 0] @ moments.sizes

    def covered(low: Floats, high: Floats) -> tuple[float, float]:
        low, high = np.clip(low, least, total), np.clip(high, least, total)
        return float(np.mean((low <= area) & (area <= high))), float(np.mean(high - low) / 2 / area)

    low, high = area_interval(moments)
    coverage, half = covered(low[:, 0], high[:, 0])
    wald, wald_half = covered(estimate - NORMAL * error, estimate + NORMAL * error)
    return {
        "bias": float(estimate.mean() / area - 1),
        "deviation": float(estimate.std() / area),
        "coverage": coverage,
        "half": half,
        "wald": wald,
        "wald_half": wald_half,
    }


def main(argv: Sequence[str] | None = None, report: Callable[[str], None] = print) -> int:
    """Run the simulation, and print a Markdown table."""
    options = parser().parse_args(argv)
    rng = np.random.default_rng(options.seed)
    scenes = read_scenes(options.scene) or draw_scenes(options.side, rng)
    report("| scene | share | pixels counted | design | SD | coverage | half width | of class strata | Wald |")
    report("|---|---:|---:|---|---:|---:|---:|---:|---:|")
    for scene in scenes:
        for prevalence in options.prevalence:
            left = thin(scene, prevalence, options.block, rng)
            if left is None:
                report(f"| {scene.name} | {prevalence:.1%} | the target is rarer | | | | | | |")
                continue
            truth, probability = left
            counted = np.count_nonzero(probability > 0.5) / np.count_nonzero(truth) - 1
            reference = None
            for design in DESIGNS:
                row = measure(design, truth, probability, options.points, options.draws, rng)
                reference = reference or row["half"]
                report(
                    f"| {scene.name} | {truth.mean():.2%} | {counted:+.0%} | {design.name} | {row['deviation']:.0%} "
                    f"| {row['coverage']:.3f} | {row['half']:.0%} | {row['half'] / reference:.2f} "
                    f"| {row['wald']:.3f}, {row['wald_half']:.0%} |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Coverage and width of the intervals of eval.area, on scenes whose every pixel is labelled.

Of each scene, target pixels are removed by blocks until the target covers a given share of the area. Then samples of
the remaining pixels are drawn, 2,000 times by default, and labelled with the truth. The columns: share of the target;
error of the area that counting pixels of the map gives; bias and standard deviation of the estimates; share of draws
whose interval contains the true area, and its mean half width; ratio of the half width to that of class strata; the
same of estimate ± 1.96 standard errors (Wald). Errors, bias, deviation and widths are shares of the true area.

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
from numpy.typing import NDArray

from benchmarks.area_scenes import draw_scenes, read_scenes, thin
from eval.sampling.allocation import Allocation, allocate, allocate_more, sigma_cuts
from eval.sampling.design import Floats, Ints, Sample, Strata, Totals
from eval.sampling.estimators import estimate_areas
from eval.sampling.intervals import ResidualMoments, area_interval, estimated_share, expected_variance, label_moments
from eval.scoring.calibration import LOWER_EDGES

EDGES = np.append(LOWER_EDGES, 1.0)
NORMAL = 1.959964


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
ASSISTED = Design("probability strata", 6, assisted=True)
TWO_PHASES = "probability strata, in two phases"
DESIGNS = (
    CLASS,
    Design("class strata, probabilities", 0, assisted=True),
    ASSISTED,
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


def draw_units(stratum: Ints, sizes: Ints, draws: int, rng: np.random.Generator) -> list[Ints]:
    """Draw samples without replacement from each stratum: indices (draws, n_h) of pixels, for each of the H strata."""
    strata = (np.flatnonzero(stratum == index) for index in range(len(sizes)))
    return [
        members[draw_without_replacement(len(members), int(size), draws, rng)]
        for members, size in zip(strata, sizes, strict=True)
    ]


def target_moments(
    design: Design, strata: Strata, truth: NDArray[np.bool_], probability: Floats, picked: Sequence[Ints]
) -> ResidualMoments:
    """Return what `eval.sampling.estimators.residual_moments` does, for the target in many samples, (draws, H, 1)."""
    totals = strata.totals
    draws = len(picked[0])
    sizes = np.array([units.shape[1] for units in picked])
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
    moments = target_moments(design, strata, truth, probability, draw_units(stratum, sizes, draws, rng))
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


def measure_two_phases(
    truth: NDArray[np.bool_], probability: Floats, points: int, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Return the same as `measure` for a sample of half the points, and another half by what its labels say."""
    strata, stratum = build_strata(ASSISTED, truth, probability)
    members = [np.flatnonzero(stratum == index) for index in range(len(strata.names))]
    first = allocate(strata, points // 2)
    area = float(np.count_nonzero(truth))
    found = []
    for _ in range(draws):
        pools = [of[draw_without_replacement(len(of), min(points, len(of)), 1, rng)[0]] for of in members]
        more = allocate_more(strata, labelled_sample(pools, first, stratum, truth, probability), points - points // 2)
        areas = estimate_areas(strata, labelled_sample(pools, first + more, stratum, truth, probability))
        found.append((areas.area[1], areas.standard_error[1], areas.low[1], areas.high[1]))
    estimate, error, low, high = np.array(found).T
    return {
        "bias": float(estimate.mean() / area - 1),
        "deviation": float(estimate.std() / area),
        "coverage": float(np.mean((low <= area) & (area <= high))),
        "half": float(np.mean(high - low) / 2 / area),
        "wald": float(np.mean(abs(estimate - area) <= NORMAL * error)),
        "wald_half": float(NORMAL * error.mean() / area),
    }


def labelled_sample(
    pools: Sequence[Ints], sizes: Ints, stratum: Ints, truth: NDArray[np.bool_], probability: Floats
) -> Sample:
    """Return the first units of each stratum's pool, labelled with the truth."""
    units = np.concatenate([pool[:size] for pool, size in zip(pools, sizes, strict=True)])
    chance = probability[units]
    return Sample(
        stratum[units],
        truth[units].astype(np.int64),
        (chance > 0.5).astype(np.int64),
        np.ones(len(units)),
        np.stack([1 - chance, chance], axis=1),
    )


def main(argv: Sequence[str] | None = None, report: Callable[[str], None] = print) -> int:
    """Run the simulation, and print a Markdown table."""
    options = parser().parse_args(argv)
    rng = np.random.default_rng(options.seed)
    scenes = read_scenes(options.scene) or draw_scenes(options.side, rng)
    report("| scene | share | counted | design | bias | SD | coverage | half width | ratio | Wald |")
    report("|---|---:|---:|---|---:|---:|---:|---:|---:|---:|")
    for scene in scenes:
        for prevalence in options.prevalence:
            left = thin(scene, prevalence, options.block, rng)
            if left is None:
                report(f"| {scene.name} | {prevalence:.1%} | the target is rarer | | | | | | | |")
                continue
            truth, probability = left
            counted = np.count_nonzero(probability > 0.5) / np.count_nonzero(truth) - 1
            rows = {
                design.name: measure(design, truth, probability, options.points, options.draws, rng)
                for design in DESIGNS
            }
            rows[TWO_PHASES] = measure_two_phases(truth, probability, options.points, options.draws // 4, rng)
            for name, row in rows.items():
                report(
                    f"| {scene.name} | {truth.mean():.2%} | {counted:+.0%} | {name} | {row['bias']:+.0%} "
                    f"| {row['deviation']:.0%} | {row['coverage']:.3f} | {row['half']:.0%} "
                    f"| {row['half'] / rows[CLASS.name]['half']:.2f} | {row['wald']:.3f}, {row['wald_half']:.0%} |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""benchmarks.area: its vectorised moments are those of the package, and it runs without data."""

import numpy as np
import pytest

from benchmarks.area import (
    ASSISTED,
    CLASS,
    DESIGNS,
    Design,
    build_strata,
    draw_units,
    draw_without_replacement,
    labelled_sample,
    main,
    target_moments,
)
from benchmarks.area_scenes import draw_scenes, thin
from eval.sampling.allocation import allocate
from eval.sampling.estimators import estimate_areas
from eval.sampling.intervals import area_interval


@pytest.mark.parametrize("design", [CLASS, ASSISTED, DESIGNS[-1]], ids=lambda design: design.name)
def test_moments_of_many_draws_are_those_of_each(design: Design) -> None:
    rng = np.random.default_rng(0)
    left = thin(draw_scenes(256, rng)[0], 0.05, 32, rng)
    assert left is not None
    truth, probability = left
    strata, stratum = build_strata(design, truth, probability)
    sizes = allocate(strata, 100)
    picked = draw_units(stratum, sizes, 5, rng)
    moments = target_moments(design, strata, truth, probability, picked)
    low, high = area_interval(moments)
    for draw in range(5):
        sample = labelled_sample([units[draw] for units in picked], sizes, stratum, truth, probability)
        areas = estimate_areas(strata, sample, "probability" if design.assisted else "none")
        assert moments.total[draw, 0] == pytest.approx(areas.area[1])
        assert np.sqrt(moments.design_variance[draw].sum()) == pytest.approx(areas.standard_error[1])
        seen = np.count_nonzero(sample.label == 1), len(truth) - np.count_nonzero(sample.label == 0)
        assert np.clip(low[draw, 0], *seen) == pytest.approx(areas.low[1])
        assert np.clip(high[draw, 0], *seen) == pytest.approx(areas.high[1])


@pytest.mark.parametrize(("population", "size"), [(50, 40), (1000, 30), (200, 49)])
def test_draws_have_no_repetitions(population: int, size: int) -> None:
    units = draw_without_replacement(population, size, 50, np.random.default_rng(0))
    assert all(len(set(row)) == size for row in units.tolist())
    assert set(units.ravel().tolist()) <= set(range(population))


def test_runs_on_drawn_scenes() -> None:
    lines: list[str] = []
    options = ["--side", "256", "--draws", "40", "--points", "60", "--prevalence", "0.05", "0.5"]
    assert main(options, lines.append) == 0
    rows = [line for line in lines if "| probability strata |" in line]
    assert len(rows) == 3
    assert sum("the target is rarer" in line for line in lines) == 3

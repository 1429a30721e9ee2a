"""Totals of a population against sums over all of its pixels, and draws against what a random draw must be."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.sampling import population as module
from eval.sampling.class_map import count_class_map
from eval.sampling.draw import draw, random_keys
from eval.sampling.population import EDGES, Population, count
from eval.sampling.stratify import Stratification, stratify
from inference.common.areas import usable_crs
from inference.common.raster import read_header
from inference.output.summary import ClassCounter
from tests.eval.sampling.maps import World, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), 150, 190, classes=3)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("binary"), 90, 110)


def opened(world: World, plot: int = 1, probabilities: bool = True) -> Population:
    class_map = count_class_map(str(world.map))
    return Population(class_map, str(world.probabilities) if probabilities else None, plot)


def strata_of(population: Population, points: int = 100) -> Stratification:
    kind = "class" if population.probabilities is None else "probability"
    return stratify(count(population), population.class_map.names, kind, points)


def test_areas_are_those_of_the_map(world: World) -> None:
    header = read_header(world.map)
    counter = ClassCounter(3, usable_crs(header), header.transform, header.width)
    with rasterio.open(world.map) as file:
        values = file.read(1)
    counter.add(0, np.where(values == 255, 0, values), values == 255)
    assert counter.areas is not None
    for plot in (1, 7):
        histogram = count(opened(world, plot))
        assert histogram.pixel_area == pytest.approx(counter.areas, rel=1e-12)
        assert histogram.area.sum() == pytest.approx(counter.areas.sum(), rel=1e-12)
    assert count(opened(world, probabilities=False)).area[:, 0] == pytest.approx(counter.areas, rel=1e-12)


def test_totals_are_sums_over_the_pixels(world: World) -> None:
    with rasterio.open(world.probabilities) as file:
        chance = file.read().astype(np.float64)[:, world.valid]
    mapped = chance.argmax(axis=0)
    totals = strata_of(opened(world)).strata.totals
    assert totals.units.sum() == world.valid.sum()
    pixel = totals.area.sum() / totals.units.sum()
    assert totals.probability is not None
    assert totals.variance is not None
    assert totals.mapped.sum(axis=0) / pixel == pytest.approx(np.bincount(mapped), rel=1e-5)
    assert totals.probability.sum(axis=0) / pixel == pytest.approx(chance.sum(axis=1), rel=1e-5)
    assert totals.variance.sum(axis=0) / pixel == pytest.approx((chance * (1 - chance)).sum(axis=1), rel=1e-5)


def test_strata_of_two_classes_are_intervals_of_the_probability(binary: World) -> None:
    population = opened(binary)
    strata = strata_of(population, 300)
    ends = [
        (units.probability[1][strata.stratum(units) == h].min(), units.probability[1][strata.stratum(units) == h].max())
        for units in population.windows("")
        if units.probability is not None
        for h in range(len(strata.strata.names))
    ]
    assert len(ends) == 6
    assert all(before[1] <= after[0] for before, after in pairwise(ends))


@given(st.floats(0, 1, width=32))
@settings(max_examples=50, deadline=None)
def test_a_probability_lies_in_its_bin(value: float) -> None:
    chance = np.array([[1 - np.float32(value)], [value]], np.float32)
    at = int(module._score(chance, np.array([0]))[0])
    assert EDGES[at] <= value + 1e-7
    assert value - 1e-7 <= EDGES[at + 1]


def test_plots_have_the_class_of_most_of_their_area(binary: World) -> None:
    population = opened(binary, plot=8)
    with rasterio.open(binary.map) as file:
        values = file.read(1)
    (units,) = population.windows("")
    for row, col, mapped in zip(units.row, units.col, units.mapped, strict=True):
        block = values[8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
        numbers = np.bincount(block[block != 255], minlength=2)
        assert numbers[mapped] == numbers.max()
    assert population.shape == (12, 14)
    assert len(units.row) == 12 * 14 - 2 * 3  # two by three plots are nodata as a whole


@pytest.mark.parametrize("plot", [1, 5])
def test_the_draw_does_not_depend_on_the_windows(plot: int, binary: World, monkeypatch: pytest.MonkeyPatch) -> None:
    population = opened(binary, plot)
    strata = strata_of(population)
    sizes = np.minimum(strata.strata.totals.units, 9).astype(np.int64)
    one, _ = draw(population, strata, sizes, seed=4)
    for name, value in (("_ROWS", 16), ("_COLS", 32), ("_PIXELS", 200)):
        monkeypatch.setattr(module, name, value)
    assert len(population._starts()) > 5
    other, _ = draw(population, strata, sizes, seed=4)
    assert (one.row == other.row).all()
    assert (one.col == other.col).all()
    assert one.probability is not None
    assert one.probability == pytest.approx(other.probability)
    assert (np.bincount(one.stratum) == sizes).all()


def test_more_of_a_stratum_includes_what_was_drawn(binary: World) -> None:
    population = opened(binary)
    strata = strata_of(population)
    number = len(strata.strata.names)
    few, _ = draw(population, strata, np.full(number, 5), seed=1)
    many, _ = draw(population, strata, np.full(number, 12), seed=1)
    assert set(zip(few.row, few.col, strict=True)) < set(zip(many.row, many.col, strict=True))


def test_a_census_draws_every_unit_once(binary: World) -> None:
    population = opened(binary)
    strata = strata_of(population)
    drawn, _ = draw(population, strata, strata.strata.totals.units.astype(np.int64), seed=1)
    assert len(set(zip(drawn.row, drawn.col, strict=True))) == len(drawn) == binary.valid.sum()


def test_each_pixel_of_a_stratum_is_equally_likely(binary: World) -> None:
    population = opened(binary, plot=10, probabilities=False)
    strata = strata_of(population)
    units = strata.strata.totals.units
    sizes = np.minimum(units, 6).astype(np.int64)
    hits: dict[tuple[int, int], int] = {}
    draws = 400
    for seed in range(draws):
        drawn, _ = draw(population, strata, sizes, seed)
        for row, col, stratum in zip(drawn.row, drawn.col, drawn.stratum, strict=True):
            if stratum == 0:
                hits[int(row), int(col)] = hits.get((int(row), int(col)), 0) + 1
    found = np.array([*hits.values(), *[0] * (int(units[0]) - len(hits))])
    share = sizes[0] / units[0]
    # Sums of squared deviations of counts with a fixed total: chi-square, with the variance of each draw.
    statistic = ((found - draws * share) ** 2 / (draws * share * (1 - share))).sum() * (1 - 1 / units[0])
    assert 1e-4 < stats.chi2.sf(statistic, int(units[0]) - 1) < 1 - 1e-4


def test_random_keys_are_those_of_splitmix64() -> None:
    numbers = np.arange(1000)
    keys = random_keys(numbers, seed=7)
    assert len(np.unique(keys)) == 1000
    assert (keys == random_keys(numbers, seed=7)).all()
    assert not (keys == random_keys(numbers, seed=8)).any()
    assert not (keys == random_keys(numbers, seed=7, stream=1)).any()
    assert stats.kstest(keys / 2.0**64, "uniform").pvalue > 1e-3
    # Output of the reference implementation for the state 0: https://prng.di.unimi.it/splitmix64.c
    from eval.sampling.draw import _GOLDEN, _mixed

    assert int(_mixed(np.array([_GOLDEN]))[0]) == 0xE220A8397B1DCDAF


def test_the_hash_is_that_of_the_content(binary: World, tmp_path: Path) -> None:
    with rasterio.open(binary.map) as file:
        values, profile, tags = file.read(1), file.profile, file.tags()
    digest = count_class_map(str(binary.map)).digest

    def written(name: str, values: np.ndarray, **changes: object) -> str:
        with rasterio.open(tmp_path / name, "w", **(profile | changes)) as file:
            file.write(values, 1)
            file.update_tags(CLASS_NAMES=tags["CLASS_NAMES"])
        return count_class_map(str(tmp_path / name)).digest

    assert written("packed.tif", values, compress="deflate") == digest
    assert written("wide.tif", values.astype(np.int16), dtype="int16") == digest
    assert written("float.tif", np.where(values == 255, np.nan, values), dtype="float32", nodata=np.nan) == digest
    changed = values.copy()
    changed[40, 40] = 1 - changed[40, 40]
    assert written("changed.tif", changed) != digest
    changed = values.copy()
    changed[0, 0] = 0
    assert written("valid.tif", changed) != digest

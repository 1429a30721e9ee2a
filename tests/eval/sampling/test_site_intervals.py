"""Intervals of an estimate in the table of sites that `polygons.py` writes."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from inference.common.geopackage import write_layer
from inference.polygons import main
from tests.eval.sampling.maps import World, label, run, write_world

LEFT, TOP = 5e5, 5.8e6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), 70, 90)


def write_sites(path: Path, names: list[str], width: float = 4.03) -> Path:
    boxes = [shapely.box(LEFT + 4 * at, TOP - 6, LEFT + 4 * at + width, TOP - 1) for at in range(len(names))]
    write_layer(path, "sites", np.array(boxes), {"site": names}, "EPSG:32609")
    return path


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sites(tmp_path_factory.mktemp("sites") / "sites.gpkg", ["cove", "bar"])


@pytest.fixture(scope="module")
def estimate(world: World, sites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimate")
    sample = folder / "s.gpkg"
    assert run("sample", world.map, "--probabilities", world.probabilities, "--sites", sites, "--out", sample) == 0
    label(sample, world)
    assert run("estimate", sample, "--out", folder) == 0
    return folder / "area.json"


def tabled(world: World, sites: Path, table: Path, *more: object) -> int:
    return main([str(word) for word in (world.map, "--sites", sites, "--table", table, *more)])


def test_the_table_has_the_intervals(world: World, sites: Path, estimate: Path, tmp_path: Path) -> None:
    assert tabled(world, sites, tmp_path / "plain.csv") == 0
    assert tabled(world, sites, tmp_path / "t.csv", "--areas", estimate) == 0
    plain, rows = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text("utf-8").splitlines())) for name in ("plain", "t")
    )
    entries = json.loads(estimate.read_text())["sites"]
    assert [row["site"] for row in rows] == ["cove", "bar"]
    for row, before, entry in zip(rows, plain, entries, strict=True):
        assert row.items() >= before.items()
        kelp = entry["classes"][1]
        assert float(row["kelp_estimate_m2"]) == pytest.approx(kelp["area"])
        assert float(row["kelp_low_m2"]) == pytest.approx(kelp["low"])
        assert float(row["kelp_high_m2"]) == pytest.approx(kelp["high"])
        assert float(row["kelp_m2"]) == pytest.approx(kelp["pixels"])
        assert int(row["checked_points"]) == entry["points"]


def without_sites(content: dict[str, Any]) -> object:
    return content | {"sites": []}


def other_classes(content: dict[str, Any]) -> object:
    content["sites"][0]["classes"][1]["name"] = "mussels"
    return content


def no_numbers(content: dict[str, Any]) -> object:
    content["sites"][0]["classes"][1]["low"] = None
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_sites, 'has no estimate for site "cove", "bar"'),
        (other_classes, 'has no estimate of class "kelp"'),
        (no_numbers, "can't be read as the result of an estimate"),
        (lambda content: [1], "can't be read as the result of an estimate"),
    ],
)
def test_estimates_that_do_not_fit(
    change: Any,
    said: str,
    world: World,
    sites: Path,
    estimate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "area.json"
    other.write_text(json.dumps(change(json.loads(estimate.read_text()))))
    assert tabled(world, sites, tmp_path / "t.csv", "--areas", other) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_estimates_of_other_outlines_are_refused(
    world: World, estimate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_sites(tmp_path / "other.gpkg", ["cove", "bar"], width=4.2)
    assert tabled(world, other, tmp_path / "t.csv", "--areas", estimate) == 2
    assert "on this map it has" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.gpkg"]


@pytest.mark.parametrize("more", [["--table-format", "kelp-report-card"], []])
def test_areas_need_a_plain_table(
    more: list[str], world: World, sites: Path, estimate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = ["--sites", str(sites), "--table", str(tmp_path / "t.csv")] if more else [str(tmp_path / "p.gpkg")]
    assert main([str(world.map), *table, *more, "--areas", str(estimate)]) == 2
    assert "--areas: adds columns to the plain table of sites" in capsys.readouterr().err

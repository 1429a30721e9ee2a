"""From a map to an interval through the command: sample, labels, estimate, more points."""

import csv
import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from inference.common.geopackage import write_layer
from tests.eval.sampling.maps import World, label, read_points, run, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def sample(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "sample.gpkg"
    assert run("sample", world.map, "--probabilities", world.probabilities, "--points", 200, "--out", path) == 0
    return path


def results(folder: Path) -> dict:
    return json.loads((folder / "area.json").read_text())


def test_a_map_becomes_an_interval_that_holds_the_true_area(
    world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(sample, world)
    assert run("estimate", sample, "--map", world.map, "--out", tmp_path / "areas") == 0
    printed = capsys.readouterr().out
    found = results(tmp_path / "areas")
    kelp = found["classes"][1]
    assert kelp["low"] < world.area(1) < kelp["high"]
    assert kelp["high"] - kelp["low"] < 0.5 * world.area(1)
    # The ground is smaller than UTM's metres say by up to 0.04 % at the central meridian.
    assert sum(one["area"] for one in found["classes"]) == pytest.approx(world.valid.sum() * 0.01, rel=2e-3)
    assert sum(one["pixels"] for one in found["classes"]) == pytest.approx(world.valid.sum() * 0.01, rel=2e-3)
    assert found["sample"]["labelled"] == 200
    assert np.sum(found["error_matrix"]["points"]) == 200
    assert f"kelp: {kelp['area']:,.2f} m² (95 % interval" in printed
    rows = list(csv.DictReader((tmp_path / "areas" / "area.csv").read_text("utf-8").splitlines()))
    assert [row["class"] for row in rows] == ["water", "kelp"]
    assert float(rows[1]["high_m2"]) == pytest.approx(kelp["high"])
    page = (tmp_path / "areas" / "area.html").read_text("utf-8")
    assert "<svg" in page
    assert "http://www.w3.org" in page
    assert not any(source in page for source in ('src="http', 'href="http', "url(http"))
    assert sorted(path.name for path in (tmp_path / "areas").iterdir()) == ["area.csv", "area.html", "area.json"]


def test_the_same_sample_has_the_same_bytes_and_another_seed_other_points(world: World, sample: Path) -> None:
    other = sample.with_name("other.gpkg")
    arguments = ("sample", world.map, "--probabilities", world.probabilities, "--points", 200, "--out", other)
    assert run(*arguments) == 0
    assert other.read_bytes() == sample.read_bytes()
    assert run(*arguments, "--seed", 1, "--overwrite") == 0
    same = {tuple(at) for at in read_points(other)[1]} & {tuple(at) for at in read_points(sample)[1]}
    assert len(same) < 60


def test_the_points_do_not_reveal_the_map(world: World, sample: Path) -> None:
    columns, _ = read_points(sample)
    assert list(columns) == ["id", "label", "note"]
    assert columns["id"].tolist() == list(range(1, 201))
    meta, _, _, values = pyogrio.raw.read(sample, layer="drawn")
    drawn = dict(zip(meta["fields"].tolist(), values, strict=True))
    order = np.argsort(drawn["id"])
    # In the order of the numbers, neither place nor stratum has a trend.
    for name in ("stratum", "row", "mapped"):
        assert abs(np.corrcoef(np.arange(200), drawn[name][order])[0, 1]) < 0.2, name


def test_show_map_shows_it(world: World, tmp_path: Path) -> None:
    path = tmp_path / "s.gpkg"
    assert run("sample", world.map, "--points", 40, "--show-map", "--out", path) == 0
    assert set(read_points(path)[0]["map"]) == {"water", "kelp"}


def test_widths_are_printed_before_anything_is_drawn(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("sample", world.map, "--probabilities", world.probabilities) == 0
    printed = capsys.readouterr().err
    assert "expected half width of the 95 % interval" in printed
    widths = [float(line.split()[1].replace(",", "")) for line in printed.splitlines() if line.split()[0].isdigit()]
    assert len(widths) >= 5
    assert widths == sorted(widths, reverse=True)
    assert list(tmp_path.iterdir()) == []


def test_more_points_join_the_sample_and_keep_its_labels(world: World, sample: Path, tmp_path: Path) -> None:
    given = label(sample, world, {3: "unsure"})
    before, places = read_points(sample)
    arguments = ("sample", world.map, "--probabilities", world.probabilities, "--out", sample, "--more", 70)
    assert run(*arguments) == 0
    after, more_places = read_points(sample)
    assert after["id"].tolist() == list(range(1, 271))
    assert after["label"][:200].tolist() == before["label"].tolist()
    assert (more_places[:200] == places).all()
    assert len({tuple(at) for at in more_places}) == 270
    label(sample, world, given)
    assert run("estimate", sample, "--out", tmp_path / "areas") == 0
    found = results(tmp_path / "areas")
    assert found["sample"] | {"phases": [200, 70], "labelled": 269, "unsure": 1} == found["sample"]
    assert found["classes"][1]["low"] < world.area(1) < found["classes"][1]["high"]
    # Both phases are what one draw of the final sizes would have drawn.
    assert sum(one["drawn"] for one in found["strata"]) == 270


def test_unsure_points_are_left_out_and_bounded(
    world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(sample, world, dict.fromkeys(range(1, 11), "Unsure"))
    assert run("estimate", sample, "--out", tmp_path / "areas") == 0
    found = results(tmp_path / "areas")
    assert found["sample"]["unsure"] == 10
    kelp, bounds = found["classes"][1], found["if_unsure"]["classes"][1]
    assert bounds["none"] < kelp["area"] < bounds["every"]
    assert found["if_unsure_or_unlabelled"] is None
    assert "if none or all of the 10 points that are unsure" in capsys.readouterr().out


def test_a_sample_that_is_labelled_in_part_counts_what_it_has(world: World, sample: Path, tmp_path: Path) -> None:
    label(sample, world, dict.fromkeys(range(121, 201)))
    assert run("estimate", sample, "--out", tmp_path / "areas") == 0
    found = results(tmp_path / "areas")
    assert (found["sample"]["labelled"], found["sample"]["unlabelled"]) == (120, 80)
    assert found["if_unsure"] is None
    assert found["if_unsure_or_unlabelled"]["points"] == 80


def test_sites_have_areas_of_their_own(world: World, tmp_path: Path) -> None:
    sites, path = tmp_path / "sites.gpkg", tmp_path / "s.gpkg"
    left, top = 5e5, 5.8e6
    boxes = [shapely.box(left, top - 15, left + 9.53, top), shapely.box(left + 9.53, top - 15, left + 19, top)]
    write_layer(sites, "sites", np.array(boxes), {"site": ["west", "east"]}, "EPSG:32609")
    arguments = ("sample", world.map, "--probabilities", world.probabilities, "--sites", sites, "--out", path)
    assert run(*arguments) == 0
    label(path, world)
    assert run("estimate", path, "--out", tmp_path / "areas") == 0
    found = results(tmp_path / "areas")
    assert [site["name"] for site in found["sites"]] == ["west", "east"]
    assert sum(site["area"] for site in found["sites"]) == pytest.approx(sum(c["area"] for c in found["classes"]))
    for k in range(2):
        total = sum(site["classes"][k]["area"] for site in found["sites"])
        assert total == pytest.approx(found["classes"][k]["area"], rel=1e-9)
    truth = (world.truth == 1) & world.valid
    west = found["sites"][0]["classes"][1]
    assert west["low"] < truth[:, :95].sum() * 0.01 + truth[:, 95].sum() * 0.003 < west["high"]
    assert run(*arguments, "--more", 30) == 0
    missing = ("sample", world.map, "--probabilities", world.probabilities, "--out", path, "--more", 30)
    assert run(*missing) == 2


def test_plots_are_labelled_as_one(world: World, tmp_path: Path) -> None:
    path = tmp_path / "s.gpkg"
    arguments = ("sample", world.map, "--probabilities", world.probabilities, "--plot-size", 4, "--points", 60)
    assert run(*arguments, "--out", path) == 0
    _, _, shapes, _ = pyogrio.raw.read(path, layer="pixels")
    assert shapely.area(shapely.from_wkb(shapes)).max() == pytest.approx(0.16)
    label(path, world)
    assert run("estimate", path) == 0


def test_three_classes(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", classes=3)
    path = tmp_path / "s.gpkg"
    assert run("sample", world.map, "--probabilities", world.probabilities, "--out", path) == 0
    label(path, world)
    assert run("estimate", path, "--out", tmp_path / "areas") == 0
    found = results(tmp_path / "areas")
    assert all(one["low"] < world.area(k) < one["high"] for k, one in enumerate(found["classes"]))
    assert {one["name"].split(",")[0] for one in found["strata"]} == {f"mapped as {name}" for name in world.names}


def test_class_strata_without_probabilities(world: World, tmp_path: Path) -> None:
    path = tmp_path / "s.gpkg"
    assert run("sample", world.map, "--out", path, "--allocation", "equal") == 0
    label(path, world)
    assert run("estimate", path, "--out", tmp_path / "areas") == 0
    found = results(tmp_path / "areas")
    assert found["auxiliary"] == "map"
    assert [one["drawn"] for one in found["strata"]] == [150, 150]
    kelp = found["classes"][1]
    assert kelp["low"] < world.area(1) < kelp["high"]


def test_the_labels_alone_give_a_wider_interval(
    world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(sample, world)
    assert run("estimate", sample, "--out", tmp_path / "one") == 0
    assert "by the labels alone, m²: water" in capsys.readouterr().out
    assert run("estimate", sample, "--estimator", "labels", "--out", tmp_path / "other") == 0
    assert "by the labels alone" not in capsys.readouterr().out
    one, other = results(tmp_path / "one"), results(tmp_path / "other")
    assert one["labels_alone"] == other["classes"]
    assert other["labels_alone"] is None
    kelp, alone = one["classes"][1], one["labels_alone"][1]
    assert alone["high"] - alone["low"] > kelp["high"] - kelp["low"]
    assert alone["low"] < world.area(1) < alone["high"]
    assert run("estimate", sample, "--estimator", "map") == 0


def test_probabilities_must_be_in_the_sample(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.gpkg"
    assert run("sample", world.map, "--out", path) == 0
    label(path, world)
    assert run("estimate", path, "--estimator", "probabilities") == 2
    assert "was drawn without probabilities (allowed: map, labels)" in capsys.readouterr().err


def test_results_of_another_sample_are_kept(world: World, sample: Path, tmp_path: Path) -> None:
    label(sample, world)
    assert run("estimate", sample, "--out", tmp_path / "areas") == 0
    label(sample, world, {1: "kelp"})
    assert run("estimate", sample, "--out", tmp_path / "areas") == 0
    other = tmp_path / "other.gpkg"
    assert run("sample", world.map, "--seed", 3, "--out", other) == 0
    label(other, world)
    before = (tmp_path / "areas" / "area.json").read_bytes()
    assert run("estimate", other, "--out", tmp_path / "areas") == 2
    assert (tmp_path / "areas" / "area.json").read_bytes() == before
    assert run("estimate", other, "--out", tmp_path / "areas", "--overwrite") == 0


def test_points_where_the_model_was_trained_are_reported(
    world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(sample, world)
    blocks = tmp_path / "dataset.gpkg"
    left, top = 5e5, 5.8e6
    boxes = [shapely.box(left, top - 15, left + 8, top), shapely.box(left + 8, top - 15, left + 19, top)]
    columns = {"split": ["train", "test"], "selected": [True, True]}
    write_layer(blocks, "blocks", np.array(boxes), columns, "EPSG:32609")
    at = read_points(sample)[1]
    trained = int((at[:, 0] < left + 8).sum())
    assert run("estimate", sample, "--training-data", blocks) == 0
    assert f"notice: {trained} of 200 points lie in polygons" in capsys.readouterr().err
    columns["split"] = ["test", "test"]
    blocks.unlink()
    write_layer(blocks, "blocks", np.array(boxes), columns, "EPSG:32609")
    assert run("estimate", sample, "--training-data", blocks) == 0
    assert "notice" not in capsys.readouterr().err


def test_a_nodata_value_that_is_a_class(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_world(tmp_path / "world", 60, 70)
    with rasterio.open(other.map, "r+") as file:
        values = file.read(1)
        file.nodata = 0
        file.write(np.where(values == 255, 1, values), 1)
    path = tmp_path / "s.gpkg"
    # Water is what is nodata; kelp alone is left.
    assert run("sample", other.map, "--out", path) == 0
    assert "0 is its nodata value" in capsys.readouterr().err
    assert run("sample", other.map, "--nodata", "none", "--out", path, "--overwrite") == 0
    assert "nodata" not in capsys.readouterr().err
    label(path, other)
    assert run("estimate", path, "--map", other.map) == 0
    assert "water" in capsys.readouterr().out
    assert run("sample", other.map, "--nodata", "300", "--out", path) == 2

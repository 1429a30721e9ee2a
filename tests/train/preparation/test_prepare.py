"""`python -m train.prepare` from end to end: what it writes, and what a second run does."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio import Affine

from tests.conftest import write_raster
from tests.train.preparation.surveys import CONFIG, Run, contents, ground, refused, source, write_mosaic, write_polygons
from train.data.read_prepared import prepared_splits, read_prepared


def test_it_writes_a_data_set(run: Run) -> None:
    code, out, err = run()
    assert code == 0, err
    names = ("dataset.gpkg", "overview.png", "prepare.json", "statistics.json")
    assert err.splitlines()[-6:] == [f"out/{name}" for name in ("labels/north.tif", "labels/south.tif", *names)]
    assert "notice: no areas are given for north, south: all that lies outside polygons counts as background" in err
    columns = ["kelp polygons", "eelgrass polygons", "ignored polygons", "background", "kelp", "eelgrass", "unlabelled"]
    assert re.split("  +", out.splitlines()[0]) == ["image", "pixels", "m/pixel", "site", "date", *columns]
    prepared = read_prepared(Path("out"))
    assert prepared.settings.class_names == ("background", "kelp", "eelgrass")
    assert list(prepared.sources) == ["north", "south"]
    assert prepared.sources["north"].image == "../m/north.tif"
    assert set(prepared_splits(prepared, None)) == {"train", "val", "test"}
    with rasterio.open("out/labels/north.tif") as label, rasterio.open("m/north.tif") as image:
        assert (label.shape, label.crs, label.transform) == (image.shape, image.crs, image.transform)
        assert set(np.unique(label.read(1))) == {0, 1, 2, 255}
        values, valid = label.read(1), image.dataset_mask() > 0
    for block in prepared.blocks:
        if block.source == "north":
            area = np.s_[block.row : block.row + block.height, block.col : block.col + block.width]
            found = [float(((values[area] == index) & valid[area]).mean()) for index in range(3)]
            assert np.allclose(block.shares, found)
            assert block.nodata == pytest.approx(1 - valid[area].mean())
            assert block.unlabelled == pytest.approx(((values[area] == 255) & valid[area]).mean())


def test_statistics_are_those_of_the_train_pixels(run: Run) -> None:
    run()
    prepared = read_prepared(Path("out"))
    pixels = []
    for block in prepared_splits(prepared, None)["train"]:
        with rasterio.open(Path("out") / prepared.sources[block.source].image) as image:
            read = image.read()[:, block.row : block.row + block.height, block.col : block.col + block.width]
            pixels.append(read.reshape(3, -1))
    values = np.concatenate(pixels, axis=1)
    found = json.loads(Path("out/statistics.json").read_text())
    assert found["valid"] == values.shape[1]
    assert [band["mean"] for band in found["bands"]] == pytest.approx(values.mean(axis=1).tolist())
    assert [band["std"] for band in found["bands"]] == pytest.approx(values.std(axis=1).tolist())
    expected = np.percentile(values, [2, 25, 50, 75, 98], axis=1, method="inverted_cdf")
    assert [list(band["percentiles"].values()) for band in found["bands"]] == expected.T.tolist()


def test_the_same_input_gives_the_same_bytes(run: Run) -> None:
    run()
    first = contents(Path("out"))
    code, _, err = run()
    assert code == 0
    assert err.endswith("out: nothing has changed\n")
    assert contents(Path("out")) == first
    run("output_dir=other")
    assert contents(Path("other")) == first


def test_a_second_run_does_only_what_changed(run: Run, survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    times = {path: path.stat().st_mtime_ns for path in (survey / "out").rglob("*.tif")}
    code, _, err = run("split.seed=5", "split.shares={train: 0.5, val: 0.25, test: 0.25}")
    assert code == 0
    assert "dataset.gpkg" in err
    assert {path: path.stat().st_mtime_ns for path in times} == times
    write_mosaic(survey / "m" / "south.tif", at=(0, 900), nodata=7)
    code, _, err = run("split.seed=5")
    assert code == 0
    assert "out/labels/north.tif" not in err
    run("border_ignore=1 px")
    assert all(path.stat().st_mtime_ns > time for path, time in times.items())


def test_it_makes_the_same_as_a_first_run_after_any_change(run: Run) -> None:
    run()
    run("split.seed=5", "split.block_size=30 px")
    run("split.seed=5", "split.block_size=30 px", "output_dir=fresh")
    assert contents(Path("out")) == contents(Path("fresh"))


def test_check_writes_nothing(run: Run, survey: Path) -> None:
    before = contents(survey)
    code, out, err = run("--check")
    assert code == 0
    assert "train" in out
    assert err.endswith("checked; nothing was written (leave --check out to prepare the data set)\n")
    assert contents(survey) == before


def test_labels_of_sources_that_are_gone_are_removed(run: Run, survey: Path) -> None:
    run()
    (survey / "m" / "south.tif").rename(survey / "south.tif")
    code, _, err = run()
    assert code == 0
    assert "notice: labels of south were removed: it is no longer in sources" in err
    assert [path.name for path in (survey / "out" / "labels").iterdir()] == ["north.tif"]


def test_chips(run: Run, survey: Path) -> None:
    code, _, err = run("--chips", "chips")
    assert code == 0
    prepared = read_prepared(Path("out"))
    for split, blocks in prepared_splits(prepared, None).items():
        assert {path.stem for path in (survey / "chips" / split / "x").iterdir()} == {block.block for block in blocks}
    assert f"chips: {sum(block.selected for block in prepared.blocks)} chips" in err


def test_images_that_no_polygon_touches(run: Run, survey: Path) -> None:
    line = 'notice: kelp.gpkg: layer "kelp" has no polygon on m/far.tif: it is background'
    run()
    write_mosaic(survey / "m" / "far.tif", at=(9000, 0))
    for _ in range(3):
        code, _, err = run()
        assert code == 0, err
        assert line in err.splitlines()
    run("output_dir=fresh")
    assert contents(survey / "fresh") == contents(survey / "out")


def test_features_without_a_geometry_are_counted(run: Run, survey: Path) -> None:
    shapes = [ground(5, 5, 90, 90), None, shapely.Polygon(), ground(5, 100, 90, 50)]
    write_polygons(survey / "null.gpkg", shapes)
    line = 'notice: null.gpkg: layer "null": 1 features have no geometry and 1 an empty one; they are left out'
    for _ in range(2):
        code, _, err = run(config=source(labels="null.gpkg"))
        assert code == 0, err
        assert line in err.splitlines()


def test_a_label_raster(run: Run, survey: Path) -> None:
    values = np.random.default_rng(1).choice([0, 3, 9], (120, 160)).astype(np.uint8)
    write_raster(survey / "label.tif", values)
    text = source(labels="label.tif").replace("column: label, map: {kelp: 1, eelgrass: 2, unsure: ignore}", "MAP")
    line = refused(run, config=text.replace("MAP", "map: {0: 0, 3: 1}"))
    assert "label.tif: has label values without a class: 9 (" in line
    code, _, err = run(config=text.replace("MAP", "map: {0: 0, 3: 1, 9: ignore}, names: [water, kelp]"))
    assert code == 0, err
    with rasterio.open("out/labels/north.tif") as label:
        assert (label.read(1) == np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 255])[values]).all()


def test_a_map_of_polygons_and_label_rasters(run: Run, survey: Path) -> None:
    values = np.random.default_rng(1).choice([0, 3, 9], (120, 160)).astype(np.uint8)
    write_raster(survey / "label.tif", values)
    text = source(labels="label.tif").replace("column: label, ", "")
    assert "label.tif: is a label raster, and classes.map has no whole numbers (name" in refused(run, config=text)
    text = text.replace("unsure: ignore", "0: 0, 3: 1, '*': ignore")
    code, _, err = run(config=text)
    assert code == 0, err
    with rasterio.open("out/labels/north.tif") as label:
        assert (label.read(1) == np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 255])[values]).all()


def test_images_without_georeference(run: Run, survey: Path) -> None:
    image = np.random.default_rng(0).integers(1, 255, (3, 120, 160)).astype(np.uint8)
    write_raster(survey / "plain.tif", image, crs=None, transform=Affine.identity())
    write_raster(survey / "label.tif", (image[0] > 99).astype(np.uint8), crs=None, transform=Affine.identity())
    config = source(image="plain.tif", labels="label.tif")
    config = config.replace("column: label, map: {kelp: 1, eelgrass: 2, unsure: ignore}", "names: [a, b]")
    code, _, err = run(config=config)
    assert code == 0, err
    assert "notice: not georeferenced: plain: blocks are laid out and kept apart in pixels (8 pixels)" in err
    assert "split.guard: 3 m can't be measured in plain.tif" in refused(run, "split.guard=3 m")


def test_given_splits(run: Run, survey: Path) -> None:
    lines = [f"  - {{image: m/{name}.tif, labels: kelp.gpkg, split: train}}" for name in ("north", "south")]
    config = CONFIG.replace('  - {image: "m/{name}.tif", labels: kelp.gpkg}', "\n".join(lines))
    config = config.replace("block_size: 40 px", "by: given, block_size: 40 px")
    code, out, err = run(config=config)
    assert code == 0, err
    assert "notice: no block is in val, which training needs (give it sources or a share)" in err
    assert [line.split()[0] for line in out.splitlines()[4:-1]] == ["split", "train"]
    code, out, err = run("sources.1.split=val")
    assert code == 0, err
    assert "notice: no block" not in err
    assert {block.source: block.split for block in read_prepared(Path("out")).blocks} == {
        "north": "train",
        "south": "val",
    }


def test_values_of_a_column_are_drawn(run: Run, survey: Path) -> None:
    shapes = [ground(0, 0, 120, 50), ground(0, 50, 120, 60), ground(0, 110, 120, 50)]
    write_polygons(survey / "areas.gpkg", shapes, {"transect": ["a", "b", "c"]})
    config = source(areas="areas.gpkg").replace("block_size: 40 px", "by: column, column: transect, block_size: 10 px")
    code, _, err = run("split.guard=4 px", config=config)
    assert code == 0, err
    found: dict[str, set[str]] = {}
    for block in read_prepared(Path("out")).blocks:
        if block.selected:
            found.setdefault("abc"[(block.col >= 50) + (block.col >= 110)], set()).add(block.split)
    assert sorted(map(len, found.values())) == [1, 1, 1]
    assert set().union(*found.values()) == {"train", "val", "test"}
    assert run("split.guard=4 px")[2].endswith("out: nothing has changed\n")


def test_two_dates_of_one_place_are_one_unit(run: Run, survey: Path) -> None:
    write_mosaic(survey / "m" / "again.tif", at=(2, 1.5))
    code, _, err = run()
    assert code == 0, err
    assert any("again" in line and "north" in line for line in err.splitlines() if line.startswith("notice: ")), err


def test_an_interruption_leaves_the_folder_as_it_was(run: Run, survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.preparation.run.write_dataset", stop)
    assert run()[0] == 130
    assert not (survey / "out").exists()
    monkeypatch.undo()
    monkeypatch.chdir(survey)
    assert run()[0] == 0
    before = contents(survey / "out")
    monkeypatch.setattr("train.preparation.run.write_dataset", stop)
    assert run("all_touched=true")[0] == 130
    assert contents(survey / "out") == before


def test_many_files_are_one_line(run: Run, survey: Path) -> None:
    for number in range(20):
        write_mosaic(survey / "m" / f"a{number:02}.tif", (40, 50), at=(0, 2000 + 100 * number))
    write_polygons(survey / "areas.gpkg", [ground(0, 0, 120, 160)])
    code, _, err = run(config=CONFIG.replace("kelp.gpkg", "kelp.gpkg, areas: areas.gpkg"))
    assert code == 0, err
    assert "out/labels: 22 files: a00.tif, a01.tif, a02.tif, 19 more" in err.splitlines()
    assert 'notice: areas.gpkg: layer "areas" has no area on m/a00.tif: nothing of it is labelled' in err.splitlines()
    assert {b.reason for b in read_prepared(Path("out")).blocks if b.source == "a00"} == {"no labelled pixel"}

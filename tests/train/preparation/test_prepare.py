"""`python -m train.prepare` from end to end: what it writes, what it keeps, and what it refuses."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio import Affine

from tests.conftest import write_raster
from tests.train.preparation.surveys import ground, write_mosaic, write_polygons
from train.data.read_prepared import prepared_splits, read_prepared
from train.prepare import main

CONFIG = """\
output_dir: out
tile_size: 16
sources:
  - {image: "m/{name}.tif", labels: kelp.gpkg}
classes: {column: label, map: {kelp: 1, eelgrass: 2, unsure: ignore}}
split: {block_size: 40 px, guard: 8 px, shares: {train: 0.6, val: 0.2, test: 0.2}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two mosaics, far apart, and polygons on them."""
    monkeypatch.chdir(tmp_path)
    write_mosaic(tmp_path / "m" / "north.tif", nodata=0)
    write_mosaic(tmp_path / "m" / "south.tif", at=(0, 900))
    rng = np.random.default_rng(0)
    shapes, labels = [], []
    for row in range(5, 115, 20):
        for col in range(5, 155, 20):
            for at in ((0.0, 0.0), (0.0, 900.0)):
                shapes.append(ground(row, col, 10 + rng.integers(5), 10 + rng.integers(5), at))
                labels.append(str(rng.choice(["kelp", "eelgrass", "unsure"], p=[0.6, 0.3, 0.1])))
    write_polygons(tmp_path / "kelp.gpkg", shapes, {"label": labels}, "EPSG:4326")
    (tmp_path / "p.yml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def run(survey: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command, and returns its exit code, stdout and stderr."""

    def run(*arguments: str, config: str | None = None) -> tuple[int, str, str]:
        if config is not None:
            (survey / "p.yml").write_text(config)
        capsys.readouterr()
        code = main(["p.yml", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(run: Run, *arguments: str, config: str | None = None) -> str:
    """Run the command on bad input: one line, and the folder is as it was."""
    folder = Path("out")
    before = contents(folder) if folder.exists() else None
    code, out, err = run(*arguments, config=config)
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("notice: ")]
    assert len(lines) == 1, err
    assert (contents(folder) if folder.exists() else None) == before
    return lines[0]


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


def test_check_and_chips_exclude_each_other(run: Run) -> None:
    assert refused(run, "--check", "--chips", "c") == (
        "--check: writes nothing, so --chips can't be given as well (remove one)"
    )


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["classes={column: species, map: {kelp: 1}}"],
            'kelp.gpkg: layer "kelp" has no column "species" (it has "label")',
        ),
        (["classes={column: label, map: {kelp: 1}}"], 'has values that classes.map doesn\'t name: "eelgrass" (2'),
        (["classes={map: {kelp: 1}}"], "are polygons, and the config doesn't say which column holds their class"),
        (
            ["split.shares={train: 0.5, val: 0.2}"],
            "override: split.shares: sum to 0.7: train 0.5, val 0.2, test 0 (they",
        ),
        (["split.guard=2 km"], "'2 km' is no distance"),
        (["split.guard=300 px"], "split.guard: "),
        (["split.by=site"], "split.by: site: 2 sites with labelled pixels can't fill 3 splits (add sources"),
        (["split.by=date"], "has no date, but split.by is date"),
        (["tile_sise=3"], "override: tile_sise: unknown key (did you mean 'tile_size'?)"),
        (["output_dir=p.yml"], "output_dir: p.yml: is a file (give a folder)"),
        (["border_ignore=-1"], "-1 is out of range"),
    ],
)
@pytest.mark.parametrize("prepared", [False, True])
def test_bad_configs(run: Run, arguments: list[str], expected: str, prepared: bool) -> None:
    if prepared:
        run()
    assert expected in refused(run, *arguments)


def source(**keys: str) -> str:
    """Return a config with one source, whose file of labels is the given one."""
    lines = CONFIG.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  - "))
    values = {"image": "m/north.tif", "labels": "kelp.gpkg"} | keys
    lines[at] = "  - {" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"
    return "\n".join(lines) + "\n"


def test_labels_without_a_crs(run: Run, survey: Path) -> None:
    write_polygons(survey / "no.gpkg", [ground(5, 5, 10, 10)], crs=None)
    line = refused(run, config=source(labels="no.gpkg"))
    assert line.startswith('p.yml:4:34: sources.0.labels: no.gpkg: layer "no" has no coordinate reference system (give')


def test_polygons_that_do_not_touch_the_image(run: Run, survey: Path) -> None:
    write_polygons(survey / "off.gpkg", [ground(5, 5, 10, 10, (5000, 5000))], crs="EPSG:4326")
    line = refused(run, config=source(labels="off.gpkg"))
    assert line.startswith('off.gpkg: layer "off": none of its 1 polygons touches m/north.tif: they lie at longitude')
    assert line.endswith("(check the files and their CRS)")


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


def test_a_layer_that_is_not_there(run: Run, survey: Path) -> None:
    write_polygons(survey / "two.gpkg", [ground(5, 5, 10, 10)], layer="beds")
    write_polygons(survey / "two.gpkg", [ground(5, 5, 10, 10)], layer="rocks")
    assert 'has no layer "kelp" with polygons (it has "beds", "rocks")' in refused(
        run, config=source(labels="two.gpkg", layer="kelp")
    )
    assert 'two.gpkg: has several layers: "beds", "rocks" (choose one with layer in its source)' in refused(
        run, config=source(labels="two.gpkg")
    )


def test_a_truncated_geopackage(run: Run, survey: Path) -> None:
    whole = (survey / "kelp.gpkg").read_bytes()
    (survey / "kelp.gpkg").write_bytes(whole[: len(whole) // 3])
    assert "kelp.gpkg: " in refused(run)


def test_a_locked_geopackage(run: Run, survey: Path) -> None:
    run()
    code = (
        "import sqlite3, sys\ndatabase = sqlite3.connect('kelp.gpkg', isolation_level=None)\n"
        "database.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert "kelp.gpkg" in refused(run, "all_touched=true")


def test_overlapping_polygons(run: Run, survey: Path) -> None:
    shapes = [ground(5, 5, 20, 20), ground(15, 5, 20, 20), ground(60, 60, 20, 20)]
    write_polygons(survey / "over.gpkg", shapes, {"label": ["kelp", "eelgrass", "kelp"]})
    config = source(labels="over.gpkg").replace("split:", "select: {max_nodata: 1}\nsplit:")
    line = refused(run, config=config)
    assert line == (
        "polygons of kelp and eelgrass overlap on 2.00 m² in m/north.tif (correct them, or say what counts there: "
        "overlap: ignore, or overlap: {priority: [kelp, eelgrass]})"
    )
    code, _, err = run("overlap={priority: [eelgrass]}")
    assert code == 0, err
    assert "notice: polygons of kelp and eelgrass overlap on 2.00 m² in north: eelgrass there" in err
    with rasterio.open("out/labels/north.tif") as label:
        assert (label.read(1)[15:25, 5:25] == 2).all()


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


def test_all_bad_label_rasters_at_once(run: Run, survey: Path) -> None:
    for name in ("north", "south"):
        origin = (5e5, 5.8e6 - 900 * (name == "south"))
        write_raster(survey / f"{name}_label.tif", np.full((120, 160), 7, np.uint8), origin=origin)
    config = CONFIG.replace("kelp.gpkg", '"{name}_label.tif"')
    config = config.replace("column: label, map: {kelp: 1, eelgrass: 2, unsure: ignore}", "names: [a, b]")
    code, _, err = run(config=config)
    assert code == 2
    assert [line.partition(": has")[0] for line in err.splitlines()] == [
        f"p.yml:4:37: sources.0.labels: {name}_label.tif" for name in ("north", "south")
    ]
    assert not (survey / "out").exists()
    write_raster(survey / "south_label.tif", np.full((120, 160), 1, np.uint8))
    err = run("classes={map: {7: 1}}")[2]
    assert err == (
        "p.yml:4:37: sources.0.labels: south_label.tif: labels no pixel of m/south.tif (check that both show one "
        "place)\n"
    )


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


def test_dates_of_one_place_can_not_be_divided(run: Run, survey: Path) -> None:
    write_mosaic(survey / "again.tif", at=(2, 1.5))
    lines = [
        f"  - {{image: {name}, labels: kelp.gpkg, date: {day}}}"
        for name, day in (("m/north.tif", "2026-07-01"), ("again.tif", "2026-08-01"))
    ]
    config = CONFIG.replace('  - {image: "m/{name}.tif", labels: kelp.gpkg}', "\n".join(lines))
    line = refused(run, "split.by=date", config=config)
    assert line.startswith("split.by: date: 1 dates with labelled pixels can't fill 3 splits (add sources")
    assert "; images show the same ground, so that each place of it lands in one split: " in line


def test_edits_by_hand_are_kept(run: Run, survey: Path) -> None:
    run()
    with sqlite3.connect("out/dataset.gpkg") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')  # they need functions that QGIS has
        database.execute("UPDATE blocks SET selected = 0 WHERE fid = 1")
    database.close()
    line = refused(run, "split.seed=9")
    assert line == (
        "out/dataset.gpkg: its blocks were edited since they were prepared (--overwrite replaces it; else choose "
        "another output_dir)"
    )
    assert run("split.seed=9", "--overwrite")[0] == 0
    write_raster(survey / "out" / "labels" / "north.tif", np.zeros((120, 160), np.uint8))
    assert refused(run).startswith(
        "out/labels/north.tif: was not written by the last preparation, or was changed since"
    )
    assert run("--overwrite")[0] == 0


def test_a_file_of_other_origin_stays(run: Run, survey: Path) -> None:
    (survey / "out").mkdir()
    (survey / "out" / "dataset.gpkg").write_text("mine")
    assert "exists, and prepare.json beside it doesn't say" in refused(run)


def test_inputs_are_never_replaced(run: Run, survey: Path) -> None:
    (survey / "out" / "labels").mkdir(parents=True)
    write_raster(survey / "out" / "labels" / "north.tif", np.zeros((120, 160), np.uint8))
    config = source(labels="out/labels/north.tif").replace(
        "column: label, map: {kelp: 1, eelgrass: 2, unsure: ignore}", "names: [a, b]"
    )
    assert refused(run, "--overwrite", config=config) == (
        "output_dir: out/labels/north.tif is read as an input (choose another output_dir)"
    )


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


def test_images_without_a_valid_pixel(run: Run, survey: Path) -> None:
    for name in ("north", "south"):
        with rasterio.open(survey / "m" / f"{name}.tif", "r+") as file:
            file.nodata = 0
            file.write(np.zeros((file.count, file.height, file.width), file.dtypes[0]))
    assert "blocks can be selected: " in (line := refused(run))
    assert "with nodata" in line
    assert "select.max_nodata" in line

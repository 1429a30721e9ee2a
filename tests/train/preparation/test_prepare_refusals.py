"""What `python -m train.prepare` refuses: one line, and the output folder stays as it was."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.conftest import write_raster
from tests.train.preparation.surveys import CONFIG, Run, ground, refused, source, write_mosaic, write_polygons


def test_check_and_chips_exclude_each_other(run: Run) -> None:
    assert refused(run, "--check", "--chips", "c") == (
        "--check: writes nothing, so --chips can't be given as well (remove one)"
    )


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
        (["output_dir=s3://bucket/out"], "output_dir: s3://bucket/out: is an address (give a folder on a disk; upload"),
        (["border_ignore=-1"], "-1 is out of range"),
    ],
)
@pytest.mark.parametrize("prepared", [False, True])
def test_bad_configs(run: Run, arguments: list[str], expected: str, prepared: bool) -> None:
    if prepared:
        run()
    assert expected in refused(run, *arguments)


def test_labels_without_a_crs(run: Run, survey: Path) -> None:
    write_polygons(survey / "no.gpkg", [ground(5, 5, 10, 10)], crs=None)
    line = refused(run, config=source(labels="no.gpkg"))
    assert line.startswith('p.yml:4:34: sources.0.labels: no.gpkg: layer "no" has no coordinate reference system (give')


def test_polygons_that_do_not_touch_the_image(run: Run, survey: Path) -> None:
    write_polygons(survey / "off.gpkg", [ground(5, 5, 10, 10, (5000, 5000))], crs="EPSG:4326")
    line = refused(run, config=source(labels="off.gpkg"))
    assert line.startswith('off.gpkg: layer "off": none of its 1 polygons touches m/north.tif: they lie at longitude')
    assert line.endswith("(check the files and their CRS)")


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


def test_images_without_a_valid_pixel(run: Run, survey: Path) -> None:
    for name in ("north", "south"):
        with rasterio.open(survey / "m" / f"{name}.tif", "r+") as file:
            file.nodata = 0
            file.write(np.zeros((file.count, file.height, file.width), file.dtypes[0]))
    assert "blocks can be selected: " in (line := refused(run))
    assert "with nodata" in line
    assert "select.max_nodata" in line

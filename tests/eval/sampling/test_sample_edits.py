"""Sample files that were edited, as with QGIS or ogr2ogr: which edits are accepted, and which are refused."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.warp import transform as to_crs

from inference.common.qgis_style import NO_VALUE
from tests.eval.sampling.maps import World, label, rewrite, run, write_world

Edited = tuple[dict[str, Any], Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), 70, 90)


@pytest.fixture(scope="module")
def labelled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "s.gpkg"
    assert run("sample", world.map, "--probabilities", world.probabilities, "--points", 60, "--out", path) == 0
    label(path, world)
    return path


@pytest.fixture
def sample(labelled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(labelled, tmp_path / "s.gpkg"))


def points(change: Callable[[dict[str, Any], Any], Edited]) -> Callable[[str, dict[str, Any], Any], Edited]:
    """Return a change of the points alone."""
    return lambda name, columns, shapes: change(columns, shapes) if name == "points" else (columns, shapes)


def estimated(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run("estimate", path) == 0
    return capsys.readouterr().out


def refusal(path: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert run("estimate", path, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err.strip()


def other_columns(columns: dict[str, Any], shapes: Any) -> Edited:
    more = {"observer": np.array(["me"] * len(shapes), object), "sure": np.arange(len(shapes)) / 7}
    return {"note": columns["note"], **more, "Label": columns["label"], "ID": columns["id"]}, shapes


def other_rows(columns: dict[str, Any], shapes: Any) -> Edited:
    order = np.random.default_rng(0).permutation(len(shapes))
    return {name: values[order] for name, values in columns.items()}, shapes[order]


def numbers(columns: dict[str, Any], shapes: Any) -> Edited:
    return columns | {"label": np.array([0.0 if text == "water" else 1.0 for text in columns["label"]])}, shapes


def capitals(columns: dict[str, Any], shapes: Any) -> Edited:
    return columns | {"label": np.array([f" {text.upper()} " for text in columns["label"]], object)}, shapes


def real_numbers(columns: dict[str, Any], shapes: Any) -> Edited:
    return columns | {"id": columns["id"].astype(np.float64)}, shapes


def nudged(columns: dict[str, Any], shapes: Any) -> Edited:
    return columns, shapely.transform(shapes, lambda at: at + 0.04)


def multi(columns: dict[str, Any], shapes: Any) -> Edited:
    return columns, np.array([shapely.MultiPoint([each]) for each in shapes], object)


@pytest.mark.parametrize("edit", [other_columns, other_rows, numbers, capitals, real_numbers, nudged, multi])
def test_edits_that_do_not_matter(
    edit: Callable[[dict[str, Any], Any], Edited], sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(sample, capsys)
    rewrite(sample, points(edit), order=-1)
    assert estimated(sample, capsys) == before


def test_points_in_another_crs_are_those_that_were_drawn(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = estimated(sample, capsys)

    def degrees(at: np.ndarray) -> np.ndarray:
        return np.array(to_crs("EPSG:32609", "EPSG:4326", *at.T)).T

    rewrite(sample, points(lambda columns, shapes: (columns, shapely.transform(shapes, degrees))), crs="EPSG:4326")
    assert estimated(sample, capsys) == before


def test_the_layer_of_pixels_may_be_left_out(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = estimated(sample, capsys)
    rewrite(sample, lambda name, *layer: None if name == "pixels" else layer)
    assert estimated(sample, capsys) == before


def test_a_choice_of_no_value_is_no_label(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(columns: dict[str, Any], shapes: Any) -> Edited:
        columns["label"][:3] = [NO_VALUE, "", None]
        return columns, shapes

    rewrite(sample, points(change))
    assert "without a label: 3" in estimated(sample, capsys)


def moved(columns: dict[str, Any], shapes: Any) -> Edited:
    shapes[[4, 7]] = shapely.transform(shapes[[4, 7]], lambda at: at + np.array([2.0, 0.0]))
    return columns, shapes


def added(columns: dict[str, Any], shapes: Any) -> Edited:
    more = {name: np.append(values, values[:1]) for name, values in columns.items()}
    more["id"][-1] = 61
    return more, np.append(shapes, shapes[:1])


def added_by_hand(columns: dict[str, Any], shapes: Any) -> Edited:
    more, shapes = added(columns, shapes)
    return more | {"id": np.ma.masked_array(more["id"], more["id"] == 61)}, shapes


def copied(columns: dict[str, Any], shapes: Any) -> Edited:
    return {name: np.append(values, values[:1]) for name, values in columns.items()}, np.append(shapes, shapes[:1])


def removed(columns: dict[str, Any], shapes: Any) -> Edited:
    return {name: values[2:] for name, values in columns.items()}, shapes[2:]


def exchanged(columns: dict[str, Any], shapes: Any) -> Edited:
    columns["id"][[0, 1]] = columns["id"][[1, 0]]
    return columns, shapes


def without_place(columns: dict[str, Any], shapes: Any) -> Edited:
    shapes[5] = None
    return columns, shapes


def misspelt(columns: dict[str, Any], shapes: Any) -> Edited:
    columns["label"][[0, 1, 2]] = ["kelb", "kelb", "7"]
    return columns, shapes


def unlabelled(columns: dict[str, Any], shapes: Any) -> Edited:
    return columns | {"label": np.full(len(shapes), None, object)}, shapes


def without_labels(columns: dict[str, Any], shapes: Any) -> Edited:
    return {"id": columns["id"]}, shapes


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (moved, "points 5, 8 were moved, point 5 by 2.00 m (20.0 pixels) (allowed: half a pixel; put point 5 back to"),
        (added, "point 61 is not drawn"),
        (added_by_hand, "1 points without a number"),
        (copied, "point 1 stands there twice"),
        (removed, "points 1, 2 are missing"),
        (exchanged, "points 2, 1 were moved"),
        (without_place, "point 6 is no longer a point"),
        (misspelt, 'points 1, 2: label "kelb" is no class (allowed: water, kelp, unsure, or empty)'),
        (misspelt, 'point 3: label "7" is no class'),
        (unlabelled, "none of the 60 points is labelled"),
        (without_labels, 'has no column "label" (it has "id"'),
    ],
)
def test_edits_that_would_spoil_the_areas(
    edit: Callable[[dict[str, Any], Any], Edited], said: str, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(sample, points(edit))
    assert said in refusal(sample, capsys)


@pytest.mark.parametrize("table", ["design", "strata", "drawn"])
def test_a_table_of_the_design_can_not_be_edited(table: str, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(name: str, columns: dict[str, Any], shapes: Any) -> Edited:
        if name == table:
            column = {"design": "value", "strata": "area", "drawn": "stratum"}[table]
            values = columns[column]
            at = values.tolist().index("0") if table == "design" else 0  # the seed
            values[at] = "7" if table == "design" else values[at] + 1
        return columns, shapes

    rewrite(sample, change)
    assert "a table of the design was edited or is damaged" in refusal(sample, capsys)


@pytest.mark.parametrize("table", ["design", "strata", "drawn", "points"])
def test_an_exported_layer_is_not_a_sample(table: str, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(sample, lambda name, *layer: None if name == table else layer)
    assert f'has no table "{table}"' in refusal(sample, capsys)


def test_another_map_is_refused(world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_world(tmp_path / "other", 70, 91)
    assert "isn't the map that" in refusal(sample, capsys, "--map", other.map)


def test_the_same_map_in_another_file_is_accepted(
    world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import rasterio
    from rasterio import shutil as copies

    copy = tmp_path / "copy.tif"
    copies.copy(world.map, copy, driver="GTiff", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    assert run("estimate", sample, "--map", copy) == 0
    with rasterio.open(copy, "r+") as file:
        values = file.read(1)
        values[50, 50] = 1 - values[50, 50]
        file.write(values, 1)
    assert "or was changed since" in refusal(sample, capsys, "--map", copy)


def test_few_labels_in_a_stratum_say_which_points_to_label(
    sample: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    meta, _, _, values = pyogrio.raw.read(sample, layer="drawn")
    drawn = dict(zip(meta["fields"].tolist(), values, strict=True))
    members = sorted(drawn["id"][drawn["stratum"] == 0].tolist())
    label(sample, world, dict.fromkeys(members[1:]))
    said = refusal(sample, capsys)
    assert said.startswith(f"{sample}: 1 of the points in a part of")
    assert f"label 1 more of the points {members[1]}" in said
    label(sample, world, dict.fromkeys(members, "unsure"))
    assert "judge the unsure ones again" in refusal(sample, capsys)


def test_labels_are_not_overwritten_unless_asked(
    world: World, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sample.read_bytes()
    arguments = ("sample", world.map, "--out", sample)
    assert run(*arguments) == 2
    assert "60 of its points are labelled: these labels would be lost" in capsys.readouterr().err
    assert sample.read_bytes() == before
    assert run(*arguments, "--overwrite") == 0
    assert "is replaced, with 60 labels" in capsys.readouterr().err


def test_more_is_refused_where_the_input_differs(
    world: World, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_world(tmp_path / "other", 70, 90, origin=(5e5 + 1, 5.8e6))
    before = sample.read_bytes()
    for arguments, said in (
        ((other.map, "--probabilities", other.probabilities), "isn't the map that"),
        ((world.map,), "--probabilities: is missing"),
        ((world.map, "--probabilities", world.probabilities, "--sites", world.map), "--sites: "),
    ):
        assert run("sample", *arguments, "--more", 10, "--out", sample) == 2
        assert said in capsys.readouterr().err
        assert sample.read_bytes() == before


def test_more_points_join_a_file_with_other_columns(world: World, sample: Path) -> None:
    rewrite(sample, points(other_columns), order=-1)
    arguments = ("sample", world.map, "--probabilities", world.probabilities, "--more", 10, "--out", sample)
    assert run(*arguments) == 0
    meta, _, _, values = pyogrio.raw.read(sample, layer="points")
    columns = dict(zip(meta["fields"].tolist(), values, strict=True))
    assert set(columns) >= {"observer", "sure"}
    assert len(next(iter(columns.values()))) == 70
    assert run("estimate", sample) == 0


HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA journal_mode = wal")
database.execute("CREATE TABLE other (a)")
database.commit()
print("open", flush=True)
sys.stdin.read()
database.close()
"""


def test_a_file_that_another_program_has_open_is_read_but_not_replaced(
    world: World, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(sample, capsys)
    arguments = ("sample", world.map, "--probabilities", world.probabilities, "--out", sample)
    # In a process of its own: locks don't separate two copies of SQLite in one.
    command = [sys.executable, "-c", HOLDER, str(sample)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert estimated(sample, capsys) == before
        for more in (("--more", 10), ("--overwrite",)):
            assert run(*arguments, *more) == 2
            assert "another program has it open" in capsys.readouterr().err
        holder.communicate()
    assert run(*arguments, "--more", 10) == 0
    assert list(sample.parent.iterdir()) == [sample]

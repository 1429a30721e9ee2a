"""Reading the tables of a prepared data set: edits that are accepted, and one line for each that isn't."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.train.data.prepared_set import SETTINGS, edit, make_prepared, write_table
from train.data.prepared import Block
from train.data.prepared_scenes import prepared_scenes, resolution_notices
from train.data.read_prepared import is_prepared, prepared_splits, read_prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_prepared(tmp_path)


def names(blocks: list[Block]) -> list[str]:
    return [block.block for block in blocks]


def test_blocks_settings_and_sources(folder: Path) -> None:
    assert is_prepared(folder)
    assert not is_prepared(folder.parent)
    prepared = read_prepared(folder)
    assert prepared.settings == SETTINGS
    assert list(prepared.sources) == ["m0", "m1"]
    assert prepared.sources["m1"].site == "m1"
    assert prepared.sources["m1"].date is None
    first = prepared.blocks[0]
    assert (first.block, first.row, first.col, first.height, first.width) == ("m0_r3_c5", 3, 5, 60, 60)
    assert first.selected is True
    assert sum(first.shares) + first.unlabelled + first.nodata == pytest.approx(1)
    splits = prepared_splits(prepared, None)
    assert list(splits) == ["train", "val", "test"]
    assert sum(map(len, splits.values())) == len(prepared.blocks)
    assert names(splits["train"]) == sorted(names(splits["train"]))


def test_edits_of_a_user_are_obeyed(folder: Path) -> None:
    before = prepared_splits(read_prepared(folder), None)
    moved, left_out = before["train"][0].block, before["train"][1].block
    edit(folder, f"UPDATE blocks SET split = 'val' WHERE block = '{moved}'")
    edit(folder, f"UPDATE blocks SET selected = 0 WHERE block = '{left_out}'")
    edit(folder, "UPDATE blocks SET reason = NULL, fold = ''")
    edit(folder, "ALTER TABLE blocks ADD COLUMN remark")
    edit(folder, "CREATE TABLE layer_styles (qml)")
    after = prepared_splits(read_prepared(folder), None)
    assert names(after["train"]) == names(before["train"])[2:]
    assert names(after["val"]) == sorted([*names(before["val"]), moved])


def test_a_split_without_blocks_is_left_out(folder: Path) -> None:
    edit(folder, "UPDATE blocks SET selected = 0 WHERE split = 'test'")
    assert list(prepared_splits(read_prepared(folder), None)) == ["train", "val"]


def test_folds(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, settings=replace(SETTINGS, folds=3))
    prepared = read_prepared(folder)
    test = {block.block for block in prepared.blocks if block.split == "test"}
    seen = []
    for fold in (1, 2, 3):
        splits = prepared_splits(prepared, fold)
        assert set(names(splits["test"])) == test
        assert all(block.fold == fold for block in splits["val"])
        assert all(block.fold not in (fold, None) for block in splits["train"])
        assert sum(map(len, splits.values())) == len(prepared.blocks)
        seen += names(splits["val"])
    assert sorted(seen) == sorted(block.block for block in prepared.blocks if block.block not in test)
    with pytest.raises(UserError, match=r"^data_module\.fold: 4 \(allowed: 1 to 3, the folds of .*dataset\.gpkg\)$"):
        prepared_splits(prepared, 4)


def test_a_fold_of_a_set_without_folds(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^data_module\.fold: 2, but .* has no folds \(leave it out, or prepare"):
        prepared_splits(read_prepared(folder), 2)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE blocks SET split = 'Train' WHERE fid = 2",
            r'blocks: "m0_r3_c97": split is "Train" \(allowed: train, val, test\)',
        ),
        ("UPDATE blocks SET split = NULL WHERE fid = 2", r'"m0_r3_c97": split is "" \(allowed: train, val, test\)'),
        (
            "UPDATE blocks SET selected = 'yes' WHERE fid = 1",
            r'"m0_r3_c5": selected is "yes" \(allowed: true or false\)',
        ),
        (
            "UPDATE blocks SET selected = NULL WHERE fid = 1",
            r'"m0_r3_c5": selected is empty \(allowed: true or false\)',
        ),
        (
            "UPDATE blocks SET width = 206 WHERE fid = 1",
            r"rows 3 to 63, columns 5 to 211 don't lie inside m0 of 210x150",
        ),
        ("UPDATE blocks SET row = -1 WHERE fid = 1", r"rows -1 to 59, columns 5 to 65 don't lie inside m0 of 210x150"),
        ("UPDATE blocks SET row = 1.5 WHERE fid = 1", r'row is "1\.5" \(allowed: a whole number\)'),
        ("UPDATE blocks SET source = 'm7' WHERE fid = 1", r'source "m7" is not in table sources'),
        ("UPDATE blocks SET block = '../x' WHERE fid = 1", r"can't be the name of a chip"),
        ("UPDATE sources SET name = '../x' WHERE fid = 1", r"can't be the name of a label file"),
        ("DELETE FROM blocks", r"blocks: is empty \(run python -m train\.prepare again\)"),
        ("DROP TABLE sources", r"has no table sources \(it must be one that python -m train\.prepare wrote"),
        ("ALTER TABLE blocks DROP COLUMN split", r"blocks: has no split \(run"),
        ("ALTER TABLE blocks DROP COLUMN share_1_kelp", r'blocks: has no column share_1_\.\.\. of class "kelp"'),
        ("UPDATE settings SET value = '2' WHERE key = 'version'", r'version "2" of the layout \(allowed: up to 1'),
        ("UPDATE settings SET value = 'x' WHERE key = 'seed'", r'"seed" has no value in JSON'),
        ("UPDATE settings SET value = '\"a\"' WHERE key = 'class_names'", r'class_names is "a" \(allowed: a list\)'),
        ("DELETE FROM settings WHERE key = 'tile_size'", r"settings: has no tile_size"),
    ],
)
def test_an_edit_that_is_not_allowed_is_one_line(folder: Path, statement: str, message: str) -> None:
    edit(folder, statement)
    with pytest.raises(UserError) as caught:
        read_prepared(folder)
    lines = str(caught.value).splitlines()
    assert re.search(message, lines[0]), lines
    assert str(folder / "dataset.gpkg") in lines[0]


def test_many_faults_are_told_at_once_and_no_more_than_fit(folder: Path) -> None:
    edit(folder, "UPDATE blocks SET split = 'x'")
    with pytest.raises(UserError) as caught:
        read_prepared(folder)
    assert len(str(caught.value).splitlines()) == min(10, len(list(prepared_blocks(folder))))


def prepared_blocks(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "dataset.gpkg")) as database:
        return [name for (name,) in database.execute("SELECT block FROM blocks")]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def no_database(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "is damaged or no GeoPackage|can't be read"),
        (no_database, "is damaged or no GeoPackage"),
        (a_folder, "is a folder"),
    ],
)
def test_a_damaged_file_is_one_line(folder: Path, change: Callable[[Path], None], message: str) -> None:
    change(folder / "dataset.gpkg")
    with pytest.raises(UserError, match=message) as caught:
        read_prepared(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_another_program_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.read_prepared._WAIT", 0.05)
    with closing(sqlite3.connect(folder / "dataset.gpkg")) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="another program is writing it"):
            read_prepared(folder)


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_a_file_in_the_mode_that_qgis_leaves(folder: Path, open_elsewhere: bool) -> None:
    """Edits that are still in the file beside it count, too."""
    path = folder / "dataset.gpkg"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("UPDATE blocks SET split = 'test' WHERE fid = 1")
        database.commit()
        if open_elsewhere:
            assert path.with_name("dataset.gpkg-wal").stat().st_size
            assert read_prepared(folder).blocks[0].split == "test"
    assert read_prepared(folder).blocks[0].split == "test"


def test_columns_in_any_order(folder: Path) -> None:
    before = read_prepared(folder)
    with closing(sqlite3.connect(folder / "dataset.gpkg")) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(reversed(list(dict(row).items()))) for row in database.execute("SELECT * FROM blocks")]
        for row in rows:
            del row["fid"]
        database.execute("DROP TABLE blocks")
        write_table(database, "blocks", rows)
        database.commit()
    assert read_prepared(folder).blocks == before.blocks


def test_missing_and_changed_files_are_named_at_once(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, mosaics=5)
    prepared = read_prepared(folder)
    images = [tmp_path / "mosaics" / f"m{number}.tif" for number in range(5)]
    images[0].unlink()
    content = bytearray(images[1].read_bytes())
    content[-1] ^= 255
    images[1].write_bytes(content)
    images[2].write_bytes(images[2].read_bytes() + b"\0")
    images[3].write_bytes(images[4].read_bytes())
    (folder / "labels" / "m4.tif").unlink()
    splits, problems = prepared_scenes(prepared, prepared_splits(prepared, None))
    assert all(not scenes for scenes in splits.values())
    expected = [
        r'm0\.tif: can\'t be read as an image: no such file \(image of "m0" in .*sources: put it back',
        r"m1\.tif: has changed since it was prepared: its content \(SHA-256",
        r"m2\.tif: has changed since it was prepared: it was [\d,]+ bytes, is [\d,]+ \(run python -m train\.prepare",
        r"m3\.tif: has changed since it was prepared: its content",
        r"labels/m4\.tif: can't be read as a label raster: no such file \(run python -m train\.prepare again\)",
    ]
    assert len(problems) == len(expected)
    for pattern, line in zip(expected, problems, strict=True):
        assert re.search(pattern, line), line


def test_files_of_images_without_selected_blocks_are_not_looked_at(folder: Path) -> None:
    edit(folder, "UPDATE blocks SET selected = 0 WHERE source = 'm0'")
    (folder.parent / "mosaics" / "m0.tif").unlink()
    prepared = read_prepared(folder)
    splits, problems = prepared_scenes(prepared, prepared_splits(prepared, None))
    assert problems == []
    assert {scene.site for scenes in splits.values() for scene in scenes} == {"m1"}


def test_ground_sample_distances_that_differ(folder: Path) -> None:
    sources = list(read_prepared(folder).sources.values())
    assert resolution_notices(sources) == []
    assert resolution_notices([replace(sources[0], gsd=None)]) == []
    mixed = [*sources, replace(sources[0], name="coarse", gsd=0.13)]
    (line,) = resolution_notices(mixed)
    assert "most (0.1 m): coarse (0.13 m)" in line
    assert resolution_notices([*sources, replace(sources[0], gsd=0.12)]) == []


def test_settings_are_json(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "dataset.gpkg")) as database:
        rows = dict(database.execute("SELECT key, value FROM settings"))
    assert json.loads(rows["class_names"]) == ["background", "kelp"]

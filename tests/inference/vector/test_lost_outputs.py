"""Files of polygons that a full disk, or another program, gets in the way of: the old file, or the whole new one."""

import errno
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest

from inference.common import geopackage
from inference.polygons import main
from tests.inference.vector.maps import patches, read_polygons, write_map

VALUES = patches(40, 50, 3, 0)
NAMES = {"CLASS_NAMES": json.dumps({"0": "background", "1": "kelp", "2": "mussels"})}


def test_a_file_that_another_program_reads_is_replaced(tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    path = tmp_path / "o.gpkg"
    assert main([str(source), str(path)]) == 0
    other = sqlite3.connect(path)
    try:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE notes (text)")
        other.execute("INSERT INTO notes VALUES ('mine')")
        assert main([str(source), str(path), "--overwrite"]) == 0
    finally:
        other.close()
    assert read_polygons(path)["pixels"].sum() == np.count_nonzero(VALUES)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["m.tif", "o.gpkg"]
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_at_the_last_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(geopackage, "_finish", full)
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    assert main([str(source), str(tmp_path / "o.gpkg")]) == 2
    assert "o.gpkg: can't be written: database or disk is full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif"]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["o.gpkg", "o.geojson", "o.shp"])
def test_a_disk_that_is_full_on_closing_is_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """GDAL drops these errors; what shows that the disk is full is one more file."""
    monkeypatch.setattr(geopackage, "check_room_left", full_disk)
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    (tmp_path / name).write_text("of an earlier run")
    assert main([str(source), str(tmp_path / name), "--overwrite"]) == 2
    assert f"{name}: can't be written: [Errno {errno.ENOSPC}] No space left on device" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "of an earlier run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", name]


@pytest.mark.parametrize("loss", ['DELETE FROM "o" WHERE fid > 5', 'DELETE FROM "rtree_o_geom" WHERE id > 5'])
def test_lost_features_are_noticed(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = pyogrio.raw.write

    def write(path: Path, *values: Any, **options: Any) -> None:
        original(path, *values, **options)
        with closing(sqlite3.connect(path)) as database, database:
            triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                database.execute(f'DROP TRIGGER "{name}"')
            database.execute(loss)

    monkeypatch.setattr(pyogrio.raw, "write", write)
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    assert main([str(source), str(tmp_path / "o.gpkg")]) == 2
    assert "o.gpkg: can't be written: features, or their spatial index, got lost" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif"]

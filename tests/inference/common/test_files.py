"""Files are whole or absent, and only what dead processes left is removed."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inference.common.errors import UserError
from inference.common.files import check_space, check_target, clear_temporaries, make_folder, temporary_path, write_text
from tests.conftest import write_raster


def stale(path: Path, node: str, process: int, end: str = "") -> Path:
    left = path.with_name(f"{path.name}.{node}-{process}.writing{end}")
    left.write_bytes(b"half")
    return left


def test_what_dead_processes_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a[1].tif"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    gone = [
        stale(target, platform.node(), dead.pid),
        stale(target, platform.node(), dead.pid, ".msk.ovr.tmp"),
        stale(target, platform.node(), os.getpid()),
    ]
    old = stale(target, "other-machine", 1)
    os.utime(old, (time.time() - 1e6,) * 2)
    kept = [
        stale(target, platform.node(), alive),
        stale(target, "other-machine", dead.pid),
        stale(tmp_path / "b.tif", platform.node(), dead.pid),
    ]
    check_target(target, "in.tif", "OUT.tif", overwrite=False)
    assert [path.exists() for path in [*gone, old]] == [False] * 4
    assert all(path.exists() for path in kept)


def test_links_to_the_input_are_the_input(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.ones((1, 4, 4), np.uint8))
    (tmp_path / "link.tif").symlink_to(source)
    (tmp_path / "hard.tif").hardlink_to(source)
    for name in ("link.tif", "hard.tif"):
        with pytest.raises(UserError, match="is the input itself"):
            check_target(tmp_path / name, str(source), "OUT.tif", overwrite=True)


def test_a_folder_is_cleared_of_what_dead_processes_left(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [
        stale(tmp_path / "last.ckpt", platform.node(), dead.pid),
        stale(tmp_path / "card.json", platform.node(), os.getpid()),
        tmp_path / "last.ckpt.1.writing",  # as earlier versions called it
    ]
    gone[-1].write_bytes(b"half")
    kept = [
        stale(tmp_path / "last.ckpt", platform.node(), os.getppid()),
        stale(tmp_path / "last.ckpt", "other-machine", dead.pid),
        tmp_path / "on.writing",
        tmp_path / "5.writing",
        tmp_path / "thesis.2.writing-down.txt",
    ]
    for path in kept[2:]:
        path.write_bytes(b"the user's")
    clear_temporaries(tmp_path)
    assert [path.exists() for path in gone] == [False] * 3
    assert [path.exists() for path in kept] == [True] * 5


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def no_disk(_: int) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(os, "fsync", no_disk)
    with pytest.raises(OSError, match="no disk"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    assert temporary_path(target).parent == tmp_path


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.b: can't be written to: .* \(choose another --out\)"):
        make_folder(tmp_path / "file" / "b", "--out")
    make_folder(tmp_path / "a" / "b", "--out")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_space(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(UserError, match=r"MiB may be needed \(make room, or write elsewhere; use less\)"):
        check_space(tmp_path, 1e18, "use less")

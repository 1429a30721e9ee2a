"""Files are whole or absent, and only what dead processes left is removed."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.common.files import claim, clear_beside, clear_temporaries, temporary_path, write_text
from inference.common.targets import check_target


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
        # Another map, which a thread of this process may be writing.
        stale(target.with_name(f"{target.name}.tif"), platform.node(), os.getpid()),
    ]
    check_target(target, "OUT.tif", overwrite=False)
    assert [path.exists() for path in [*gone, old]] == [False] * 4
    assert all(path.exists() for path in kept)


def test_many_targets_are_cleared_with_one_listing_of_each_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in ("one", "two", "elsewhere"):
        (tmp_path / name).mkdir()
    targets = [tmp_path / folder / name for folder in ("one", "two") for name in ("a.tif", "a.tif.tif", "l.tif")]
    targets[2].symlink_to("../elsewhere/real.tif")
    missing = tmp_path / "none" / "a.tif"
    files = [*targets[:2], *targets[3:], tmp_path / "elsewhere" / "real.tif"]
    gone = [stale(path, platform.node(), process) for path in files for process in (dead.pid, os.getpid())]
    gone.append(tmp_path / "two" / "l.tif.7.writing")  # as earlier versions called it
    kept = [stale(targets[0], platform.node(), os.getppid()), tmp_path / "two" / "other.tif.7.writing"]
    kept.append(stale(tmp_path / "one" / "b.tif", platform.node(), dead.pid))
    for path in (gone[-1], kept[1]):
        path.write_bytes(b"half")
    listed, iterdir = [], Path.iterdir

    def listing(folder: Path) -> Iterator[Path]:
        listed.append(folder.name)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", listing)
    clear_beside([*targets, missing])
    assert not [path for path in gone if path.exists()]
    assert all(path.exists() for path in kept)
    assert sorted(listed) == ["elsewhere", "none", "one", "two"]


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


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "a file system without hard links"])
def test_a_name_is_claimed_once(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def not_supported(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", not_supported)
    first, second, target = (tmp_path / name for name in ("1.writing", "2.writing", "a.tif"))
    first.write_text("first")
    second.write_text("second")
    claim(first, target)
    with pytest.raises(FileExistsError):
        claim(second, target)
    assert target.read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.writing", "a.tif"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "card.json"
    link.symlink_to("elsewhere/card.json")
    for text in ("old", "new"):
        write_text(link, text)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / "card.json").read_text() == text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["card.json", "card.json", "elsewhere"]

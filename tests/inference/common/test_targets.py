"""Outputs that must never be replaced, whoever runs the command."""

import os
import socket
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.targets import (
    TABLE_SUFFIXES,
    VECTOR_SUFFIXES,
    check_space,
    check_target,
    make_folder,
)


def refusal(target: str | Path, **options: object) -> str:
    """Return the message of a refused target."""
    with pytest.raises(UserError) as caught:
        check_target(target, "OUT.tif", **{"overwrite": True, **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def make(kind: str, path: Path) -> None:
    """Make something that is not an ordinary file."""
    if kind == "a device":
        try:
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
        except (AttributeError, OSError) as error:
            pytest.skip(f"devices can't be made here: {error}")
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        os.chdir(path.parent)  # the paths of sockets are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["a device", "a named pipe", "a socket", "a folder"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "by a link"])
def test_only_ordinary_files_are_replaced(
    kind: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    special = tmp_path / "o.tif"
    make(kind, special)
    before = special.lstat()
    target = special
    if linked:
        target = tmp_path / "link.tif"
        target.symlink_to("o.tif")
    such = f", such as {special / 'map.tif'}" if kind == "a folder" else ""
    said = refusal(target, suffixes=(".tif", ".tiff"))
    assert said == f"{target}: is {kind} and can't be replaced (choose another OUT.tif{such})"
    assert special.lstat() == before


def test_a_read_only_file_is_not_replaced_even_by_the_superuser(tmp_path: Path) -> None:
    target = tmp_path / "o.tif"
    target.write_bytes(b"kept")
    target.chmod(0o444)
    said = refusal(target)
    assert said == f"{target}: is read-only (allow writing with chmod u+w, or choose another OUT.tif)"
    target.chmod(0o644)
    assert check_target(target, "OUT.tif", overwrite=True) == target


@pytest.mark.parametrize("clear", [True, False])
def test_a_folder_that_cannot_be_listed(clear: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("listdir", "scandir"):  # by which of them depends on the version of Python
        monkeypatch.setattr(os, name, refuse)
    target = tmp_path / "o.tif"
    said = refusal(target, clear=clear)
    assert said == f"{target}: can't be written: Permission denied (choose another OUT.tif)"


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_an_input_under_another_name_is_the_input(link: str, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    target = tmp_path / "o.tif"
    getattr(target, link)(model)
    said = refusal(target, inputs={"https://example.org/in.tif": "the input itself", model: "the model"})
    assert said.endswith("is the model (choose another OUT.tif)")


def test_a_link_stays_and_what_it_leads_to_is_the_target(tmp_path: Path) -> None:
    real = tmp_path / "disk" / "real.tif"
    real.parent.mkdir()
    link = tmp_path / "o.tif"
    link.symlink_to("disk/real.tif")
    assert check_target(link, "OUT.tif", overwrite=False) == real, "a dangling link names a new file"
    real.write_bytes(b"old")
    assert "exists already" in refusal(link, overwrite=False)
    assert check_target(link, "OUT.tif", overwrite=True) == real
    nowhere = tmp_path / "n.tif"
    nowhere.symlink_to("gone/real.tif")
    assert "gone: no such folder" in refusal(nowhere)
    circle = tmp_path / "c.tif"
    circle.symlink_to("c.tif")
    assert "circle" in refusal(circle)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("OUT/", "OUT/: ends like a folder (OUT.tif is a file, such as OUT/map.tif)"),
        ("o.png", "o.png: is written as a GeoTIFF (give OUT.tif a name that ends in .tif or .tiff)"),
        ("tif", "tif: is written as a GeoTIFF (give OUT.tif a name that ends in .tif or .tiff)"),
    ],
)
def test_names(target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(target, suffixes=(".tif", ".tiff")) == said
    assert list(tmp_path.iterdir()) == []
    assert check_target("O.TIFF", "OUT.tif", overwrite=False, suffixes=(".tif", ".tiff")) == Path("O.TIFF")


@pytest.mark.parametrize(
    ("target", "suffixes", "said"),
    [
        ("OUT/", TABLE_SUFFIXES, "OUT/: ends like a folder (OUT.tif is a file, such as OUT/sites.csv)"),
        ("o.tif", TABLE_SUFFIXES, "o.tif: is written as a CSV table (give OUT.tif a name that ends in .csv)"),
        (
            "o.tif",
            VECTOR_SUFFIXES,
            "o.tif: is written as a vector file (give OUT.tif a name that ends in .gpkg, .fgb, .geojson, .shp or "
            ".pmtiles)",
        ),
    ],
)
def test_names_of_other_formats(target: str, suffixes: tuple[str, ...], said: str) -> None:
    assert refusal(target, suffixes=suffixes) == said


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

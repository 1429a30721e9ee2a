"""Images that the arguments of a batch name, the names of their maps, and bad input."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.batch.items import Item, check_inputs, find_items, names_a_batch
from inference.batch.layout import check_names, make_layout
from inference.common.errors import UserError
from inference.options import Options
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

from .survey import contents, pixels, refused, run

OUT = Path("out")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*inputs: str, folder: Path = OUT) -> dict[str, str]:
    """Return the images that arguments name, by the name of their map."""
    return {item.name: item.source for item in find_items(inputs, folder)}


def test_a_folder() -> None:
    touch("in/b.tif", "in/a.TIFF", "in/x/y/c.tif", "in/.hidden.tif", "in/.cache/d.tif", "in/notes.txt", "in/e.jp2")
    touch("in/f.tif.host-1.writing")
    assert found("in") == {"a.tif": "in/a.TIFF", "b.tif": "in/b.tif", "x/y/c.tif": "in/x/y/c.tif"}


def test_folders_and_links() -> None:
    touch("disk/a.tif", "in/b.tif")
    Path("in/link").symlink_to("../disk")
    Path("disk/round").symlink_to("../in/link")
    assert list(found("in")) == ["b.tif", "link/a.tif"], "a circle of links is entered once"


def test_the_folder_of_the_batch_is_not_among_the_images() -> None:
    touch("in/a.tif", "in/out/a.tif", "in/out/b.tif")
    assert found("in", folder=Path("in/out")) == {"a.tif": "in/a.tif"}
    assert found("in/**/*.tif", folder=Path("in/out")) == {"a.tif": "in/a.tif"}
    with pytest.raises(UserError, match="in: is the folder of the images itself"):
        found("in", folder=Path("in/out/.."))
    assert found("in/out", folder=Path("in")) == {"a.tif": "in/out/a.tif", "b.tif": "in/out/b.tif"}


def test_a_pattern() -> None:
    touch("s/2025/ortho.tif", "s/2026/ortho.tif", "s/2026/ortho.tif.aux.xml", "s/2026/x.jp2", "s/2026/[1].tif")
    assert found("s/*/ortho.tif") == {"2025/ortho.tif": "s/2025/ortho.tif", "2026/ortho.tif": "s/2026/ortho.tif"}
    assert found("s/2026/*") == {"[1].tif": "s/2026/[1].tif", "ortho.tif": "s/2026/ortho.tif", "x.tif": "s/2026/x.jp2"}
    assert found("s/2026/[1].tif") == {"[1].tif": "s/2026/[1].tif"}, "a file that has this very name"
    assert found(f"{Path.cwd()}/s/*5/*.tif") == {"2025/ortho.tif": f"{Path.cwd()}/s/2025/ortho.tif"}


def test_files_and_addresses() -> None:
    touch("x/a.tif", "b.vrt")
    assert found("x/a.tif", "b.vrt", "https://h/p/c%20d.tif?key=1", "s3://b/e.tiff") == {
        "a.tif": "x/a.tif",
        "b.tif": "b.vrt",
        "c d.tif": "https://h/p/c%20d.tif?key=1",
        "e.tif": "s3://b/e.tiff",
    }


def test_an_image_that_is_named_twice() -> None:
    touch("in/a.tif")
    assert len(find_items(["in", "./in", "in/a.tif"], OUT)) == 1
    touch("in/x/b.tif")
    with pytest.raises(UserError, match=r"b\.tif: is named twice, as x/b\.tif and b\.tif"):
        check_inputs(find_items(["in", "in/x/b.tif"], OUT))


def test_a_list_of_files() -> None:
    touch("lists/a.tif", "lists/x/b.tif", "c.tif")
    Path("lists/l.txt").write_text(f"# mosaics\n\n a.tif \r\nx/b.tif\n../c.tif\n{Path.cwd()}/d.tif\ns3://b/e.tif\n")
    assert found("lists/l.txt") == {
        "a.tif": "lists/a.tif",
        "x/b.tif": "lists/x/b.tif",
        "c.tif": "lists/../c.tif",
        "d.tif": f"{Path.cwd()}/d.tif",
        "e.tif": "s3://b/e.tif",
    }


def test_a_table_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISK", "/mnt/disk")
    Path("l.csv").write_text(
        '\ufeffSite, image ,output,date\n"Cove, east",a.tif,,2026-07-01\n,$DISK/b.tif,y/z,\n\n,c.tif,d.TIFF,\n'
    )
    assert find_items(["l.csv"], OUT) == [
        Item("a.tif", "a.tif", "Cove, east", "2026-07-01"),
        Item("/mnt/disk/b.tif", "y/z.tif"),
        Item("c.tif", "d.TIFF"),
    ]


def test_a_manifest_of_ten_thousand_rows() -> None:
    Path("l.csv").write_text(
        "image,output\n" + "".join(f"s3://b/{at}/o.tif,{at // 100}/{at}\n" for at in range(10_000))
    )
    items = find_items(["l.csv"], OUT)
    check_inputs(items)
    check_names(make_layout(OUT, Options(polygons=".gpkg")), items)
    assert items[-1] == Item("s3://b/9999/o.tif", "99/9999.tif")


@pytest.mark.parametrize(
    ("sources", "target", "expected"),
    [
        (["a.tif"], "o.tif", False),
        (["a.tif"], "out", False),  # the error of before
        (["in"], "o.tif", False),
        (["in"], "out", True),
        (["a.tif", "b.tif"], "out", True),
        (["a.tif", "b.tif"], "o.tif", True),
        (["*.tif"], "out", True),
        (["l.txt"], "out", True),
        (["s3://b/p/"], "out", True),
        (["s3://b/p.tif"], "out", False),
        (["a.tif"], "old", True),
    ],
)
def test_what_is_a_batch(sources: list[str], target: str, expected: bool) -> None:
    touch("in/a.tif", "a.tif", "old/batch.jsonl")
    assert names_a_batch(sources, target) is expected


def lines(text: str, name: str = "l.csv") -> Callable[[], object]:
    return lambda: Path(name).write_bytes(text.encode("latin-1"))


def nothing() -> None:
    pass


BAD: dict[str, tuple[Callable[[], object], str, str]] = {
    "missing": (nothing, "a.tif gone.tif out", "gone.tif: no such file or folder"),
    "a file as folder": (nothing, "a.tif b.tif o.tif", "OUT_DIR: o.tif is the name of a file (several images are"),
    "a folder that is a file": (nothing, "a.tif b.tif m.onnx", "OUT_DIR: m.onnx is a file, not a folder"),
    "an address": (nothing, "a.tif b.tif gs://bucket/out", "OUT_DIR: gs://bucket/out is an address"),
    "an empty folder": (lambda: Path("none").mkdir(), "none out", "none: holds no GeoTIFF"),
    "no match": (nothing, "x*.tif out", "x*.tif: no image has such a name"),
    "one name": (lambda: touch("x/a.tif"), "a.tif x/a.tif out", "a.tif and x/a.tif (a.tif)"),
    "two suffixes": (lambda: touch("a.jp2"), "a.tif a.jp2 out", "maps of different images would have one name: a.tif"),
    "no name": (nothing, "a.tif https://h/.. out", "https://h/..: has no file name that its map could have"),
    "a web folder": (nothing, "https://h/p/ out", "https://h/p/: only object stores, such as s3://, list their files"),
    "out is in": (nothing, ". .", ".: is the folder of the images itself"),
    "an image itself": (nothing, "a.tif b.tif .", "a.tif: is an image of the batch, a.tif"),
    "a link to an image": (
        lambda: (OUT.mkdir(), os.link("a.tif", "out/b.tif")),
        "a.tif b.tif out --overwrite",
        "out/b.tif: is an image of the batch, a.tif",
    ),
    "its own file": (lambda: touch("index.tif"), "index.tif a.tif out --polygons .gpkg",
        "index.tif: its file index.gpkg has a name of the batch's own files"),
    "two files": (lambda: touch("a_p.tif"), "a.tif a_p.tif out --probabilities _p.tif",
        "a_p.tif: a file of a.tif and of this one would be a_p.tif"),
    "one file for all": (nothing, "a.tif b.tif out --polygons o.gpkg", '"o.gpkg" would be one file for all images'),
    "the map": (nothing, "a.tif b.tif out --probabilities .tif",
        "two files of each image would have one name, such as a.tif, a.tif"),
    "outside": (nothing, "a.tif b.tif out --polygons ../{name}.gpkg", '"../{name}.gpkg" is no file within OUT_DIR'),
    "a format": (nothing, "a.tif b.tif out --polygons .csv", '--polygons: "{name}.csv" (allowed: a name that ends in'),
    "retries": (nothing, "a.tif b.tif out --retries -1", "--retries: -1 (allowed: 0 to 100)"),
    "an option": (nothing, "a.tif b.tif out --overlap 2", "--overlap: 2 (allowed: 0 to 0.9)"),
    "bands": (nothing, "a.tif b.tif out --bands 1", "--bands: names 1 bands, the model takes 3"),
    "sites": (nothing, "a.tif b.tif out --sites no.gpkg --table .csv", "no.gpkg: no such file (correct --sites)"),
    "sites alone": (nothing, "a.tif b.tif out --sites no.gpkg", "--sites: needs --table, too"),
    "no manifest": (nothing, "no.txt out", "no.txt: no such file"),
    "an empty list": (lines("# none\n", "l.txt"), "l.txt out", "l.txt: names no image"),
    "an empty table": (lines(""), "l.csv out", "l.csv:1: has no column image"),
    "no text": (lines("image\n\xff\n"), "l.csv out", "l.csv:2: isn't UTF-8 text: byte 0xff"),
    "a raster as list": (lines("II*\0", "l.txt"), "l.txt out", "l.txt:1: holds a NUL"),
    "no header": (lines("a.tif\n"), "l.csv out", "l.csv:1: has no column image"),
    "a column": (lines("image,sight\n"), "l.csv out", 'l.csv:1: unknown column "sight" (allowed: image, output, site'),
    "twice a column": (lines("image,image\n"), "l.csv out", "l.csv:1: names a column twice"),
    "cells": (lines("image,site\na.tif\n"), "l.csv out", "l.csv:2: has 1 cells, the header 2"),
    "no image": (lines("image,site\n,x\n"), "l.csv out", "l.csv:2: image: is empty"),
    "a date": (lines("image,date\na.tif,1.7.26\n"), "l.csv out", 'l.csv:2: date: "1.7.26" (allowed: YYYY-MM-DD'),
    "output outside": (lines("image,output\na.tif,../x\n"), "l.csv out", 'l.csv:2: output: "../x" is no file within'),
    "absolute output": (lines("image,output\na.tif,/x\n"), "l.csv out", 'l.csv:2: output: "/x" is no file within'),
    "output of a format": (lines("image,output\na.tif,x.png\n"), "l.csv out", 'l.csv:2: output: "x.png" (allowed'),
    "an open quote": (lines('image\n"a.tif\n'), "l.csv out", "l.csv:2: isn't valid CSV"),
    "an unknown variable": (lines("image\n$NO_SUCH/a.tif\n"), "l.csv out", "l.csv:2: image: $NO_SUCH/a.tif: the"),
    "no maps": (nothing, "a.tif o.tif --dry-run", "--dry-run: is for several mosaics and a folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, arguments, says = BAD[case]
    for name in ("a.tif", "b.tif"):
        write_raster(here / name, pixels(0))
    write_onnx(here / "m.onnx", card())
    make()
    before = contents(here)
    assert says in refused(capsys, *arguments.split(), "--model", "m.onnx")
    assert contents(here) == before
    assert not (here / "out" / "batch.jsonl").exists()


def test_options_may_stand_between_the_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.tif", "b.tif"):
        write_raster(here / name, pixels(0))
    write_onnx(here / "m.onnx", card())
    assert run("a.tif", "b.tif", "--model", "m.onnx", "out") == 0
    assert run("a.tif", "--model", "m.onnx", "b.tif", "other") == 0
    assert {path.name for path in Path("other").iterdir()} >= {"a.tif", "b.tif"}
    assert "unrecognized arguments: --nope" in refused(capsys, "a.tif", "b.tif", "out", "--nope")

"""Images of a preparation are found by name and by pattern, with the files that belong to them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference.common.errors import UserError
from tests.conftest import write_raster
from train.preparation.loader import load_prepare_config
from train.preparation.sources import SourceFiles, find_sources

Find = Callable[..., list[SourceFiles]]


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """Return a function that finds the sources of a YAML's lines, in a folder with a few images."""
    monkeypatch.chdir(tmp_path)
    for name in ("m/point.tif", "m/cove.tif", "m/old/cove.tif", "m/a_20260701.tif", "m/b_20260730.tif", "x[1]/z.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        write_raster(tmp_path / name, np.ones((3, 8, 9), np.uint8))
    for name in ("point", "cove"):
        (tmp_path / f"{name}.gpkg").touch()
    (tmp_path / "m" / "notes.txt").touch()

    def find(*lines: str, split: str = "{}") -> list[SourceFiles]:
        text = "output_dir: out\nclasses: {name: kelp}\n" + f"split: {split}\nsources:\n"
        (tmp_path / "p.yml").write_text(text + "".join(f"  - {line}\n" for line in lines))
        return find_sources(load_prepare_config("p.yml"))

    return find


def refused(find: Find, *lines: str, split: str = "{}") -> list[str]:
    with pytest.raises(UserError) as caught:
        find(*lines, split=split)
    return str(caught.value).splitlines()


def test_a_single_image(find: Find) -> None:
    (found,) = find("{image: m/point.tif, labels: point.gpkg, layer: kelp, site: Point, date: 20260701}")
    assert (found.name, found.site, found.date, found.layer) == ("point", "Point", "2026-07-01", "kelp")
    assert (found.image_path, found.labels, found.areas) == (Path("m/point.tif"), Path("point.gpkg"), None)
    assert (found.image.height, found.image.width) == (8, 9)


def test_a_pattern_fills_the_other_keys(find: Find) -> None:
    found = find(
        "{image: 'm/{site}_{day}.tif', site: 'Site {site}', date: '{day}', labels: cove.gpkg, layer: 'l{day}'}"
    )
    assert [(each.name, each.site, each.date, each.layer) for each in found] == [
        ("a_20260701", "Site a", "2026-07-01", "l20260701"),
        ("b_20260730", "Site b", "2026-07-30", "l20260730"),
    ]
    assert {each.site for each in find("{image: 'm/{name}.tif'}")} == {"point", "cove", "a_20260701", "b_20260730"}


def test_stars_match_and_brackets_do_not(find: Find) -> None:
    assert [each.name for each in find("{image: 'm/*_2026070?.tif'}")] == ["a_20260701"]
    assert [each.name for each in find("{image: 'x[1]/{name}.tif'}")] == ["z"]


def test_a_placeholder_that_stands_twice_is_the_same_text(find: Find, tmp_path: Path) -> None:
    write_raster(tmp_path / "m" / "old" / "old_1.tif", np.ones((3, 8, 9), np.uint8))
    assert [each.site for each in find("{image: 'm/{site}/{site}_{n}.tif', site: '{site}'}")] == ["old"]


def test_names_are_unique(find: Find) -> None:
    found = find("{image: m/cove.tif}", "{image: m/old/cove.tif}", "{image: m/point.tif}")
    assert [each.name for each in found] == ["m_cove", "old_cove", "point"]


def test_paths_may_be_absolute_or_lead_up(find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(find(f"{{image: '{tmp_path}/m/{{name}}.tif'}}")) == 4
    monkeypatch.setenv("MOSAICS", str(tmp_path / "m"))
    assert len(find("{image: '$MOSAICS/{name}.tif'}")) == 4
    assert len(find(f"{{image: '../{tmp_path.name}/m/{{name}}.tif'}}")) == 4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{image: m/poimt.tif}", "p.yml:5:13: sources.0.image: m/poimt.tif: can't be read as an image: no such file"),
        (
            "{image: 'n/{name}.tif'}",
            "sources.0.image: n/{name}.tif: matches no file: there is no folder n (correct the",
        ),
        ("{image: 'x[1]/{name}.jpg'}", "x[1]/{name}.jpg: matches no file: x[1] holds z.tif (correct the pattern)"),
        ("{image: m/point.tif, labels: poin.gpkg}", "labels: poin.gpkg: no such file (did you mean 'point.gpkg'?) (it"),
        ("{image: m/point.tif, labels: '{name}.gpkg'}", "{name} is no part of the pattern of images, which has none"),
        ("{image: 'm/{name}.tif', site: '{sit}'}", "{sit} is no part of the pattern of images, which has {name} (use"),
        ("{image: m/point.tif, date: July}", "sources.0.date: 'July' is no date (allowed: YYYY-MM-DD or YYYYMMDD;"),
        ("{image: m/point.tif, date: 2026-02-30}", "sources.0.date: '2026-02-30' is no date"),
        ("{image: 's3://b/{name}.tif'}", "addresses can't be listed by a pattern (name each image)"),
        ("{image: demo://kelp-surveys/a.tif}", "no such demo"),
        ("{image: $NOWHERE/a.tif}", "p.yml:5:13: sources.0.image: $NOWHERE/a.tif: the environment variable NOWHERE"),
    ],
)
def test_mistakes(find: Find, line: str, expected: str) -> None:
    (problem,) = refused(find, line)
    assert expected in problem
    assert problem.startswith("p.yml:5:")


def test_all_mistakes_at_once(find: Find) -> None:
    lines = refused(find, "{image: 'm/{name}.tif', labels: '{name}.gpkg'}", "{image: m/old/../point.tif}", "{image: q}")
    assert len(lines) == 4
    assert "a_20260701.gpkg: no such file (it belongs to m/a_20260701.tif)" in lines[0]
    assert "sources.1.image: m/old/../point.tif stands here a second time (keep one)" in lines[2]


def test_splits_of_a_pattern(find: Find, tmp_path: Path) -> None:
    for split in ("train", "vla"):
        write_raster(tmp_path / f"{split}_1.tif", np.ones((3, 8, 9), np.uint8))
    (line,) = refused(find, "{image: '{split}_{name}.tif', split: '{split}'}", split="{by: given}")
    assert "sources.0.split: 'vla' is no split (did you mean 'val'?)" in line

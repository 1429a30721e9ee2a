"""A PREPARE.yml is read whole, or every mistake in it is reported with its place."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.common.errors import UserError
from train.preparation.config import Distance, distance
from train.preparation.loader import Loaded, load_prepare_config, schema

START = "output_dir: out\nsources: [{image: a.tif, labels: a.gpkg}]\n"
ONE = f"{START}classes: {{name: kelp}}\n"
SPECIES = f"{START}classes: {{column: species, map: {{Macrocystis: 1, Nereocystis: 2, '*': ignore}}}}\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Loaded]:
    """Return a function that loads a YAML text."""

    def load(text: str, *overrides: str) -> Loaded:
        path = tmp_path / "p.yml"
        path.write_text(text, encoding="utf-8")
        return load_prepare_config(path, overrides)

    return load


@pytest.fixture
def answers(load: Callable[..., Loaded], tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that returns the lines with which a file is refused, without the file's path."""

    def answers(text: str, *overrides: str) -> list[str]:
        with pytest.raises(UserError) as caught:
            load(text, *overrides)
        return [line.removeprefix(f"{tmp_path / 'p.yml'}:") for line in str(caught.value).split("\n")]

    return answers


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        (ONE, ["background", "kelp"], {}),
        (SPECIES, ["background", "Macrocystis", "Nereocystis"], {"Macrocystis": 1, "Nereocystis": 2, "*": 255}),
        (f"{START}classes: {{names: [water, kelp, rock]}}\n", ["water", "kelp", "rock"], {}),
        (
            f"{START}classes: {{map: {{0: 0, 7: 1, 8: 1, 9: ignore}}}}\n",
            ["background", "class_1"],
            {"0": 0, "7": 1, "8": 1, "9": 255},
        ),
        (f"{START}classes: {{column: c, map: {{sea: 0, kelp: 1, bull: 1}}}}\n", ["sea", "kelp"], None),
    ],
)
def test_classes(load, text, names, values):
    config = load(text).config
    assert config.class_names == names
    if values is not None:
        assert config.values == values


def test_priority_takes_classes_and_values(load):
    text = f"{START}classes: {{column: c, map: {{mp: 1, nl: 2}}, names: [none, giant, bull]}}\n"
    assert load(f"{text}overlap: {{priority: [nl, giant]}}\n").config.priority == [2, 1]
    assert load(text).config.priority == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, Distance(3, "m")), ("0.2 m", Distance(0.2, "m")), ("512px", Distance(512, "px")), (".5m", Distance(0.5, "m"))],
)
def test_distances(value, expected):
    assert distance(value) == expected


def test_empty_sections_have_their_defaults(load):
    config = load(f"{ONE}split:\nselect:\n").config
    assert config.split.shares.train == 0.7
    assert config.select.max_nodata == 0.9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ONE}tile_sise: 3\n", "4:1: tile_sise: unknown key (did you mean 'tile_size'?)"),
        ("output_dir: o\nclasses: {name: k}\n", "1:1: sources: is missing (a list of {image, labels})"),
        (f"{ONE}seed: 1\n", "4:1: seed: unknown key (it belongs to split)"),
        (f"{ONE}border_ignore: 2 miles\n", "4:16: border_ignore: '2 miles' is no distance"),
        (f"{ONE}split: {{block_size: 0}}\n", "4:21: split.block_size: is 0 (allowed: metres such as 200 m"),
        (f"{ONE}split: {{shares: {{train: 0.7, val: 0.2}}}}\n", "4:9: split.shares: sum to 0.9: train 0.7, val 0.2"),
        (f"{ONE}split: {{shares: {{train: 1}}}}\n", "4:9: split.shares.val: is 0, but training needs this split"),
        (f"{ONE}split: {{by: column}}\n", "4:13: split.by: is column, but split.column is missing"),
        (f"{ONE}split: {{column: c}}\n", "4:17: split.column: is given, but split.by is block"),
        (f"{ONE}split: {{by: date}}\n", "2:11: sources.0: has no date, but split.by is date"),
        (f"{ONE}split: {{by: given}}\n", "2:11: sources.0: has no split, but split.by is given"),
        (
            "output_dir: o\nsources: [{image: a, split: val}]\nclasses: {name: k}\nsplit: {by: given, folds: 2}",
            "4:27: split.folds: is given, but split.by is given, which draws nothing",
        ),
        (f"{START}classes: {{}}\n", "3:1: classes: says nothing about the classes"),
        (f"{START}classes: {{name: a, names: [b, c]}}\n", "3:17: classes.name: is the name of the only class"),
        (f"{START}classes: {{column: a}}\n", "3:19: classes.column: needs a class for each value of column 'a'"),
        (
            f"{START}classes: {{map: {{a: 1, b: 3}}}}\n",
            "3:11: classes.map: has no value for class 2, but one",
        ),
        (f"{START}classes: {{map: {{a: ignore}}}}\n", "3:11: classes.map: ignores all values"),
        (f"{START}classes: {{map: {{a: 1, b: ignored}}}}\n", "3:26: classes.map.b: 'ignored' is not allowed (did you"),
        (f"{START}classes: {{map: {{a: 4}}, names: [b, c]}}\n", "3:20: classes.map.a: is 4, but names has 2 classes"),
        (f"{START}classes: {{names: [b, b]}}\n", "3:22: classes.names.1: 'b' stands here twice"),
        (f"{SPECIES}overlap: {{priority: [Macro]}}\n", "4:22: overlap.priority.0: 'Macro' is no class (did you mean"),
        (
            "output_dir: o\nsources: [{image: a, areas_layer: b, split: tran}]\nclasses: {name: k}\nsplit: {by: given}",
            "2:35: sources.0.areas_layer: is a layer of areas, which isn't given\n"
            "2:45: sources.0.split: 'tran' is no split (did you mean 'train'?)",
        ),
    ],
)
def test_mistakes(answers, text, expected):
    lines = answers(text)
    assert len(lines) == len(expected.splitlines()), lines
    for line, start in zip(lines, expected.splitlines(), strict=True):
        assert line.startswith(start), line


def test_overrides(load, answers):
    assert load(ONE, "split.guard=30 m", "sources.0.date=2026-07-01").config.split.guard == "30 m"
    assert answers(ONE, "split.sed=1", "tile_size") == [
        "override: split.sed: unknown key (did you mean 'seed'?)",
        "override: 'tile_size' is no KEY=VALUE (such as split.seed=3)",
    ]


def test_the_schema_accepts_and_refuses_what_the_loader_does():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(schema()))
    good = {"output_dir": "o", "sources": [{"image": "a"}], "classes": {"map": {"7": 1}}}
    assert validator.is_valid(good)
    assert validator.is_valid(good | {"split": {"guard": "30 m"}, "border_ignore": 2})
    assert not validator.is_valid(good | {"split": {"guard": "30 miles"}})
    assert not validator.is_valid(good | {"classes": {"map": {"7": 255}}})
    assert not validator.is_valid(good | {"guard": 3})


def test_a_mistake_is_answered_before_anything_slow_is_imported(tmp_path):
    (tmp_path / "p.yml").write_text("tile_size: x\n")
    code = (
        "import sys\nfrom train.prepare import main\ncode = main(sys.argv[1:])\n"
        "print(*{'numpy', 'rasterio', 'torch', 'pyogrio', 'shapely'} & set(sys.modules))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "p.yml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "\n"
    assert len(done.stderr.splitlines()) == 4

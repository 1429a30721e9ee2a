"""YAML text to plain data: scalars by YAML 1.2, the place of everything, and no way to make it hang or run code."""

import itertools
import math
import os

import pytest

from inference.common.errors import UserError
from train.configs.document import MAX_BYTES, parse, parse_value, read


def error(text):
    with pytest.raises(UserError) as caught:
        parse(text, "c.yml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2E+4", 2e4),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0", 0),
        ("+7", 7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("1.5.2", "1.5.2"),
        ("<<", "<<"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("[1, [a, null]]", [1, ["a", None]]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parse(f"key: {text}\n", "c.yml").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse("key: .nan", "c.yml").data["key"])


@pytest.mark.parametrize(
    ("text", "keys"),
    [("1: a", [1]), ("01: a", [1]), ("true: a", ["true"]), ("~: a", ["~"]), ("1.5: a", ["1.5"]), ("'1': a", ["1"])],
)
def test_keys_are_whole_numbers_or_text(text, keys):
    assert list(parse(text, "c.yml").data) == keys


MARKED = """\
first: &first 3
map:
  deep: {a: 1, b: *first}
list: [1, *first]
block:
  - x: 1
    y: >
      folded
"""


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("first",), (1, 1), (1, 8)),
        (("map",), (2, 1), (2, 1)),  # what stands on lines of its own is looked for at its key
        (("map", "deep", "a"), (3, 10), (3, 13)),
        (("map", "deep", "b"), (3, 16), (3, 19)),  # an alias: where it is used, not where its anchor is
        (("list", 0), None, (4, 8)),
        (("list", 1), None, (4, 11)),
        (("block", 0, "x"), (6, 5), (6, 8)),
        (("block", 0, "y"), (7, 5), (7, 8)),
        (("map", "missing", "deeper"), None, (2, 1)),  # the nearest parent that is there
        (("nowhere",), None, (1, 1)),
    ],
)
def test_places(path, key, value):
    document = parse(MARKED, "c.yml")
    mark = document.mark(path)
    assert (mark.line, mark.column) == value
    if key is not None:
        mark = document.mark(path, of_key=True)
        assert (mark.line, mark.column) == key


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "# comment\n---\n"])
def test_places_do_not_depend_on_newlines_and_byte_order_marks(tmp_path, newline, start):
    path = tmp_path / "c.yml"
    path.write_bytes((start + "a: 1\nb:\n  c: 2\n").replace("\n", newline).encode())
    mark = read(path).mark(("b", "c"))
    assert (mark.line, mark.column) == (3 + start.count("\n"), 6)


def test_merge_keys():
    text = """\
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
own: {b: 5, <<: *base}
both: {<<: [*more, *base]}
chain: &chain
  <<: *base
  b: 6
again: *chain
"""
    document = parse(text, "c.yml")
    assert document.data["own"] == {"b": 5, "a": 1}
    assert document.data["both"] == {"b": 3, "c": 4, "a": 1}  # the first of the list counts
    assert document.data["chain"] == document.data["again"] == {"b": 6, "a": 1}
    assert document.problems == []  # a key that replaces a merged one is no duplicate, however often it is built
    assert document.mark(("own", "a")).line == 1


def test_aliases_share_nothing():
    data = parse("a: &a {x: [1]}\nb: *a\n", "c.yml").data
    data["a"]["x"].append(2)
    assert data["b"] == {"x": [1]}


def test_duplicates_are_all_found_with_their_first():
    problems = parse("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n1: x\n01: y\n", "c.yml").problems
    assert sorted((path, mark.line, text) for path, mark, text in problems if path != (1,)) == [
        (("a",), 3, "stands here a second time (first on line 1; keep one)"),
        (("a",), 4, "stands here a second time (first on line 1; keep one)"),
        (("b", "c"), 2, "stands here a second time (first on line 2; keep one)"),
    ]
    assert [mark.line for path, mark, _ in problems if path == (1,)] == [6]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.yml: is empty"),
        ("# only a comment\n", "c.yml: is empty"),
        ("---\n", "c.yml: is empty"),
        ("null\n", "c.yml: is empty"),
        ("- a\n", "c.yml:1:1: should be `key: value` lines, found a list"),
        ("word " * 100, "c.yml:1:1: should be `key: value` lines, found 'word word word"),
        ("a:\n\tb: 1\n", "c.yml:2:1: bad YAML: found character '\\t' that cannot start any token (indent with spaces"),
        ("a: 1\n---\nb: 2\n", "c.yml:2:1: bad YAML: expected a single document in the stream but found another"),
        ("a: b: c\n", "c.yml:1:5: bad YAML: mapping values are not allowed here (a colon too many"),
        ("a:\n  b: 1\n c: 2\n", "c.yml:3:2: bad YAML: expected <block end>"),
        (
            "a: [1,\n b\nc: 2\n",
            "c.yml:3:2: bad YAML: expected ',' or ']', but got ':' while parsing a flow sequence that",
        ),
        (
            "a: 'x\n\n",
            "c.yml:3:1: bad YAML: found unexpected end of stream while scanning a quoted scalar that begins on line 1",
        ),
        ("a: @b\n", "c.yml:1:4: bad YAML: found character '@' that cannot start any token (put text"),
        ("a: *b\n", "c.yml:1:4: bad YAML: found undefined alias 'b' (an alias *name needs its &name"),
        ("a: &x 1\nb: &x 2\n", "c.yml:2:4: bad YAML: found duplicate anchor 'x'"),
        ("[a]: 1\n", "c.yml:1:1: bad YAML: a key that is no plain word"),
        ("a: &a {b: *a}\n", "c.yml:1:4: bad YAML: an anchor that contains itself"),
        ("a: &a\n  <<: *a\n", "c.yml:1:4: bad YAML: an anchor that contains itself"),
        ("a: {<<: 3}\n", "c.yml:1:9: bad YAML: << takes mappings only"),
        ("a: !!int x\n", "c.yml:1:4: bad YAML: 'x' is no int"),
        ("a: !!bool maybe\n", "c.yml:1:4: bad YAML: 'maybe' is no bool"),
        ("a: !!float x\n", "c.yml:1:4: bad YAML: 'x' is no float"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "c.yml:1:4: bad YAML: the tag !!python/object/apply:os.system means",
        ),
        ("a: !!python/name:os.system\n", "c.yml:1:4: bad YAML: the tag !!python/name:os.system means nothing here"),
        ("a: !!binary gIGC\n", "c.yml:1:4: bad YAML: the tag !!binary means nothing here"),
        ("a: !own {b: 1}\n", "c.yml:1:4: bad YAML: the tag !own means nothing here"),
        ("a: 1" + "0" * 5000 + "\n", "c.yml:1:4: bad YAML: a number of 5,001 characters (at most 1000)"),
        ("a: " + "[" * 20_000, "c.yml:1:53: bad YAML: nested too deep"),
        ("a: " + "{a: " * 2_000 + "1" + "}" * 2_000, "bad YAML: nested too deep"),
        ("a: 1\nb: \x01\n", "c.yml:2:4: not a text file: the character U+0001 can't be in YAML"),
    ],
)
def test_one_line_for_what_is_no_yaml(text, expected):
    assert expected in error(text)


def test_a_file_that_unfolds_into_billions_is_refused():
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in itertools.pairwise(names)]
    assert "bad YAML: more than 10,000 values" in error("\n".join(lines))


def test_text_that_cannot_be_shown_is_found():
    (problem,) = parse('a:\n  b: "x\\0y"\n', "c.yml").problems
    assert problem[0] == ("a", "b")
    assert "U+0000" in problem[2]


def test_a_value_of_an_override_is_read_the_same_way():
    assert parse_value("{a: 1e-3, b: [on]}") == ({"a": 1e-3, "b": ["on"]}, [])
    assert parse_value("") == (None, [])
    assert parse_value("{a: 1, a: 2}")[1] == [(("a",), "stands here a second time (first on line 1; keep one)")]


class TestFiles:
    def test_missing_names_the_nearest(self, tmp_path):
        (tmp_path / "kelp-unet.yml").write_text("a: 1")
        (tmp_path / "kelp-unet.txt").write_text("a: 1")
        assert refused(tmp_path / "kelp-umet.yml") == "no such file (did you mean 'kelp-unet.yml'?)"

    def test_missing_folder(self, tmp_path):
        assert refused(tmp_path / "none" / "c.yml") == "no such file"

    def test_overrides_without_a_config(self):
        with pytest.raises(UserError, match=r"^tile_size=3: no such file \(the config comes first"):
            read("tile_size=3")

    def test_folder(self, tmp_path):
        assert refused(tmp_path) == "is a folder (give the config file in it)"

    def test_binary(self, tmp_path):
        path = tmp_path / "c.yml"
        path.write_bytes(b"a: \xff\xfe\n")
        assert "c.yml:1:4: not a text file: byte 0xff is not UTF-8 (" in refused(path)

    def test_utf_16(self, tmp_path):
        path = tmp_path / "c.yml"
        path.write_text("a: 1", encoding="utf-16")
        assert "c.yml:1:1: not a text file: byte 0xff" in refused(path)

    def test_large(self, tmp_path):
        path = tmp_path / "c.yml"
        path.write_text("a: 1\n" + "#" * MAX_BYTES)
        assert refused(path) == "is too large for a config: 256 KiB (at most 256 KiB)"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
    def test_a_pipe_is_refused_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "c.yml")
        assert refused(tmp_path / "c.yml") == "is no regular file (save the config as a file)"

    def test_no_permission(self, tmp_path, monkeypatch):
        def forbidden(self):
            raise PermissionError(13, "Permission denied")

        (tmp_path / "c.yml").write_text("a: 1")
        monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)  # tests may run as root, who may read anything
        assert refused(tmp_path / "c.yml") == "can't be read: Permission denied"

    def test_a_folder_that_cannot_be_listed(self, tmp_path, monkeypatch):
        def forbidden(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.iterdir", forbidden)
        assert refused(tmp_path / "c.yml") == "no such file"


def refused(path):
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value).removeprefix(f"{path}: ")

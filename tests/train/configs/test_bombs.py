"""Small configs and overrides that are made to take forever, or to print without end, are answered in a few lines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inference.common.errors import UserError
from train.configs.document import MAX_VALUES
from train.configs.loader import load_config

DATA = "data_module: {data_dir: demo://kelp}\n"


def _nested(first: str, line: str) -> str:
    """Return 14 levels of anchors, each with ten aliases of the one above."""
    levels = (line.format(i=i, aliases=", ".join([f"*a{i - 1}"] * 10)) for i in range(1, 15))
    return f"a0: &a0 {first}\n" + "".join(levels) + DATA


def refused(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = tmp_path / "c.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{path}", "c.yml").splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_nested("{x: 1}", "a{i}: &a{i}\n  <<: [{aliases}]\n"), "more than 10,000 values"),
        (_nested("{}", "a{i}: &a{i}\n  <<: [{aliases}]\n"), "more than 10,000 values"),
        (_nested("[1]", "a{i}: &a{i} [{aliases}]\n"), "more than 10,000 values"),
        (f"{DATA}tags: [{'a,' * (3 * MAX_VALUES)}]", "more than 10,000 values"),
        (f"{DATA}seed: 0x{'f' * 200_000}", "c.yml:2:7: bad YAML: a number of 200,002 characters (at most 1000)"),
        (f"{DATA}seed: {'9' * 200_000}", "a number of 200,000 characters (at most 1000)"),
        (f"{DATA}seed: 0o{'7' * 200_000}", "a number of 200,002 characters (at most 1000)"),
        (f"%YAML 1.{'9' * 200_000}\n---\n{DATA}", "c.yml:1:9: bad YAML: a number that is too large"),
        (
            f"%YAML 1.999\n---\n{DATA}",
            "c.yml:1:1: bad YAML: there is no YAML 1.999 (allowed: 1.0, 1.1",
        ),
        (
            f"%YAML 2.0\n---\n{DATA}",
            "(version 1.* is required) (allowed: 1.0, 1.1 and 1.2; or leave out",
        ),
        (f'{DATA}tags: ["\\UFFFFFFFF"]', "c.yml:2:11: bad YAML: a number that is too large"),
        (f"{DATA}a: {'{a: ' * 3000}1{'}' * 3000}", "nested too deep"),
    ],
    ids=[
        "merges",
        "empty merges",
        "aliases",
        "list",
        "hex",
        "decimal",
        "octal",
        "version",
        "minor",
        "major",
        "character",
        "depth",
    ],
)
def test_a_bomb_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = refused(tmp_path, text)
    assert expected in line


@pytest.mark.parametrize(
    "text",
    [
        DATA + "".join(f"key_{i}: 1\n" for i in range(9000)),
        "data_module:\n  data_dir: demo://kelp\n" + "".join(f"  key_{i}: 1\n" for i in range(9000)),
        "data_module:\n  data_dir: demo://kelp\n  label_map: {" + ", ".join(f"{i}: 300" for i in range(9000)) + "}\n",
    ],
    ids=["top", "section", "values"],
)
def test_thousands_of_mistakes_are_a_screenful(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text is computed for what is not shown: the nearest right name of each of 9,000 keys took 12 s."""
    from train.configs import explanation

    described: list[object] = []

    def counted(function: Callable[..., str | None]) -> Callable[..., str | None]:
        def call(*arguments: object) -> str | None:
            described.append(arguments)
            return function(*arguments)

        return call

    monkeypatch.setattr(explanation, "unknown_key", counted(explanation.unknown_key))
    monkeypatch.setattr(explanation, "allowed", counted(explanation.allowed))
    lines = refused(tmp_path, text)
    assert len(lines) == 40
    assert lines[-1] == "... and 8,961 more"
    assert len(described) == 39


def test_overrides_are_bounded_too(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, DATA, f"data_module.{'.'.join(['a'] * 3000)}=1")
    assert line.endswith("has 3,001 levels (at most 50)")
    (line,) = refused(tmp_path, DATA, f"seed=0x{'f' * 200_000}")
    assert "seed" in line
    assert len(line) < 300
    lines = refused(tmp_path, DATA, *(f"key_{i}=1" for i in range(1000)))
    assert len(lines) == 40
    assert lines[-1] == "... and 961 more"


@pytest.mark.parametrize(
    ("content", "place", "encoding"),
    [
        (b"data_module:\n  data_dir: /data/caf\xe9\n", "c.yml:2:22: not a text file: byte 0xe9", "Latin-1"),
        (("\ufeff" + DATA).encode("utf-16-le"), "c.yml:1:1: not a text file: byte 0xff", "UTF-16"),
    ],
    ids=["latin", "utf-16"],
)
def test_another_encoding_is_named_with_its_place(tmp_path: Path, content: bytes, place: str, encoding: str) -> None:
    path = tmp_path / "c.yml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert f"{place} is not UTF-8 (" in str(caught.value)
    assert f"{encoding}: save it as UTF-8)" in str(caught.value)

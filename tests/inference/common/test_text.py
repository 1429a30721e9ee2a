"""Text from files on the terminal: cleaned, shortened and quoted."""

import json
from pathlib import Path

import pytest

from inference.common.cli import exit_code
from inference.common.errors import UserError
from inference.common.text import clean_line, limited, quoted
from tests.inference.commands import run
from tests.inference.networks import card, write_onnx


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zostera marina, Größe 3 m², 海带, \t🌿", "Zostera marina, Größe 3 m², 海带, \t🌿"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b31mb\x07", r"a\x9b31mb\x07"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_hidden_characters_become_their_escapes(text: str, shown: str) -> None:
    assert clean_line(text) == shown
    clean_line(text).encode()


def test_long_text_loses_its_middle_and_long_lists_their_end() -> None:
    shown = clean_line("a" * 10**6 + "end")
    assert len(shown) < 2000
    assert shown.endswith("end")
    assert "more characters" in shown
    assert len(quoted("x" * 10**6)) < 130
    assert limited([str(i) for i in range(9000)])[-2:] == ["38", "... and 8,961 more"]
    assert limited(["a", "b"]) == ["a", "b"]


def test_messages_of_commands_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise UserError("x.yml: key\x1b[1A\x1b[2K: is wrong\ny.yml: " + "k" * 10**6)

    assert exit_code(fail) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"x.yml: key\x1b[1A\x1b[2K: is wrong"
    assert len(lines) == 2
    assert len(lines[1]) < 2100


def test_names_in_a_card_do_not_reach_the_terminal_raw(
    tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"name": "n" * 10**6, "class_names": ["sea\x1b[2J", "\u202ekelp\nkelp"]}
    model = write_onnx(tmp_path / "m.onnx", card(**names))
    assert run(mosaic, tmp_path / "o.tif", "--model", model) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(out)
    assert r"sea\x1b[2J " in out
    assert r"\u202ekelp\nkelp " in out
    assert len(out) < 5000


def test_unknown_fields_of_a_card_are_limited_and_shortened(
    tmp_path: Path, mosaic: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = json.loads(card().dumps()) | {f"\x1b[31m{i}" + "k" * 10**4: 1 for i in range(200)}
    (tmp_path / "c.json").write_text(json.dumps(fields))
    assert run(mosaic, tmp_path / "o.tif", "--model", model, "--card", tmp_path / "c.json") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 40
    assert lines[-1] == "... and 161 more"
    assert all("\x1b" not in line and len(line) < 400 for line in lines)

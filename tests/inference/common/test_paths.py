"""Texts of the user's that become paths."""

from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from inference.common.paths import names_a_file, path_within, shown_path, split_address, user_path, user_source


def test_home_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SITE", "bay 1")
    assert user_path("~/a", "--out") == tmp_path / "a"
    assert user_path("$HOME/a", "--out") == tmp_path / "a"
    assert user_path("runs/${SITE}_x", "--out") == Path("runs/bay 1_x")
    assert user_path(Path("a.tif"), "--out") == Path("a.tif")
    assert user_source("s3://bucket/$SITE.tif", "IN.tif") == "s3://bucket/$SITE.tif"


def test_a_file_whose_name_looks_like_a_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("$NOPE.tif").touch()
    Path("~x").touch()
    assert [str(user_path(name, "IN.tif")) for name in ("$NOPE.tif", "~x")] == ["$NOPE.tif", "~x"]


def test_nothing_is_expanded_in_a_path_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SITE", "bay")
    for name in ("$NOPE.tif", "$SITE/a", "~x"):
        assert user_path(Path(name), "OUT.tif") == Path(name)
        assert user_source(Path(name), "IN.tif") == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--out: is empty (name a file or folder)"),
        ("~nouser/x", "--out: ~nouser/x: there is no user nouser on this machine (write the path out)"),
        ("$NOPE/x", "--out: $NOPE/x: the environment variable NOPE is not set (set it, or write the path out)"),
        ("a\0b", r"--out: a\x00b: contains a character that no file name may contain (remove it)"),
        ("a\ud800b", r"--out: a\ud800b: contains a character that no file name may contain (remove it)"),
    ],
)
def test_texts_that_are_no_paths(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        user_path(text, "--out")
    assert str(caught.value) == said


def test_a_name_that_is_too_long_is_shortened() -> None:
    with pytest.raises(UserError, match="the name is too long, 5,000 characters") as caught:
        user_path("x" * 5000, "--out")
    assert len(str(caught.value)) < 450
    assert shown_path("a\x1b[31m\n") == r"a\x1b[31m\n"


def test_an_override_that_is_too_long_for_a_name_is_no_file(tmp_path: Path) -> None:
    assert not names_a_file("data_module.mean=" + "0," * 5000)
    assert not names_a_file("a\0=b")
    assert names_a_file(str(tmp_path))


def test_a_malformed_address() -> None:
    with pytest.raises(UserError, match=r"https://\[::1: is not a web address: Invalid IPv6 URL"):
        split_address("https://[::1")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "C:\\x", "..\\x", "\\\\host\\x", "", ".", "a\0b", None]
)
def test_names_that_lead_out_of_a_folder(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UserError, match=r"^list\.json: file: "):
        path_within(tmp_path, name, "list.json: file")


def test_names_that_stay_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.ckpt", "sub/a.ckpt", "./a", "a..b", "ä.tif"):
        assert path_within(tmp_path, name, "list.json") == tmp_path / name

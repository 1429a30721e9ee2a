"""What `--resume` says of the tables of a run that were damaged, or that a spreadsheet rewrote."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.run.conftest import content_of


def test_a_damaged_list_of_files(run: Path, resume: Callable[..., tuple[int, str, str]]) -> None:
    for text, said in (
        ("{", "isn't valid JSON"),
        ("[]", "is of type list"),
        ('{"files": {"a": 1}}', "changes: is missing"),
    ):
        (run / "data.json").write_text(text)
        code, _, err = resume()
        assert code == 2
        assert err.startswith(f"{run / 'data.json'}: ")
        assert said in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(",", ";").replace(".", ","), ":1: has no column epoch, step, lr, found epoch;step;"),
        (lambda text: text.replace("step", "Schritt"), ":1: has no column step, found epoch Schritt"),
        (lambda text: text.replace("\n1,", "\none,"), ":2: could not convert string to float: 'one' (save it as CSV"),
        (lambda text: text.replace("\n1,2,", "\n1,,"), ":2: has no step"),
        (lambda text: "", ":1: has no column epoch, step, lr, found  ("),
        (lambda text: b"\xff\xfe" + text.encode("utf-16-le"), ": can't be read as a table of scores: 'utf-8' codec"),
    ],
)
def test_a_table_that_a_spreadsheet_rewrote(
    run: Path, resume: Callable[..., tuple[int, str, str]], change: Callable[[str], str | bytes], said: str
) -> None:
    table = run / "metrics.csv"
    changed = change(table.read_text())
    table.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    before = content_of(run)
    code, _, err = resume()
    assert code == 2
    assert err.startswith(f"{table}{said}")
    assert "move it away" in err
    assert content_of(run) == before


def test_a_table_with_a_byte_order_mark_and_other_line_ends(
    run: Path, resume: Callable[..., tuple[int, str, str]]
) -> None:
    table = run / "metrics.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_text().replace("\n", "\r\n").encode())
    code, _, err = resume()
    assert code == 0, err
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == ["epoch", "1", "2"]

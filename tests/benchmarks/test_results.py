"""Table of the benchmarks: ratios, and figures older than the code they measure."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.processes import in_turns, run
from benchmarks.results import Row


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with one commit, which holds code/a.py and docs/b.md, and the results of one part."""
    for name in ("code/a.py", "docs/b.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1\n")
    (tmp_path / "README.md").write_text(f"before\n{results._BEGIN}\nold\n{results._END}\nafter\n")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    _git(tmp_path, "init", "-q")
    _commit(tmp_path)
    return tmp_path


def _git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


def _commit(folder: Path) -> None:
    _git(folder, "add", "-A")
    _git(folder, "commit", "-qm", "x")


def _part() -> results.Result:
    rows = [Row("limit", 2.0, 1.0, "limit"), Row("ours", 3.0, 1.5, "limit"), Row("CPU only", 4.0, None, "limit")]
    return results.new_result("a title", rows, ["code"], load=0.52)


def test_the_table_has_ratios_revision_and_load(repository: Path) -> None:
    part = _part()
    text = results.table({"first": part})
    assert f"| first: a title | limit | 2 | 1.00x | 1 | 1.00x | {part.revision} | 0.5 |" in text
    assert "|  | ours | 3 | 1.50x | 1.5 | 1.50x |  |  |" in text
    assert "|  | CPU only | 4 | 2.00x |  |  |  |  |" in text
    assert part.machine in text


def test_a_figure_older_than_its_code_is_marked(repository: Path) -> None:
    part = _part()
    (repository / "docs/b.md").write_text("2\n")
    _commit(repository)
    assert not results.is_older(part), "other files have changed"
    (repository / "code/a.py").write_text("2\n")
    _commit(repository)
    assert results.is_older(part)
    assert "(code has changed since)" in results.table({"first": part})


def test_a_figure_of_modified_code_is_marked(repository: Path) -> None:
    (repository / "code/a.py").write_text("2\n")
    part = _part()
    assert part.revision.endswith("+")
    assert results.is_older(part)


def test_results_are_kept_and_the_text_around_the_table_too(repository: Path) -> None:
    part = _part()
    results.write({"first": part})
    results.write(results.read())
    assert results.read() == {"first": part}
    text = (repository / "README.md").read_text()
    assert text.startswith(f"before\n{results._BEGIN}\n\n| part |")
    assert text.endswith(f"\n\n{results._END}\nafter\n")


def test_what_a_process_uses_is_measured() -> None:
    busy = (
        "import time\nx = bytearray(60_000_000)\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.3); print('done')"
    )
    used = run(["python3", "-c", busy])
    assert used.out == "done\n"
    assert used.cpu >= 0.3
    assert used.wall >= 0.6
    assert used.peak >= 60


def test_a_process_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match=r"ended with 3: why"):
        in_turns({"bad": ["python3", "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"]}, 1)
    assert in_turns({"bad": ["python3", "-c", "import sys; sys.exit(3)"]}, 1, {"bad": 3})["bad"].out == ""

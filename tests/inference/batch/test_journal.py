"""Journal of a batch: lines that were cut short, locks, and full disks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.batch.journal import Journal, read_journal
from inference.common.errors import UserError
from tests.inference.commands import ROOT


def line(output: str, state: str = "done", **more: object) -> dict[str, object]:
    return {"image": f"/in/{output}", "output": output, "state": state} | more


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    odd = "ü\u2028\n\udcff.tif"
    with Journal(path) as journal:
        assert journal.locked
        journal.append(line("a.tif", "started"))
        journal.append(line("a.tif"))
        journal.append(line(odd))
    with Journal(path) as journal:
        assert journal.latest == {"a.tif": line("a.tif"), odd: line(odd)}
    assert read_journal(path) == {"a.tif": line("a.tif"), odd: line(odd)}
    assert path.read_bytes().count(b"\n") == 3
    assert read_journal(tmp_path / "none.jsonl") == {}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.binary(max_size=20).filter(lambda tail: b"\n" not in tail))
def test_cut_at_any_byte(tmp_path_factory: pytest.TempPathFactory, length: int, tail: bytes) -> None:
    """As a kill or a power cut leaves it: the lines before are whole, and the next ones are appended to them."""
    path = tmp_path_factory.mktemp("j") / "batch.jsonl"
    content = "".join(f"{json.dumps(line(f'{at}.tif'))}\n" for at in range(5)).encode()
    cut = content[:length]
    whole = cut.count(b"\n")
    path.write_bytes((cut[: cut.rfind(b"\n") + 1] if tail else cut) + tail)
    assert list(read_journal(path)) == [f"{at}.tif" for at in range(whole)]
    with Journal(path) as journal:
        journal.append(line("new.tif"))
    assert list(read_journal(path)) == [*(f"{at}.tif" for at in range(whole)), "new.tif"]
    assert [json.loads(each)["state"] for each in path.read_text().splitlines()] == ["done"] * (whole + 1)


def test_the_lock_of_a_dead_process_is_released(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    code = (
        "import sys, time; from pathlib import Path; from inference.batch.journal import Journal; "
        "journal = Journal(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="another batch writes to this folder"):
            Journal(path)
        process.kill()
        process.wait()
    Journal(path).__exit__()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "batch.jsonl"
    real = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return real(file, data[:30])

    with Journal(path) as journal:
        journal.append(line("a.tif"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(UserError, match="can't be written: No space left on device"):
                journal.append(line("b.tif"))
        assert list(journal.latest) == ["a.tif"]
    assert list(read_journal(path)) == ["a.tif"]
    assert path.read_bytes().endswith(b"\n")

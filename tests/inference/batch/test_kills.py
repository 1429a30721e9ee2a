"""Batches that are killed at random moments and started again: the files of an unbroken run, nothing done twice."""

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.commands import COMMAND

from .survey import contents, journal, write_failing, write_survey


def batch(folder: Path, out: str) -> list[str]:
    return [*COMMAND, "in", out, "--model", "m.onnx", "--tile-size", "32"]


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    return subprocess.Popen(batch(folder, out), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def unbroken(folder: Path, code: int) -> float:
    """Run a batch to its end in the folder `whole`; return the time that it took."""
    began = time.monotonic()
    done = subprocess.run(batch(folder, "whole"), cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return time.monotonic() - began


def check(folder: Path, killed: int) -> None:
    """Check a folder whose batch was killed and has come to its end against the folder of one that wasn't."""
    assert contents(folder / "out") == contents(folder / "whole")
    assert not [path for path in (folder / "out").rglob("*") if "writing" in path.name]
    lines = journal(folder / "out")
    done = [line["output"] for line in lines if line["state"] == "done"]
    assert len(done) == len(set(done)), "none is done twice"
    started = [line["output"] for line in lines if line["state"] == "started"]
    failed = {line["output"] for line in lines if line["state"] == "failed"}
    assert len([name for name in started if name not in failed]) <= len(done) + killed, "but the one in flight"


def killed_and_continued(folder: Path, moments: Any, code: int, number: signal.Signals = signal.SIGKILL) -> None:
    for seconds in moments:
        process = start(folder, "out")
        time.sleep(seconds)
        process.send_signal(number)
        process.communicate()
    last = start(folder, "out")
    _, err = last.communicate()
    assert last.returncode == code, err
    check(folder, len(moments))


def test_killed(tmp_path: Path) -> None:
    write_survey(tmp_path / "in", 12, side=100)
    took = unbroken(tmp_path, 0)
    killed_and_continued(tmp_path, [0.7 * took], 0)


def test_stopped_by_a_signal(tmp_path: Path) -> None:
    write_survey(tmp_path / "in", 3, side=1000)
    process = start(tmp_path, "out")
    while not (tmp_path / "out" / "batch.jsonl").exists() or len(journal(tmp_path / "out")) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    done, last = err.splitlines()[-2:]
    assert re.fullmatch(r"[12] of 3 images are done \(the same command does the rest\)", done)
    assert last == "interrupted (SIGTERM)"
    assert not [path for path in (tmp_path / "out").rglob("*") if "writing" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_twenty_times(tmp_path: Path, number: signal.Signals) -> None:
    write_survey(tmp_path / "in", 190, side=100)
    write_failing(tmp_path / "in", damaged=5, plain=2, narrow=3)
    took = unbroken(tmp_path, 4)
    moments = np.random.default_rng(number).uniform(0.2, 2.5 + took / 15, 20)
    killed_and_continued(tmp_path, moments, 4, number)
    states = {line["output"]: line["state"] for line in journal(tmp_path / "out")}
    assert list(states.values()).count("done") == 192

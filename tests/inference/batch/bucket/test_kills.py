"""Batches into a bucket that are killed or stopped and started again: the files of an unbroken run, nothing lost."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.batch.bucket import store as module
from tests.inference.batch.survey import contents, run, write_failing, write_survey
from tests.inference.commands import COMMAND
from tests.object_store import Store

from .stores import OUT, make_world, states, store, written

OPTIONS = ("--model", "m.onnx", "--tile-size", "32")


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"TMPDIR": str(folder / "work")}
    command = [*COMMAND, "in", OUT, *OPTIONS]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextlib.contextmanager
def begun(world: Path, monkeypatch: pytest.MonkeyPatch, side: int, number: int) -> Iterator[tuple[Store, Any]]:
    """Start a batch of four mosaics, and yield the server and the process when it has uploaded a number of maps."""
    write_survey(world / "in", 4, side=side)
    with store(world, monkeypatch) as server:
        process = start(world)
        while sum(re.search(r"200 PUT .*tif", line) is not None for line in server.requests()) < number:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        yield server, process


def finish(folder: Path, code: int = 0) -> None:
    """Start the batch again, and check what is there against a local batch."""
    last = start(folder)
    _, err = last.communicate()
    assert last.returncode == code, err
    assert run("in", "local", *OPTIONS) == code
    assert contents(written(folder)) == contents(folder / "local")
    assert list((folder / "work").glob("maps-*")) == [], "folders of killed processes are removed, too"
    found = states(folder)
    assert len({name for name, state in found if state == "done"}) == sum(state == "done" for _, state in found)


def test_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, 0)
    with begun(world, monkeypatch, side=100, number=3) as (_, process):
        process.kill()
        process.communicate()
        assert states(world) == [], "its journal was not uploaded again"
        finish(world)


class Killed(BaseException):
    """End of a process in the middle."""


@pytest.mark.parametrize("requests", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 4))])
def test_killed_while_maps_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: int) -> None:
    """What was replaced is never taken for a map with the earlier options."""
    world = make_world(tmp_path, monkeypatch, 2)
    options = ("--model", "m.onnx", "--qgis-style")
    assert run("in", "local", *options) == 0
    put, left = module.Store.put, [requests]

    def kill(self: module.Store, name: str, *arguments: Any, **more: Any) -> str:
        if not left[0]:
            raise Killed
        left[0] -= name.startswith("cove")
        return put(self, name, *arguments, **more)

    with store(world, monkeypatch):
        assert run("in", OUT, *options) == 0
        monkeypatch.setattr(module.Store, "put", kill)
        with pytest.raises(Killed):
            run("in", OUT, *options, "--threshold", "0.9", "--overwrite")
        monkeypatch.setattr(module.Store, "put", put)
        changed = contents(written(world))["cove0/m0.tif"] != contents(world / "local")["cove0/m0.tif"]
        assert changed == (requests > 1)
        assert run("in", OUT, *options) == 0
    assert contents(written(world)) == contents(world / "local")


def test_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, 0)
    with begun(world, monkeypatch, side=300, number=1) as (server, process):
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 143, err
        assert err.splitlines()[-1] == "interrupted (SIGTERM)"
        assert list((world / "work").glob("maps-*")) == []
        assert not (written(world) / "batch.lock").exists()
        done = [name for name, state in states(world) if state == "done"]
        assert len(states(world)) in range(1, 8), "the journal was uploaded"
        server.clear()
        finish(world)
        again = [line for line in server.requests() if "PUT" in line and any(name in line for name in done)]
        assert again == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_twenty_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    world = make_world(tmp_path, monkeypatch, 0)
    write_survey(tmp_path / "in", 120, side=100)
    write_failing(world / "in", damaged=2, plain=2, narrow=2)
    with store(world, monkeypatch, failures=0.02, seed=int(number)):
        for seconds in np.random.default_rng(number).uniform(0.5, 4, 20):
            process = start(world)
            time.sleep(seconds)
            process.send_signal(number)
            process.communicate()
        finish(world, 4)

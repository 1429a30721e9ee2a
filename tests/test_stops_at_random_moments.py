"""Commands stopped at random moments by SIGTERM, SIGUSR1 and SIGKILL: nothing half-written, nothing lost."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch

from eval import area
from tests.conftest import write_raster
from tests.eval.sampling.maps import write_world
from tests.inference.commands import COMMAND, ROOT, leftovers, texture
from tests.inference.networks import card, write_onnx
from tests.inference.vector.maps import patches, write_map, write_polygons
from train.run.checkpoints import read_checkpoint

SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL]
TIMES = 10
STARTING = 0.5  # seconds in which Python itself may start, before a command can handle signals


def moments(number: signal.Signals, began: float, ended: float, took: float) -> list[float]:
    """Return random moments of a command, seconds: two before its work, six within, two after."""
    rng = np.random.default_rng(number)
    return [*rng.uniform(0, began, 2), *rng.uniform(began, ended, TIMES - 4), *rng.uniform(ended, took, 2)]


def allowed(number: signal.Signals, seconds: float, said: str) -> set[int]:
    """Return the exit codes that a command may have when it was sent a signal after some seconds."""
    if number == signal.SIGKILL:
        return {-signal.SIGKILL, 0}
    return {143, 0, -number} if seconds < STARTING and not said else {143, 0}


def stopped_after(seconds: float, number: signal.Signals, *command: str) -> tuple[int, str]:
    """Start a command, send it a signal after some seconds, and return its exit code and its last line."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    return process.returncode, (err.strip().splitlines() or [""])[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_training(write_config: Callable[..., Path], tmp_path: Path, number: signal.Signals) -> None:
    path = write_config(max_epoch=60)
    train = [sys.executable, "-m", "train"]
    started, times = time.monotonic(), dict[str, float]()
    process = subprocess.Popen(
        [*train, str(path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            times[line[:5]] = time.monotonic() - started
    assert process.wait() == 0
    took = time.monotonic() - started
    (folder,) = (tmp_path / "runs" / "p").iterdir()
    expected = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    resumed = 0
    for attempt, seconds in enumerate(moments(number, times["run /"], times["epoch"], took)):
        runs = tmp_path / f"runs{attempt}"
        code, said = stopped_after(seconds, number, *train, str(path), f"logging.save_dir={runs}")
        assert code in allowed(number, seconds, said), (seconds, took, said)
        found = list(runs.glob("p/*/checkpoints/last.ckpt"))
        if code == 143:
            assert said.startswith("stopped; resume with: ") == bool(found), said
            assert list(runs.rglob("*.writing")) == []
            assert found or not list(runs.rglob("*.*")), "a run folder without a state"
        if not found:
            continue
        if code != 0:
            run = found[0].parents[1]
            assert subprocess.run([*train, "--resume", str(run)], cwd=ROOT, capture_output=True).returncode == 0
            resumed += 1
        weights = read_checkpoint(found[0])["state_dict"]
        assert [k for k in expected if not torch.equal(expected[k], weights[k])] == []
        assert list(runs.rglob("*.writing")) == []
    print(f"{number.name}: {resumed} of {TIMES} runs resumed")
    assert resumed


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
@pytest.mark.parametrize("number", SIGNALS)
def test_polygons(tmp_path: Path, number: signal.Signals, suffix: str) -> None:
    source = write_map(tmp_path / "m.tif", patches(900, 900, 3, 0))
    sites = write_polygons(tmp_path / "s.gpkg", [shapely.box(100, 100, 700, 800)], name=["a"])
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, str(ROOT / "inference" / "polygons.py"), str(source), str(out / f"o{suffix}")]
    command += ["--sites", str(sites), "--table", str(out / "o.csv"), "--overwrite"]
    began = time.monotonic()
    assert subprocess.run(command, capture_output=True).returncode == 0
    took = time.monotonic() - began
    new = {path.name: path.read_bytes() for path in out.iterdir()}
    for seconds in moments(number, 0.4 * took, 0.95 * took, took):
        old = dict.fromkeys(new, b"of an earlier run")
        for name, content in old.items():
            (out / name).write_bytes(content)
        code, said = stopped_after(seconds, number, *command)
        assert code in allowed(number, seconds, said), (seconds, took, said)
        found = {path.name: path.read_bytes() for path in out.iterdir() if "writing" not in path.name}
        if number == signal.SIGKILL:
            assert all(content in (old[name], new[name]) for name, content in found.items())
        else:
            assert found == (new if code == 0 else old), (seconds, took, said)
            assert leftovers(out) == []
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert leftovers(out) == [], "the next run clears what killed ones left"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == new


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_mapping(tmp_path: Path, number: signal.Signals) -> None:
    model = write_onnx(tmp_path / "m.onnx", card())
    source, target = write_raster(tmp_path / "in.tif", texture(1200, 1200), nodata=0), tmp_path / "o.tif"
    command = [*COMMAND, str(source), str(target), "--model", str(model), "--tile-size", "128"]
    began = time.monotonic()
    assert subprocess.run(command, capture_output=True).returncode == 0
    took = time.monotonic() - began
    expected = target.read_bytes()
    target.unlink()
    for seconds in moments(number, 0.2 * took, 0.9 * took, took):
        code, said = stopped_after(seconds, number, *command)
        assert code in allowed(number, seconds, said), (seconds, took, said)
        if number != signal.SIGKILL:
            assert leftovers(tmp_path) == []
        if code == 143:
            assert said == f"interrupted ({number.name})"
        if target.exists():
            assert target.read_bytes() == expected
            target.unlink()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert leftovers(tmp_path) == [], "the next run clears what killed ones left"


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_adding_points_to_a_sample(tmp_path: Path, number: signal.Signals) -> None:
    world = write_world(tmp_path / "world", 300, 400)
    sample = tmp_path / "s.gpkg"
    drawing = ["sample", str(world.map), "--probabilities", str(world.probabilities), "--out", str(sample)]
    assert area.main(drawing) == 0
    before = sample.read_bytes()
    command = [sys.executable, str(ROOT / "eval" / "area.py"), *drawing, "--more", "100"]
    began = time.monotonic()
    assert subprocess.run(command, capture_output=True).returncode == 0
    took = time.monotonic() - began
    after = sample.read_bytes()
    for seconds in moments(number, 0.5 * took, took, 1.1 * took):
        sample.write_bytes(before)
        code, said = stopped_after(seconds, number, *command)
        assert code in allowed(number, seconds, said), (seconds, took, said)
        assert sample.read_bytes() in ((before, after) if code else (after,))
        if number != signal.SIGKILL:
            assert leftovers(tmp_path) == []
    sample.write_bytes(before)
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert leftovers(tmp_path) == []

"""Full disks, interrupted and killed runs: the old map or none, never half a map."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.inference import main
from tests.conftest import write_raster

from .commands import COMMAND, ROOT, leftovers, refused, texture


def test_a_full_disk(model: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: writing fails in the same way, in GDAL's threads."""
    source = write_raster(tmp_path / "in.tif", texture(1500, 1500))
    target = tmp_path / "o.tif"
    target.write_bytes(b"precious")
    for size, extra in ((3_000, []), (60_000, []), (60_000, ["--no-cog"]), (60_000, ["--threads", "1"])):
        code = (
            "import sys; sys.dont_write_bytecode = True; "  # it would be cut short, and stay so
            "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
            "from inference.inference import main; sys.exit(main(sys.argv[1:]))"
        )
        options = ["--model", str(model), "--overwrite", "--tile-size", "256", *extra]
        done = subprocess.run(
            [sys.executable, "-c", code, str(source), str(target), *options], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert "can't be written" in done.stderr
        assert target.read_bytes() == b"precious"
        assert leftovers(tmp_path) == []


def test_space_is_checked_first(
    mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    assert "MiB are free" in refused(capsys, mosaic, tmp_path / "o.tif", "--model", model)


def start(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_to_the_end(*arguments: Any) -> int:
    process = start(*arguments)
    process.communicate()
    return process.returncode


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "interrupted (SIGTERM)"),
        (signal.SIGUSR1, 143, "interrupted (SIGUSR1)"),
    ],
)
def test_interrupted(model: Path, tmp_path: Path, number: signal.Signals, code: int, said: str) -> None:
    source = write_raster(tmp_path / "in.tif", texture(3000, 3000))
    process = start(source, tmp_path / "o.tif", "--model", model, "--tile-size", "32")
    while not leftovers(tmp_path):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.strip().splitlines()[-1] == said
    assert "Traceback" not in err
    assert not (tmp_path / "o.tif").exists()
    assert leftovers(tmp_path) == []


def test_interrupted_while_a_library_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(*_: Any, **__: Any) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("inference.predict.predict", loading)
    assert main(["in.tif", "out.tif"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_two_maps_to_one_new_name(model: Path, tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", texture(1000, 1000))
    target, floats = tmp_path / "o.tif", tmp_path / "p.tif"
    slow = start(source, target, "--model", model, "--tile-size", "32", "--probabilities", floats)
    while not leftovers(tmp_path):
        assert slow.poll() is None
        time.sleep(0.01)
    slow.send_signal(signal.SIGSTOP)
    quick = start(source, target, "--model", model, "--tile-size", "64")
    quick.communicate(timeout=60)
    assert quick.returncode == 0
    first = target.read_bytes()
    slow.send_signal(signal.SIGCONT)
    _, err = slow.communicate(timeout=60)
    assert slow.returncode == 2
    assert err.splitlines()[-1] == (
        f"{target}: was written by another command in the meantime and is kept (replace it with --overwrite, or "
        "choose another name)"
    )
    assert target.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "m.onnx", "o.tif"]


def test_killed_at_any_moment_there_is_never_half_a_map(model: Path, tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", texture(1200, 1200), nodata=0)
    target = tmp_path / "o.tif"
    began = time.perf_counter()
    assert run_to_the_end(source, target, "--model", model, "--tile-size", "128") == 0
    took = time.perf_counter() - began
    with rasterio.open(target) as file:
        expected = file.read()
    target.unlink()
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = start(source, target, "--model", model, "--tile-size", "128", "--overwrite")
        time.sleep(float(rng.uniform(0.3, 1.1)) * took)
        process.kill()
        process.communicate()
        if target.exists():
            with rasterio.open(target) as file:
                np.testing.assert_array_equal(file.read(), expected)
            target.unlink()
    assert run_to_the_end(source, target, "--model", model, "--tile-size", "128") == 0
    assert leftovers(tmp_path) == [], "the next run clears what killed ones left"

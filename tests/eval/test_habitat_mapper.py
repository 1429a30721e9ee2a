"""Comparison with habitat-mapper: a stand-in takes its place here, the real one in the slow test."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eval import comparison
from eval.habitat_mapper import VERSION, executable, install
from eval.test_kom import main
from tests.conftest import write_dataset, write_raster
from tests.inference.networks import card, write_onnx, write_torchscript
from train.errors import UserError

STAND_IN = """#!{python}
import argparse, json, os, sys
from pathlib import Path
import numpy as np, onnxruntime, rasterio

arguments = argparse.ArgumentParser()
arguments.add_argument("command")
for name in ("model", "input", "output", "blur", "morph", "crop-size"):
    arguments.add_argument("--" + name)
arguments.add_argument("--quiet", action="store_true")
o = arguments.parse_args()
mode = os.environ.get("STAND_IN", "agree")
if os.environ.get("DEBUG") != "1" or mode == "silent":
    sys.exit(0)
if mode == "fails":
    sys.exit("RuntimeError: the tide is out")
configs = Path(__file__).parents[1] / "lib" / "python3" / "site-packages" / "habitat_mapper" / "configs"
(config,) = [c for p in configs.glob("*.json") if (c := json.loads(p.read_text()))["name"] == o.model]
assert config["dependencies"] == [config["model_filename"]]
session = onnxruntime.InferenceSession(config["model_filename"])  # where it runs
with rasterio.open(o.input) as src:
    pixels, profile = src.read(list(range(1, config["input_channels"] + 1))), src.profile
x = pixels.astype(np.float32) / config["max_pixel_value"]
x = (x - np.array(config["mean"])[:, None, None]) / np.array(config["std"])[:, None, None]
(logits,) = session.run(None, {{"input": x[None].astype(np.float32)}})
mask = (logits[0, 0] > 0).astype(np.uint8)
if mode == "shifted":
    mask = np.roll(mask, 1, axis=0)
if o.blur != "0":
    mask[0] = 1 - mask[0]
profile.update(count=1, dtype="uint8", nodata=255)
with rasterio.open(o.output, "w", **profile) as out:
    out.write(mask, 1)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What habitat-mapper does to a network of one pixel's sight: the same at each, nodata included."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "lib" / "python3" / "site-packages" / "habitat_mapper" / "configs").mkdir(parents=True)
    command = executable(folder)
    command.parent.mkdir()
    command.write_text(STAND_IN.format(python=sys.executable))
    command.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "m.onnx", card(ignore_index=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = rng.integers(1, 255, image.shape).astype(np.uint8)
        image[:, :10] = 0
        return image, label

    return write_dataset(tmp_path_factory.mktemp("compared"), {"test": [(70, 64)]}, change=change, nodata=0)


def test_the_same_map(
    environment: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(model), "--data", str(data), "--environment", str(environment), "--out", str(tmp_path)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"{60 * 64:,} 100.0000%  valid" in said
    assert "100.0000%  the same in both maps" in said
    assert "the maps agree\n" in said
    with rasterio.open(tmp_path / "s0_habitat-mapper.tif") as a, rasterio.open(tmp_path / "s0_ours.tif") as b:
        theirs, ours, valid = a.read(1), b.read(1), b.dataset_mask() > 0
    assert np.array_equal(theirs[valid], ours[valid])
    assert 0.1 < ours[valid].mean() < 0.9
    if theirs[~valid].any():
        assert f"{np.count_nonzero(theirs[~valid]):,} " in said
    ious = [line.split("IoU ")[1] for line in said.splitlines() if "IoU" in line]
    assert len(ious) == 3
    assert ious[0] == ious[1]
    configs = environment / "lib" / "python3" / "site-packages" / "habitat_mapper" / "configs"
    assert not list(configs.iterdir())  # nothing is left in its package


def test_another_map(
    environment: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN", "shifted")
    image = str(data / "test" / "x" / "s0.tif")
    assert main([str(model), image, "--environment", str(environment)]) == 3
    said = capsys.readouterr().out
    assert "differ for no known reason" in said
    assert "IoU" not in said


@pytest.mark.parametrize(("mode", "said"), [("fails", "the tide is out"), ("silent", "says nothing")])
def test_a_failure_is_told_of(
    mode: str,
    said: str,
    environment: Path,
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STAND_IN", mode)
    assert main([str(model), "--data", str(data), "--environment", str(environment)]) == 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert "habitat-mapper can't map" in line
    assert said in line


def rows(said: str) -> dict[str, list[str]]:
    """Of each model: what its lines begin with, and their IoU."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in said.partition("against the labels (kelp1):\n")[2].partition("\n\n")[0].splitlines():
        if line.startswith(" "):
            found[name].append(line.strip().split("  ")[0] if "IoU" in line else line.strip())
        else:
            name = line
            found[name] = []
    return found


def test_models_in_production_are_scored_beside_it(
    environment: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One as ONNX and one as TorchScript, the same network as the new one; one that gives class numbers."""
    own = card(ignore_index=2)
    write_onnx(tmp_path / "in_use.onnx", None, seed=0)
    (tmp_path / "in_use.json").write_text(own.dumps())
    write_torchscript(tmp_path / "in_use.pt", own)
    numbers = card(ignore_index=2, activation="softmax")
    write_onnx(tmp_path / "numbers.onnx", numbers, end="argmax")
    others = [
        word for name in ("in_use.onnx", "in_use.pt", "numbers.onnx") for word in ("--production", tmp_path / name)
    ]
    arguments = [str(model), "--data", str(data), "--environment", str(environment), *map(str, others)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    ious = [line.split("IoU ")[1].split()[0] for line in said.splitlines() if "IoU" in line]
    three = ["ours", "habitat-mapper", "habitat-mapper, post-processed"]
    assert rows(said) == {
        "m.onnx": three,
        "in_use.onnx, in production": three,
        "in_use.pt, in production": ["ours", "not run in habitat-mapper: it runs .onnx files only"],
        "numbers.onnx, in production": [
            "ours",
            "not run in habitat-mapper: the model gives class numbers, it blends channels",
        ],
    }
    assert ious[:3] == ious[3:6]
    assert ious[6] == ious[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["MODEL", "nowhere.tif"], "nowhere.tif: no such file"),
        (["MODEL", "MODEL"], "one MODEL is enough"),
        (["MODEL", "--blur", "4"], "--blur: 4 (allowed: 0 for none, or an odd number)"),
        (["MODEL", "--environment", "nowhere", "--data", "DATA"], "nowhere: has no habitat-mapper"),
        (["MODEL", "MODEL.tif", "--data", "DATA"], "images and --data don't go together"),
        (["MODEL", "IMAGE", "--production", "MODEL"], "--production: m.onnx is scored against labels"),
        (["MODEL", "--data", "DATA", "--production", "IMAGE"], "s0.tif is no model that can be run"),
        (["MODEL", "--data", "DATA", "--production", "no.onnx"], "no.onnx: no such file (--production takes"),
        (["MODEL", "--data", "DATA", "--production", "BARE"], "(give one with --production-card FILE.json"),
        (["MODEL", "--data", "DATA", "--production", "THREE"], "they can't be scored on the same labels"),
    ],
)
def test_what_cannot_be_obeyed(
    arguments: list[str], said: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_onnx(tmp_path / "bare.onnx", None)
    write_onnx(tmp_path / "three.onnx", card(classes=3))
    places = {"BARE": tmp_path / "bare.onnx", "THREE": tmp_path / "three.onnx", "IMAGE": data / "test" / "x" / "s0.tif"}
    words = [str(places.get(word, word)).replace("MODEL", str(model)).replace("DATA", str(data)) for word in arguments]
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_reasons_are_told_apart(tmp_path: Path) -> None:
    """Four maps on paper: at each of some pixels theirs differs from ours for one reason."""
    own = card(tile_size=32)
    rng = np.random.default_rng(2)
    pixels = rng.integers(1, 255, (3, 200, 120)).astype(np.uint8)
    pixels[:, 20, 60] = 0  # nodata
    pixels[:, 96:128, 48:80] = 9  # one of habitat-mapper's tiles, of a single value
    image = write_raster(tmp_path / "image.tif", pixels, nodata=0)
    shape = pixels.shape[1:]
    valid = ~(pixels == 0).all(axis=0)
    ours = np.zeros(shape, np.uint8)
    theirs, fed, probability = ours.copy(), ours.copy(), np.full(shape, 0.2, np.float32)
    theirs[180, 10] = fed[180, 10] = 1  # as fed, far from nodata: edge
    theirs[40, 70] = fed[40, 70] = 1  # as fed, 20 rows from nodata
    theirs[140, 50] = 1  # below the skipped tile
    theirs[70, 10] = 1
    probability[70, 10] = 0.5004
    theirs[190, 110] = 1
    theirs[20, 60] = 1  # invalid
    maps = {}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        for name, values in (("ours", ours), ("theirs", theirs), ("fed", fed)):
            maps[name] = write_raster(tmp_path / f"{name}.tif", values)
        with rasterio.open(maps["ours"], "r+") as file:
            file.write_mask(valid)
    floats = write_raster(tmp_path / "floats.tif", np.stack([1 - probability, probability]))
    assert comparison.single_valued_tiles(image, own) == [(96, 48)]
    found = comparison.compare(
        image, own, maps["ours"], maps["theirs"], maps["fed"], floats, picture=tmp_path / "why.tif"
    )
    expected: dict[str, Any] = dict.fromkeys(comparison.REASONS, 1)
    assert vars(found) == {"valid": valid.sum(), **expected, "invalid_mapped": 1}
    with rasterio.open(tmp_path / "why.tif") as file:
        why = file.read(1)
    assert [why[180, 10], why[40, 70], why[140, 50], why[70, 10], why[190, 110], why[20, 60]] == [1, 2, 3, 4, 5, 255]
    assert np.count_nonzero(why) == 6


@pytest.mark.parametrize(("length", "expected"), [(1, 32), (32, 32), (33, 48), (48, 48), (49, 64), (200, 208)])
def test_tiles_reach_over_the_edge(length: int, expected: int) -> None:
    assert comparison.extended(length, 32) == expected


def test_what_it_is_fed_is_black_beyond_the_edge(tmp_path: Path) -> None:
    """A network that sees its neighbours, and NumPy's answer with black around the image."""
    from scipy.signal import correlate

    from tests.inference.networks import weights

    own = card(tile_size=64)
    model = write_onnx(tmp_path / "m.onnx", own, kernel=3)
    pixels = np.random.default_rng(3).integers(1, 255, (3, 50, 40)).astype(np.uint8)
    pixels[:, 10:14, 10:14] = 7
    image = write_raster(tmp_path / "image.tif", pixels, nodata=7)
    comparison.map_as_fed(image, tmp_path / "fed.tif", tmp_path / "p.tif", model, own)
    w, b = weights(3, 1, 3)
    padded = np.zeros((3, 64, 64))
    padded[:, :50, :40] = pixels
    mean, std = (np.array(v)[:, None, None] for v in (own.mean, own.std))
    logits = correlate(np.pad((padded / 255 - mean) / std, ((0, 0), (1, 1), (1, 1))), w[0], mode="valid")[0] + b[0]
    with rasterio.open(tmp_path / "fed.tif") as file:
        assert file.shape == (64, 64)
        assert np.array_equal(file.read(1), logits > 0)
        assert (file.dataset_mask() > 0).all()


def test_it_is_installed_once_without_the_gpu_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uv that only writes down what it is asked for."""
    log, uv = tmp_path / "log", tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(
        f"""#!{sys.executable}
import sys
from pathlib import Path
with open({str(log)!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
    if "--override" in sys.argv:
        log.write(Path(sys.argv[sys.argv.index("--override") + 1]).read_text())
        Path(sys.argv[sys.argv.index("--python") + 1]).with_name("hab").touch()
if sys.argv[1] == "venv":
    (Path(sys.argv[-1]) / "bin").mkdir(parents=True, exist_ok=True)
"""
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}{os.pathsep}{os.environ['PATH']}")
    install(tmp_path / "environment")
    said = log.read_text()
    assert f"habitat-mapper=={VERSION}" in said
    assert "onnxruntime>=" in said
    assert "onnxruntime-gpu; python_version < '3'" in said
    install(tmp_path / "environment")
    assert log.read_text() == said


def test_an_installation_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: no route to host' >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UserError, match="can't install habitat-mapper: error: no route to host"):
        install(tmp_path / "environment")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="uv: not found"):
        install(tmp_path / "environment")


@pytest.mark.slow
def test_the_real_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Needs the network: installs it, and maps with a network that sees its neighbours."""
    install(tmp_path / "environment")
    rng = np.random.default_rng(5)

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = rng.integers(1, 255, image.shape).astype(np.uint8)
        image[:, 30:40, 20:60] = 0
        return image, label

    data = write_dataset(tmp_path / "data", {"test": [(150, 97)]}, change=change, nodata=0)
    model = write_onnx(tmp_path / "m.onnx", card(ignore_index=2, tile_size=64), kernel=3, size=64)
    arguments = [str(model), "--data", str(data), "--environment", str(tmp_path / "environment")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "near nodata" in said
    assert "lower or right edge" in said

"""Comparison with habitat-mapper: with a stand-in script here, with the real program in the slow test."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from eval.kom.habitat_mapper import VERSION, executable, install
from eval.test_kom import main
from inference.common.errors import UserError
from tests.conftest import write_dataset
from tests.inference.networks import card, write_onnx, write_torchscript
from train.export.consumers import habitat_mapper_config as configuration

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
session = onnxruntime.InferenceSession(config["model_filename"])  # relative to its working directory
with rasterio.open(o.input) as src:
    pixels, profile = src.read(list(range(1, config["input_channels"] + 1))), src.profile
x = pixels.astype(np.float32) / config["max_pixel_value"]
x = (x - np.array(config["mean"])[:, None, None]) / np.array(config["std"])[:, None, None]
(logits,) = session.run(None, {{"input": x[None].astype(np.float32)}})
mask = logits[0].argmax(axis=0).astype(np.uint8) if len(logits[0]) > 1 else (logits[0, 0] > 0).astype(np.uint8)
if mode == "shifted":
    mask = np.roll(mask, 1, axis=0)
if mode == "nonsense":
    mask[0] = 77
if o.blur != "0":
    mask[0] = mask[0] == 0
profile.update(count=1, dtype="uint8", nodata=255)
with rasterio.open(o.output, "w", **profile) as out:
    out.write(mask, 1)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environment with a stand-in for habitat-mapper, which runs the network on the whole image at once."""
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
    assert not list(configs.iterdir())  # the registration was removed


def test_several_classes(environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.metrics import jaccard_score

    own = card(classes=3, ignore_index=255)
    model = write_onnx(tmp_path / "three.onnx", own)
    rng = np.random.default_rng(6)

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), label.shape)
        return rng.integers(1, 255, image.shape).astype(np.uint8), labels

    data = write_dataset(tmp_path / "data", {"test": [(70, 64)]}, change=change)
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--environment", str(environment), "--out", str(out)]
    assert main([str(model), *arguments]) == 0
    said = capsys.readouterr().out
    assert "against the labels (mean over classes):" in said
    with rasterio.open(out / "s0_ours.tif") as mapped, rasterio.open(data / "test" / "y" / "s0_label.tif") as labelled:
        prediction, label = mapped.read(1), labelled.read(1)
    expected = jaccard_score(label[label < 3], prediction[label < 3], average="macro")
    line = next(line for line in said.splitlines() if line.startswith("  inference.py"))
    assert f"IoU {expected:.4f}" in line


def test_another_map(
    environment: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN", "shifted")
    image = str(data / "test" / "x" / "s0.tif")
    assert main([str(model), image, "--environment", str(environment)]) == 3
    said = capsys.readouterr().out
    assert "differ for no known reason" in said
    assert "IoU" not in said


def test_a_map_of_an_earlier_run_is_not_taken_for_a_new_one(
    environment: Path, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(model), str(data / "test" / "x" / "s0.tif"), "--environment", str(environment)]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    monkeypatch.setenv("STAND_IN", "silent")
    assert main([*arguments, "--out", str(tmp_path)]) == 3


def test_a_model_in_production_keeps_its_embedded_card(
    environment: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The habitat-mapper configuration beside a model does not replace its embedded card."""
    own = card(ignore_index=2, class_names=["background", "bull"]).model_copy(update={"bands": [3, 2, 1]})
    other = write_onnx(tmp_path / "own.onnx", own)
    other.with_suffix(".json").write_text(configuration(own, other.name))
    arguments = [str(model), "--data", str(data), "--environment", str(environment), "--production", str(other)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "not run in habitat-mapper: the model reads bands [3, 2, 1]" in said.out
    assert "are called background, bull" in said.err
    assert "of an unknown version; known differences are those of" in said.err


@pytest.mark.parametrize(("mode", "said"), [("fails", "the tide is out"), ("silent", "it wrote no map and no message")])
def test_a_failure_is_reported(
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
    """Return, for each model in the printed table of scores, the start of each of its lines."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in said.partition("against the labels (kelp1):\n")[2].partition("\n\n")[0].splitlines():
        if line.startswith(" "):
            found[name].append(line.strip().split("  ")[0] if "IoU" in line else line.strip())
        else:
            name = line
            found[name] = []
    return found


def test_a_value_that_is_not_a_class(
    environment: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN", "nonsense")
    data = write_dataset(tmp_path, {"test": [(70, 64)]})
    assert main([str(model), "--data", str(data), "--environment", str(environment), "--ignore-index", "255"]) == 3
    assert "habitat-mapper maps valid pixels as 77, which is no class" in capsys.readouterr().err


def test_models_in_production_are_scored_beside_it(
    environment: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network of the new model as ONNX and as TorchScript, and a model that returns class indices."""
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
    three = ["inference.py", "habitat-mapper", "habitat-mapper, post-processed"]
    assert rows(said) == {
        "m.onnx": three,
        "in_use.onnx, in production": three,
        "in_use.pt, in production": ["inference.py", "not run in habitat-mapper: it runs .onnx files only"],
        "numbers.onnx, in production": [
            "inference.py",
            "not run in habitat-mapper: the model returns class indices, habitat-mapper needs one channel per class",
        ],
    }
    assert ious[:3] == ious[3:6]
    assert ious[6] == ious[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["MODEL", "nowhere.tif"], "nowhere.tif: no such file"),
        (["MODEL", "MODEL"], "only one MODEL is allowed"),
        (["model.pt"], "model.pt: habitat-mapper runs .onnx files only"),
        (["MODEL", "IMAGE", "IMAGE"], "their maps would have the same name"),
        (["MODEL", "--blur", "4"], "--blur: 4 (allowed: 0 for none, or an odd number up to 255)"),
        (["MODEL", "--morph", "257"], "--morph: 257 (allowed: 0 for none, or an odd number up to 255)"),
        (["MODEL", "--ignore-index", "9" * 100], "--ignore-index: 999"),
        (["MODEL", "--environment", "nowhere", "--data", "DATA"], "nowhere: does not contain habitat-mapper"),
        (["MODEL", "MODEL.tif", "--data", "DATA"], "images and --data exclude each other"),
        (["MODEL", "IMAGE", "--production", "MODEL"], "--production: m.onnx is scored against labels"),
        (["MODEL", "--data", "DATA", "--production", "IMAGE"], "s0.tif is not an exported model"),
        (["MODEL", "--data", "DATA", "--production", "no.onnx"], "no.onnx: no such file (--production takes"),
        (["MODEL", "--data", "DATA", "--production", "BARE"], "(give one with --production-card FILE.json"),
        (
            ["MODEL", "--data", "DATA", "--production-card", "BARE"],
            "--production-card: needs exactly one --production, found 0",
        ),
        (["MODEL", "--data", "DATA", "--production", "THREE"], "they can't be scored on the same labels"),
    ],
)
def test_invalid_input_is_one_line(
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


def test_maps_replace_nothing_that_is_compared(
    environment: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = data / "test" / "x" / "s0.tif"
    image, other = tmp_path / "s0.tif", tmp_path / "s0_why.tif"
    for path in (image, other):
        path.write_bytes(source.read_bytes())
    arguments = [str(model), str(image), str(other), "--environment", str(environment), "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert f"{other}: is an image (choose another --out)" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [image, other]
    assert other.read_bytes() == source.read_bytes()


def test_it_is_installed_once_without_the_gpu_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for uv that records its arguments."""
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
def test_the_real_habitat_mapper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Needs a network connection: install habitat-mapper, and map with a network with a 3x3 kernel."""
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

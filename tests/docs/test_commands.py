"""Every command of README and docs is run as it stands there, on less data and with smaller networks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from inference.common.geopackage import write_layer
from tests.conftest import scene, write_dataset, write_raster
from tests.docs.pages import ROOT, Block, blocks, commands
from tests.eval.sampling.maps import label, write_world
from tests.inference.networks import card, write_onnx
from tests.train.preparation.surveys import ground, write_mosaic, write_polygons

RUN = "runs/PROJECT/NAME-TIMESTAMP"
SMALLER = [
    "tile_size=64",
    "max_epoch=1",
    "batch_size=2",
    "enable_logging=false",
    "data_module.samples_per_epoch=2",
    "data_module.num_workers=0",
    "segmentation_config.backbone=tu-mobilenetv3_small_050",
    "segmentation_config.opts.encoder_weights=null",
    "segmentation_config.opts.encoder_depth=3",
    "segmentation_config.opts.decoder_channels=[16,8,8]",
    "trainer.accelerator=cpu",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
]


def found() -> list[tuple[str, tuple[str, ...]]]:
    """Return (folder, words) of each different command that can be run."""
    every: dict[tuple[str, tuple[str, ...]], None] = {}
    for block in blocks("bash"):
        folder = "."
        for words in commands(block) if block.reason is None else ():
            if words[0] == "cd":
                folder = words[1]
            else:
                every[folder, words] = None
    return list(every)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose files are named after their sites."""
    folder = write_dataset(tmp_path_factory.mktemp("data"))
    for path in sorted(folder.rglob("s*.tif")):
        path.rename(path.with_name(f"site_{path.name[1:]}"))
    return folder


@pytest.fixture(scope="module")
def world(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the files that the docs speak of; the run is that of the first training command."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "inference").mkdir()
    for name in ("train", "docs"):
        (folder / name).symlink_to(ROOT / name)
    for name, seed in (("MODEL.onnx", 0), ("IN_USE.onnx", 1)):
        write_onnx(folder / name, card(ignore_index=2), seed=seed)
        (folder / "inference" / name).symlink_to(folder / name)
    image, label = scene(np.random.default_rng(1), 70, 90)
    write_raster(folder / "inference" / "mosaic.tif", image)
    for at, name in enumerate("ab"):
        write_raster(folder / "inference" / "mosaics" / f"{name}.tif", image, origin=(5e5 + 20 * at, 5.8e6))
    write_raster(folder / "map" / "kelp.tif", label)
    write_raster(folder / "map" / "p.tif", np.stack([1 - label, label]).astype(np.float32))
    outline = shapely.box(5e5 + 1, 5.8e6 - 6, 5e5 + 5, 5.8e6 - 1)
    for name in ("sites", "eelgrass"):
        table = geopandas.GeoDataFrame({"site": ["cove"]}, geometry=[outline], crs="EPSG:32609")
        table.to_file(folder / "map" / f"{name}.gpkg")
    code = train(["train/configs/demo/unet-mobilenetv2.yml"], data, folder, folder)
    assert code == 0
    (run,) = (folder / "runs" / "demo-kelp").iterdir()
    (folder / RUN).parent.mkdir()
    shutil.copytree(run, folder / RUN)
    return folder


def train(words: Sequence[str], data: Path, world: Path, out: Path) -> int:
    """Run `python -m train` in this process."""
    from train.__main__ import main

    smaller = [*SMALLER, f"data_module.data_dir={data}", f"logging.save_dir={out / 'runs'}"]
    if "--resume" in words:
        shutil.copytree(world / RUN, out / "run")
        words = [str(out / "run") if word == RUN else word for word in words]
        smaller = ["trainer.max_epochs=2"]
    if "--schema" in words:
        smaller = []
    if "--lr-find" in words:
        smaller.append("trainer.max_steps=30")
    words = [word for word in words if not word.startswith("data_module.data_dir=")]
    before = Path.cwd()
    os.chdir(world)
    try:
        return main([*words, *smaller])
    finally:
        os.chdir(before)


def prepare(words: Sequence[str], out: Path) -> int:
    """Run `python -m train.prepare` in this process, on a small survey in place of the demo's."""
    from train.prepare import main

    if "--schema" in words:
        return main(words)
    write_mosaic(out / "cove.tif")
    shapes = [ground(row, col, 12, 12) for row in range(5, 110, 20) for col in range(5, 150, 20)]
    labels = write_polygons(out / "kelp.gpkg", shapes)
    smaller = [f"sources=[{{image: '{out}/{{name}}.tif', labels: '{labels}'}}]", "tile_size=16"]
    smaller += ["split.block_size=40 px", "split.guard=8 px"]
    words = [str(out / word) if word == "chips" else word for word in words]
    return main([*words, f"output_dir={out / 'prepared'}", *smaller])


def convert(words: Sequence[str], out: Path) -> int:
    """Run `python train/convert_checkpoint.py` in this process."""
    from train.convert_checkpoint import main

    return main([*words, "--output_dir", str(out / "weights")])


def predict(words: Sequence[str]) -> int:
    """Run `python inference.py` in this process, with a model where the command leaves the choice to the folder."""
    from inference.inference import main

    return main([*words, *([] if "--model" in words else ["--model", "MODEL.onnx"]), "--overwrite"])


def polygons(words: Sequence[str], world: Path, out: Path) -> int:
    """Run `python polygons.py` in this process, on a small map."""
    from inference.polygons import main

    shutil.copytree(world / "map", out, dirs_exist_ok=True)
    os.chdir(out)
    return main(words)


def evaluate(words: Sequence[str], data: Path, out: Path) -> int:
    """Run `python eval/test_new_model.py` in this process, on small data in place of the demo's."""
    from eval.test_new_model import main

    words = [str(data) if word in {"/path/to/data", "prepared/demo-kelp"} else word for word in words]
    model = [] if words and not words[0].startswith("--") else ["MODEL.onnx"]
    return main([*model, *words, *([] if "--data" in words else ["--data", str(data)]), "--out", str(out / "judged")])


def areas(words: Sequence[str], out: Path) -> int:
    """Run `python eval/area.py` in this process, on a small map, and a sample of it with labels."""
    from eval.area import main

    small = write_world(out, classes=3 if "--class-names" in words else 2)
    sample = out / "sample.gpkg"
    if words[0] == "estimate" or "--more" in words:
        main(["sample", str(small.map), "--probabilities", str(small.probabilities), "--out", str(sample)])
        label(sample, small)
    square = np.array([ground(0, 0, 100, 100)], object)
    for name, column in (("sites.gpkg", "site"), ("dataset.gpkg", "split")):
        write_layer(out / name, "blocks", square, {column: ["train"]}, "EPSG:32609")
    files = {"kelp.tif": small.map, "classes.tif": small.map, "p.tif": small.probabilities}
    return main([str(files.get(word, out / Path(word).name if "." in word else word)) for word in words])


def launch(words: Sequence[str]) -> int:
    """Run a command that is quick to start in a process of its own; what it prints must not be empty."""
    script = [str(ROOT / word) if word.endswith(".py") else word for word in words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip(), done.stderr
    return done.returncode


def test_what_can_not_be_run_says_why() -> None:
    reasons = {block.reason for block in blocks("bash") if block.reason is not None}
    assert len(reasons) > 3
    assert min(map(len, reasons)) > 10


def test_commands_were_found() -> None:
    programs = {words[2] if words[1] == "-m" else words[1] for _, words in found()}
    assert programs >= {
        "train",
        "train.prepare",
        "train/convert_checkpoint.py",
        "inference.py",
        "polygons.py",
        "inference.card",
        "eval/test_new_model.py",
        "eval/area.py",
        "train.configs.reference",
    }


@pytest.mark.parametrize(("folder", "words"), found(), ids=lambda value: " ".join(value)[-70:])
def test_command(
    folder: str,
    words: tuple[str, ...],
    data: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world / folder)
    target = None
    if ">" in words:
        words, target = words[: words.index(">")], words[-1]
    programs: dict[tuple[str, ...], Callable[[Sequence[str]], int]] = {
        ("python", "-m", "train"): lambda rest: train(rest, data, world, tmp_path),
        ("python", "-m", "train.prepare"): lambda rest: prepare(rest, tmp_path),
        ("python", "train/convert_checkpoint.py"): lambda rest: convert(rest, tmp_path),
        ("python", "inference.py"): predict,
        ("python", "polygons.py"): lambda rest: polygons(rest, world, tmp_path),
        ("python", "eval/test_new_model.py"): lambda rest: evaluate(rest, data, tmp_path),
        ("python", "eval/area.py"): lambda rest: areas(rest, tmp_path),
        ("python",): launch,
    }
    start = next(start for start in programs if words[: len(start)] == start)
    assert programs[start](words[len(start) :]) == 0
    printed = capsys.readouterr().out
    if target is not None:
        assert json.loads(printed)["type"] == "object"
    said = {"--check": "ready to train", "--lr-find": "suggestion: segmentation_config.lr="}
    for option in said.keys() & set(words):
        assert said[option] in printed
    if start == ("python", "inference.py"):
        made = world / folder / words[3]
        assert "--dry-run" in words or made.is_file() or (made / "summary.csv").is_file()


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.page)
def test_python(block: Block, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(
        block.text.replace("threshold=0.4)", "threshold=0.4, model='MODEL.onnx', overwrite=True)"), "", "exec"
    )
    if block.page.startswith("docs/architecture/"):
        return  # sketches of what is to be written
    if "polygonize" in block.text:
        shutil.copytree(world / "map", tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        exec(code, {})
        assert (tmp_path / "kelp.gpkg").is_file()
        return
    monkeypatch.chdir(world / "inference")
    (world / "inference" / "kelp.tif").unlink(missing_ok=True)
    exec(code, {})
    assert (world / "inference" / "kelp.tif").is_file()

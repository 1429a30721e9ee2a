"""Every command under SIGTERM and SIGUSR1 in the midst of its work: exit code 143, one line, and no file changed.

`tests/train/run/test_resume.py` does the same with training, whose state is kept.
"""

import hashlib
import importlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import yaml

from eval.kom.habitat_mapper import executable
from eval.test_kom import main as compare
from eval.test_new_model import main as evaluate
from inference.card import main as print_card
from inference.inference import main as map_mosaic
from inference.polygons import main as make_polygons
from tests.conftest import tiny_config, write_dataset, write_raster
from tests.inference.networks import card, write_onnx
from tests.inference.vector.maps import patches, write_map, write_polygons
from train.__main__ import main as train
from train.convert_checkpoint import main as convert

# Command, the function in the midst of its work during which the signal arrives, and its arguments.
COMMANDS: dict[str, tuple[Callable[[list[str]], int], str, str]] = {
    "map": (map_mosaic, "inference.predicted_rows.TileReader.read", "MOSAIC OUT/o.tif --model MODEL --overwrite"),
    "map, when it is written": (
        map_mosaic,
        "inference.output.map.Output.complete",
        "MOSAIC OUT/o.tif --model MODEL --probabilities OUT/p.tif --overwrite",
    ),
    "map and polygons": (
        map_mosaic,
        "inference.vector.polygon_writer.PolygonWriter.complete",
        "MOSAIC OUT/o.tif --model MODEL --polygons OUT/o.gpkg --qgis-style --overwrite",
    ),
    "polygons": (
        make_polygons,
        "inference.vector.outputs.PolygonWriter.add",
        "CLASSES OUT/o.gpkg --simplify 1 --sites SITES --table OUT/o.csv --overwrite",
    ),
    "polygons, when they are complete": (
        make_polygons,
        "inference.vector.formats.finish",
        "CLASSES OUT/o.gpkg --sites SITES --table OUT/o.csv --overwrite",
    ),
    "polygons, when sites are read": (
        make_polygons,
        "inference.vector.plan.read_sites",
        "CLASSES --sites SITES --table OUT/o.csv --overwrite",
    ),
    "card": (print_card, "inference.model.card_files.embedded_card", "MODEL"),
    "card, a template": (print_card, "inference.model.template._trial", "--template BARE"),
    "check": (train, "train.run.check.build_model", "CONFIG --check"),
    "learning rate": (train, "train.run.lr_find.build_model", "CONFIG --lr-find"),
    "convert": (convert, "train.export.convert.check_parity", "RUN --output_dir OUT --score 0.5"),
    "evaluate": (
        evaluate,
        "eval.predictions.count_image",
        "MODEL --data DATA --out OUT/new/report --baseline MODEL --no-threshold",
    ),
    "evaluate again": (
        evaluate,
        "eval.report.html.draw_curves",
        "MODEL --data DATA --out OUT/report --no-threshold --overwrite",
    ),
    "compare": (compare, "eval.kom.run.compare", "MODEL --data DATA --out OUT --environment ENVIRONMENT"),
}

STAND_IN = """#!/bin/sh
while [ "$1" != --output ]; do shift; done
cp MAP "$2"
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Inputs of all commands, and a folder with outputs of earlier ones."""
    folder = tmp_path_factory.mktemp("stopped")
    data = write_dataset(folder / "data", dict.fromkeys(("train", "val", "test"), [(64, 64)] * 2))
    model = write_onnx(folder / "m.onnx", card(tile_size=64, ignore_index=2))
    rng = np.random.default_rng(0)
    mosaic = write_raster(folder / "mosaic.tif", rng.integers(1, 255, (3, 100, 90)).astype(np.uint8))
    config = tiny_config(data, folder / "runs")
    (folder / "c.yml").write_text(yaml.safe_dump(config))
    assert train([str(folder / "c.yml")]) == 0
    (run,) = (folder / "runs" / "p").iterdir()
    # habitat-mapper's part in a comparison: a map of another program.
    environment = folder / "environment"
    (environment / "lib" / "python3" / "site-packages" / "habitat_mapper" / "configs").mkdir(parents=True)
    executable(environment).parent.mkdir()
    map_of_others = write_raster(folder / "map.tif", np.ones((64, 64), np.uint8))
    executable(environment).write_text(STAND_IN.replace("MAP", str(map_of_others)))
    executable(environment).chmod(0o755)
    out = folder / "out"
    out.mkdir()
    for name in ("o.tif", "p.tif"):
        write_raster(out / name, np.ones((100, 90), np.uint8))
    for name in ("o.gpkg", "o.csv", "o.qml"):
        (out / name).write_text("of an earlier run")
    classes = write_map(folder / "classes.tif", patches(200, 150, 3, 0))
    sites = write_polygons(folder / "sites.gpkg", [shapely.box(10, 10, 90, 140)], name=["a"])
    assert evaluate([str(model), "--data", str(data), "--out", str(out / "report"), "--no-threshold"]) == 0
    return {
        "CONFIG": folder / "c.yml",
        "DATA": data,
        "ENVIRONMENT": environment,
        "BARE": write_onnx(folder / "bare.onnx", None),
        "CLASSES": classes,
        "MODEL": model,
        "MOSAIC": mosaic,
        "OUT": out,
        "RUN": run,
        "SITES": sites,
    }


def files(folder: Path) -> dict[str, str]:
    """Return all paths below a folder, with a digest of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_stopped(
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    number: signal.Signals,
) -> None:
    main, place, words = COMMANDS[name]
    arguments = [str(places[w.split("/")[0]]) + w[len(w.split("/")[0]) :] if w.isupper() or w[:4] == "OUT/" else w
                 for w in words.split()]  # fmt: skip
    owner, _, attribute = place.rpartition(".")
    try:
        target: Any = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _, kind = owner.rpartition(".")
        target = getattr(importlib.import_module(module), kind)
    original = getattr(target, attribute)
    signalled = []

    def interrupted(*values: Any, **options: Any) -> Any:
        if not signalled:
            signalled.append(number)
            signal.raise_signal(number)
        return original(*values, **options)

    monkeypatch.setattr(target, attribute, interrupted)
    monkeypatch.chdir(places["OUT"].parent)
    before = files(places["OUT"].parent)
    assert main(arguments) == 143
    assert signalled
    said = capsys.readouterr()
    *_, last = said.err.splitlines()
    assert last.startswith("interrupted")
    assert last.endswith(f"({number.name})")
    assert "Traceback" not in said.err
    assert files(places["OUT"].parent) == before

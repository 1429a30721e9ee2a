"""The command that evaluates a model, on tiny real files."""

import csv
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from sklearn import metrics as sk

from eval.test_new_model import main
from tests.conftest import write_dataset, write_raster
from tests.inference.networks import card, write_onnx

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evaluated(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out")
    assert main([str(model), "--data", str(data), "--out", str(out)]) == 0
    return out, json.loads((out / "scores.json").read_text())


def true_and_mapped(data: Path, masks: Path, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    truth, mapped = [], []
    for path in sorted((data / split / "x").glob("*.tif")):
        with rasterio.open(data / split / "y" / f"{path.stem}_label.tif") as file:
            label = file.read(1)
        with rasterio.open(masks / path.name) as file:
            counted = (label != 2) & (file.dataset_mask() > 0)
            truth.append(label[counted])
            mapped.append(file.read(1)[counted])
    return np.concatenate(truth), np.concatenate(mapped)


def test_scores_are_those_of_the_written_masks(data: Path, evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, found = evaluated
    y, p = true_and_mapped(data, out / "masks")
    assert 0.3 < found["scores"]["dice"] < 0.98
    assert found["scores"]["dice"] == pytest.approx(sk.f1_score(y, p), abs=1e-12)
    assert found["scores"]["kappa"] == pytest.approx(sk.cohen_kappa_score(y, p), abs=1e-12)
    assert found["confusion"] == sk.confusion_matrix(y, p).tolist()
    assert (found["images"], found["groups"]) == (3, 3)
    low, high = found["intervals"]["dice"]
    assert low <= found["scores"]["dice"] <= high
    with (out / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["s0", "s1", "s2"]
    assert sum(int(row["pixels"]) for row in rows) == y.size


def test_areas_are_those_of_the_grid(data: Path, evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, found = evaluated
    y, p = true_and_mapped(data, out / "masks")
    assert found["scores"]["true_area/kelp1"] == pytest.approx(0.01 * (y == 1).sum(), rel=2e-3)
    assert found["scores"]["area_error"] == pytest.approx(p.sum(dtype=int) / y.sum(dtype=int) - 1, abs=1e-3)
    factor = found["scores"]["area_factor"]
    assert factor * found["scores"]["predicted_area/kelp1"] == pytest.approx(found["scores"]["true_area/kelp1"])
    low, high = found["intervals"]["area_factor"]
    assert low <= factor <= high
    assert f"Maps of similar images are corrected by the factor {factor:.3f} (95 % CI {low:.3f}" in found["verdict"]


def test_the_suggested_threshold_is_best_on_the_validation_split(
    data: Path, model: Path, evaluated: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    from inference.predict import predict

    _, found = evaluated
    dice = {}
    for threshold in (found["threshold"]["value"], 0.2, 0.35, 0.5, 0.65, 0.8):
        for path in sorted((data / "val" / "x").glob("*.tif")):
            predict(path, tmp_path / path.name, model=model, threshold=threshold, overwrite=True, cog=False)
        dice[threshold] = sk.f1_score(*true_and_mapped(data, tmp_path, "val"))
    assert found["threshold"]["validation_dice"] == pytest.approx(dice[found["threshold"]["value"]], abs=1e-9)
    assert max(dice.values()) == dice[found["threshold"]["value"]]
    assert found["threshold"]["validation_dice_now"] == pytest.approx(dice[0.5], abs=1e-9)


def test_the_report_is_self_contained(evaluated: tuple[Path, dict[str, Any]]) -> None:
    out, found = evaluated
    text = (out / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 3
    assert 'class="sortable"' in text
    assert "<svg" in text
    loaded = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', text)
    assert [one for one in loaded if not one.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\((?!#)", text)
    assert "fetch(" not in text
    assert found["verdict"].split(" (")[0] in text
    assert "95 % CI" in found["verdict"]
    assert "3 independent groups" in found["verdict"]


def test_a_model_against_itself_and_another(data: Path, model: Path, tmp_path: Path) -> None:
    arguments = [str(model), "--data", str(data), "--no-threshold", "--group", "s(.)"]
    assert main([*arguments, "--baseline", str(model), "--out", str(tmp_path / "same")]) == 0
    same = json.loads((tmp_path / "same" / "scores.json").read_text())
    assert same["baseline"]["differences"]["dice"] == {"value": 0, "interval": [0, 0]}
    assert "exactly that of" in same["verdict"]
    other = write_onnx(tmp_path / "other.onnx", card(ignore_index=2), seed=3)
    assert main([*arguments, "--baseline", str(other), "--out", str(tmp_path / "two")]) == 0
    two = json.loads((tmp_path / "two" / "scores.json").read_text())
    theirs = sk.f1_score(*true_and_mapped(data, tmp_path / "two" / "baseline-masks"))
    assert two["baseline"]["scores"]["dice"] == pytest.approx(theirs, abs=1e-12)
    gain = two["baseline"]["differences"]["dice"]
    assert gain["value"] == pytest.approx(two["scores"]["dice"] - theirs)
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    assert "largest differences in Dice" in (tmp_path / "two" / "report.html").read_text()
    assert two["threshold"] is None


def test_a_checkpoint_and_its_exports_score_the_same(
    dataset: Path, write_config: Callable[..., Path], tmp_path: Path
) -> None:
    import torch

    from train.configs.loader import load_config
    from train.datamodule import DataModule
    from train.export.export_wrapper import ExportWrapper
    from train.export.formats import FORMATS
    from train.model import MODELS
    from train.run.card import model_card

    config = load_config(write_config()).config
    prepared = DataModule(config)
    prepared.prepare()
    own = model_card(config, prepared.images)
    torch.manual_seed(1)
    network = MODELS[config.segmentation_model_cls](config.plain(), own.model_dump(mode="json"))
    for _ in range(3):  # statistics of real pixels: else all probabilities are alike
        network.model(torch.randn(2, 3, 64, 64))
    network.eval()
    parameters = {"config": config.plain(), "card": own.model_dump(mode="json")}
    checkpoint = tmp_path / "m.ckpt"
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": parameters}, checkpoint)
    exported = own.model_copy(update={"output": "probabilities"})
    models = [checkpoint]
    for key, chosen in FORMATS.items():
        models.append(tmp_path / f"{key}{chosen.suffix}")
        chosen.write(ExportWrapper(network, "probabilities").eval(), exported, torch.randn(2, 3, 64, 64), models[-1])
    found = []
    for number, path in enumerate(models):
        out = tmp_path / str(number)
        given = [] if path == checkpoint else ["--data", str(dataset)]  # the checkpoint knows where its data are
        assert main([str(path), *given, "--no-threshold", "--out", str(out)]) == 0
        found.append(json.loads((out / "scores.json").read_text())["scores"])
    assert 0 < found[0]["dice"] < 1
    for other in found[1:]:
        for name, value in found[0].items():
            assert other[name] == (None if value is None else pytest.approx(value, abs=1e-4, rel=1e-4)), name


def test_several_classes(tmp_path: Path) -> None:
    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        label[:20, :30] = 2
        return image, label

    folder = write_dataset(tmp_path / "data", {"test": [(60, 50), (40, 40)]}, change=change)
    model = write_onnx(tmp_path / "m.onnx", card(classes=3))
    assert main([str(model), "--data", str(folder), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    truth, mapped = [], []
    for number in range(2):
        with rasterio.open(folder / "test" / "y" / f"s{number}_label.tif") as file:
            truth.append(file.read(1).ravel())
        with rasterio.open(tmp_path / "out" / "masks" / f"s{number}.tif") as file:
            mapped.append(file.read(1).ravel())
    y, p = np.concatenate(truth), np.concatenate(mapped)
    assert found["scores"]["iou"] == pytest.approx(sk.jaccard_score(y, p, average="macro"), abs=1e-12)
    assert "area_error" not in found["scores"]


def test_labels_mean_what_they_meant_in_training(data: Path, tmp_path: Path) -> None:
    """A card that swaps both classes, against labels that are swapped in the files."""
    swapped = tmp_path / "data"
    for path in sorted((data / "test").rglob("*.tif")):
        target = swapped / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path) as file:
            values, profile = file.read(), file.profile
        if path.parent.name == "y":
            values = np.array([5, 0, 2], np.uint8)[values]
        with rasterio.open(target, "w", **profile) as file:
            file.write(values)
    found = []
    for folder, changes in ((data, {}), (swapped, {"label_map": {0: 1, 5: 0}})):
        model = write_onnx(tmp_path / f"{folder.name}.onnx", card(ignore_index=2, **changes))
        out = tmp_path / f"out-{folder.name}"
        assert main([str(model), "--data", str(folder), "--no-threshold", "--out", str(out)]) == 0
        found.append(json.loads((out / "scores.json").read_text()))
    assert found[0]["scores"] == found[1]["scores"]
    assert found[0]["confusion"] == found[1]["confusion"]


def test_images_without_georeference_are_reported(data: Path, model: Path, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", {"test": [(40, 40), (44, 40)]}, crs=None)
    for path in sorted((folder / "test" / "y").glob("*.tif")):
        with rasterio.open(path) as file:
            label = file.read()
        write_raster(path, label, crs=None)
    arguments = [str(model), "--data", str(folder), "--no-threshold", "--ignore-index", "255"]
    for number, more in enumerate(([], ["--group", "s"])):
        out = tmp_path / str(number)
        assert main([*arguments, *more, "--out", str(out)]) == 0
        verdict = json.loads((out / "scores.json").read_text())["verdict"]
        assert ("2 images are not georeferenced, or wrongly" in verdict) == (not more)


def test_an_interrupted_evaluation_keeps_the_old_report_and_says_so(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(model), "--data", str(data), "--no-threshold", "--out", str(tmp_path)]
    assert main(arguments) == 0
    report = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.evaluate.predict_split", interrupt)
    assert main(arguments) == 130
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == report
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"notice: {tmp_path}: keeps the report of the earlier evaluation",
        "interrupted",
    ]


def test_help_is_quick_and_runs_as_a_file(tmp_path: Path) -> None:
    for command in (["eval/test_new_model.py"], ["-m", "eval.test_new_model"]):
        began = time.monotonic()
        done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0
        assert "--baseline" in done.stdout
        assert time.monotonic() - began < 3  # half a second on a machine that does nothing else


def test_wandb_offline(data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / name))
    arguments = [str(model), "--data", str(data), "--no-threshold", "--wandb", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    wandb.teardown()  # W&B's own process writes the record, and has it on disk when it ends
    (recorded,) = (tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb")
    assert b"eval/test/dice" in recorded.read_bytes()

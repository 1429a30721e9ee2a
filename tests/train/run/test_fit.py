"""Whole runs through the real command line on tiny rasters: files of the run folder, and correct scores."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import rasterio
import torch
import yaml
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from inference.common.errors import UserError
from inference.model.card_files import read_card
from tests.conftest import write_dataset
from train.__main__ import main
from train.configs.loader import load_config
from train.datamodule import DataModule
from train.model import SegmentationModel, SMPSegmentationModel
from train.models import pretrained
from train.run.checkpoints import AtomicCheckpointIO, read_checkpoint
from train.run.fit import train
from train.run.panels import Panel, draw_panels

ROOT = Path(__file__).parents[3]


def only_run(config: Path) -> Path:
    (folder,) = (config.parent / "runs" / "p").iterdir()
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a run folder and what the command printed."""
    folder = tmp_path_factory.mktemp("run")
    data = write_dataset(folder / "data")
    config = {
        "tile_size": 64,
        "batch_size": 4,
        "max_epoch": 3,
        "segmentation_config": {
            "architecture": "Unet",
            "backbone": "tu-mobilenetv3_small_050",
            "opts": {"encoder_weights": None},
            "lr": 5e-3,
        },
        "data_module": {"data_dir": str(data), "num_workers": 0, "class_names": ["sea", "kelp"]},
        "trainer": {"accelerator": "cpu"},
        "logging": {"save_dir": str(folder / "runs"), "project": "p", "name": "n"},
    }
    (folder / "c.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "train", str(folder / "c.yml")], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "wandb" not in done.stderr
    return only_run(folder / "c.yml"), done.stdout


def test_run_folder(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "config.yml", "checkpoints", "metrics.csv", "curves.png", "previews", "card.json", "summary.json", "data.json",
    }  # fmt: skip
    checkpoints = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    assert checkpoints[-1] == "last.ckpt"
    for path in ("curves.png", "summary.json", "metrics.csv", "card.json", "previews/overview.png"):
        assert str(folder / path) in printed
    assert f"convert_checkpoint.py {folder}" in printed
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["checkpoint"] == f"checkpoints/{checkpoints[0]}"
    assert summary["best"]["score"] == pytest.approx(summary["val"]["dice"], abs=1e-6)
    assert set(summary["test"]) == {"loss", "accuracy", "iou", "dice", "f1", "precision", "recall"}
    assert {"seconds", "images_per_second", "versions", "git_revision"} <= summary.keys()


def test_card(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    card = read_card(folder)
    assert card.class_names == ["sea", "kelp"]
    assert (card.bands, card.tile_size, card.max_pixel_value) == ([1, 2, 3], 64, 255.0)
    # 0.1 m in the projection; UTM's scale on the central meridian's neighbourhood is 0.9996.
    assert card.ground_sample_distance == pytest.approx(0.1 / 0.9996, rel=2e-5)
    assert card.scores["test/iou"] == pytest.approx(json.loads((folder / "summary.json").read_text())["test"]["iou"])


def test_scores_are_those_of_all_pixels(finished: tuple[Path, str]) -> None:
    """Recompute the scores from whole predicted images with another library."""
    folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    path = folder / summary["best"]["checkpoint"]
    model = SMPSegmentationModel.load_from_checkpoint(path, weights_only=True).eval()
    data = DataModule(load_config(folder / "config.yml").config)
    data.prepare()
    for split in ("val", "test"):
        truth, predicted = [], []
        dataset = data.grid_dataset(split)
        for image, label, _ in (dataset[i] for i in range(len(dataset))):
            with torch.inference_mode():
                classes = model.predict_classes(torch.from_numpy(image)[None].permute(0, 3, 1, 2))[0].numpy()
            truth.append(label[label != 2])
            predicted.append(classes[label != 2])
        y, p = np.concatenate(truth), np.concatenate(predicted)
        files = sorted((data.images.data_dir / split / "y").iterdir())
        assert y.size == sum(rasterio.open(f).read(1).size for f in files)
        for name, score in (
            ("iou", jaccard_score),
            ("dice", f1_score),
            ("precision", precision_score),
            ("recall", recall_score),
        ):
            assert summary[split][name] == pytest.approx(score(y, p), abs=1e-6), (split, name)


def test_checkpoint_is_plain_data_and_loads_without_pretrained_weights(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"]["config"]["segmentation_config"]["architecture"] == "Unet"
    assert content["hyper_parameters"]["card"]["scores"]["val/dice"] > 0
    # Even if the config names pretrained weights, loading must not fetch them.
    content["hyper_parameters"]["config"]["segmentation_config"]["opts"]["encoder_weights"] = "imagenet"
    other = folder.parent / "other.ckpt"
    torch.save(content, other)
    monkeypatch.setattr(pretrained, "_fetch", lambda *a, **k: pytest.fail("asked for weights"))
    model = SMPSegmentationModel.load_from_checkpoint(other, weights_only=True)
    state = read_checkpoint(path)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(name.startswith("model.") for name in state)


def test_validation_scores_come_from_validation_alone(
    write_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A perfect network on a val split with inverted labels has a validation score of 0."""
    data = write_dataset(tmp_path / "turned")
    for path in (data / "val" / "y").iterdir():
        with rasterio.open(path, "r+") as file:
            file.write(1 - file.read())

    def bright(self: SegmentationModel, image: torch.Tensor) -> torch.Tensor:
        # Labels are discs that are brighter than anything else. The network is used so that there is a gradient.
        pixels = (image - self.shift) / self.scale
        return (pixels.mean(dim=1, keepdim=True) - 105) + 0 * self.model(image)

    monkeypatch.setattr(SMPSegmentationModel, "forward", bright)
    path = write_config(max_epoch=1, data_module={"data_dir": str(data), "num_workers": 0, "augmentation": "none"})
    result = train(load_config(path).config)
    assert result.val["accuracy"] == 0
    assert result.val["iou"] == result.val["dice"] == 0
    assert result.test["iou"] == 1
    rows = (result.folder.path / "metrics.csv").read_text().splitlines()
    row = dict(zip(rows[0].split(","), map(float, rows[1].split(",")), strict=True))
    assert row["train/iou"] == 1
    assert row["val/iou"] == 0


def test_two_processes(write_config: Callable[..., Path]) -> None:
    """A run on two devices has the scores of its checkpoint on one device, and one run folder."""
    path = write_config(max_epoch=1)
    done = subprocess.run(
        [sys.executable, "-m", "train", str(path), "trainer.devices=2", "trainer.strategy=ddp"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    folder = only_run(path)
    assert done.stdout.count("best: epoch") == 1
    summary = json.loads((folder / "summary.json").read_text())
    config = load_config(folder / "config.yml", ["trainer.devices=1", "trainer.strategy=auto"]).config
    model = SMPSegmentationModel.load_from_checkpoint(folder / summary["best"]["checkpoint"], weights_only=True)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.validate(model, datamodule=DataModule(config), verbose=False)
    alone = {k.removeprefix("val/"): float(v) for k, v in trainer.callback_metrics.items()}
    assert alone.keys() == summary["val"].keys()
    for name, value in alone.items():
        assert summary["val"][name] == pytest.approx(value, abs=1e-6), name


def test_a_batch_of_one_window_is_explained(write_config: Callable[..., Path]) -> None:
    """DeepLabV3+ normalises one value per image, which needs at least two images."""
    path = write_config(
        tile_size=32,
        batch_size=2,
        segmentation_config={
            "architecture": "DeepLabV3Plus",
            "backbone": "resnet18",
            "opts": {"encoder_weights": None},
        },
        data_module={"samples_per_epoch": 3},
    )
    with pytest.raises(UserError, match="batch_size: 2 leaves a batch of one window"):
        train(load_config(path).config)


def test_a_full_disk_while_a_checkpoint_is_written(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands in for a full disk."""
    save, path = AtomicCheckpointIO.save_checkpoint, write_config()

    def limited(*arguments: Any, **options: Any) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            save(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", limited)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would be cut short, and stay so
    assert main([str(path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert ".ckpt: can't be written: File too large (" in said
    assert said.endswith(" MiB are free in its folder; make room, or write elsewhere)")
    assert list(path.parent.rglob("*.writing")) == []


def test_lines_of_progress(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines within an epoch, the best of this very epoch, why a run stopped early; none of it again on resume."""
    monkeypatch.setattr("train.run.progress.LINE_SECONDS", 0.0)
    path = write_config(
        max_epoch=9,
        segmentation_config={"lr": 1e-12},
        checkpoint={"monitor": "train/loss", "mode": "min"},
        early_stopping={"patience": 1, "min_delta": 0.5},
    )
    assert main([str(path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"epoch 1/9  step 2/\d  loss \d\.\d{4}  .* left", line) for line in lines), lines
    assert any(re.fullmatch(r"epoch 1/9  validating 2/2", line) for line in lines)
    first = next(line for line in lines if "train/loss" in line)
    loss = re.search(r"train/loss (\S+)", first)
    assert loss is not None
    assert f"best {loss[1]} (epoch 1)" in first
    stopped = [line for line in lines if line.startswith("stopped early: train/loss has not been better than ")]
    assert len(stopped) == 1
    assert stopped[0].endswith("(early_stopping.patience: 1)")
    short = write_config("short.yml", max_epoch=1, logging={"name": "short"})
    assert main([str(short)]) == 0
    (folder,) = (path.parent / "runs" / "p").glob("short-*")
    capsys.readouterr()
    assert main(["--resume", str(folder)]) == 0
    assert "train/loss" not in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_an_emoji_in_a_class_name_draws_without_warnings(tmp_path: Path) -> None:
    classes, image = np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.uint8)
    panel = Panel("s", image, classes, classes)
    overview, sheet = draw_panels([panel], ["background", "🌿 kelp"], 0, 2, tmp_path, "run-1, epoch 3")
    assert overview.is_file()
    assert sheet.is_file()

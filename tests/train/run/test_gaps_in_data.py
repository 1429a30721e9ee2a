"""Runs on data with gaps: unknown label values, invalid pixels, no background, nothing to validate."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.model.card_files import read_card
from tests.conftest import write_dataset, write_raster
from train.__main__ import main
from train.configs.loader import load_config
from train.run.fit import train

SPECIES: dict[str, Any] = {
    "num_classes": 2,
    "extra_transforms": ["species_label_transform"],
}


def test_unknown_label_value_stops_the_run_and_names_the_file(
    write_config: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A value in a part of a large data set that was not looked at before training."""
    monkeypatch.setattr("train.data.statistics.MOST_LABEL_PIXELS", 1)
    data = write_dataset(tmp_path / "data7")
    with rasterio.open(data / "train" / "y" / "s2_label.tif", "r+") as file:
        label = file.read(1)
        label[5, 3] = 7
        file.write(label, 1)
    path = write_config(data_module={"data_dir": str(data), "num_workers": 1})
    assert main([str(path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "s2_label.tif: label value 7 at row 5, column 3 is no class (allowed: 0, 1, 2;" in lines[-1]
    assert not list((path.parent / "runs" / "p").iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_invalid_pixels_count_nowhere(write_config: Callable[..., Path], tmp_path: Path, value: float) -> None:
    """NaN and infinite pixels of float32 images are ignored in training, scores and normalisation."""

    def holes(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = image.astype(np.float32) / 255
        image[1, :10, :20] = value
        return image, label

    data = write_dataset(tmp_path / "holes", change=holes)
    path = write_config(
        max_epoch=1, data_module={"data_dir": str(data), "num_workers": 0, "mean": "auto", "std": "auto"}
    )
    result = train(load_config(path).config)
    assert all(math.isfinite(v) for v in result.val.values())
    card = read_card(result.folder.card)
    valid = []
    for file in (data / "train" / "x").iterdir():
        pixels = rasterio.open(file).read()
        valid.append(pixels[:, np.isfinite(pixels).all(axis=0)])
    everything = np.concatenate(valid, axis=1).astype(np.float64)
    assert card.mean == pytest.approx(everything.mean(axis=1).tolist(), rel=1e-6)
    assert card.std == pytest.approx(everything.std(axis=1).tolist(), rel=1e-6)


def test_species(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Labels 0, 1, 2 become ignored, 0, 1: two classes without a background."""

    def two(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        label = label.copy()
        label[: len(label) // 2] *= 2
        return image, label

    data = write_dataset(tmp_path / "species", change=two)
    path = write_config(**SPECIES, max_epoch=1, data_module={"data_dir": str(data), "num_workers": 0})
    result = train(load_config(path).config)
    card = read_card(result.folder.card)
    assert card.background_index is None
    assert card.activation == "softmax"
    assert {"iou/class_0", "iou/class_1"} <= result.test.keys()


@pytest.mark.parametrize("reason", ["limit", "labels"])
def test_without_a_score_the_newest_checkpoint_counts(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], reason: str
) -> None:
    overrides = ["trainer.limit_val_batches=0"]
    if reason == "labels":
        data = write_dataset(tmp_path / "data", {"train": [(64, 64)] * 4, "val": [(64, 64)], "test": [(64, 64)]})
        write_raster(data / "val" / "y" / "s0_label.tif", np.full((64, 64), 2, np.uint8))
        overrides = [f"data_module.data_dir={data}"]
    path = write_config(max_epoch=3)
    assert main([str(path), *overrides]) == 0
    out, err = capsys.readouterr()
    why = "trainer.limit_val_batches is 0" if reason == "limit" else "val has no pixel with a label"
    assert f"warning: {why}: nothing will be validated, and the newest checkpoint will count as the best" in err
    assert "best: nothing was validated, so the newest checkpoint is used (epoch 3)" in out
    (folder,) = (tmp_path / "runs" / "p").iterdir()
    summary, card = (json.loads((folder / name).read_text()) for name in ("summary.json", "card.json"))
    assert summary["best"]["checkpoint"] == "checkpoints/003-not-validated.ckpt"
    assert summary["best"]["note"] == card["notes"][0] == "nothing was validated, so the newest checkpoint is used"
    assert read_card(folder / summary["best"]["checkpoint"]).notes == card["notes"]  # from there it is exported

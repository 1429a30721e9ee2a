"""The score of training and the score of the map on the same pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import rasterio
import torch

from eval.test_new_model import main
from tests.conftest import write_dataset, write_raster
from train.configs.loader import load_config
from train.datamodule import DataModule
from train.model import MODELS, SegmentationModel
from train.run.card import model_card

TILED = [(64, 64), (128, 192), (64, 50), (40, 30)]
"""Heights and widths, pixels, where the tiles of a map are the windows of training, of 64 pixels."""
UNBLENDED = ["--overlap", "0", "--window", "none"]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of so small an evaluation; other tests look at them."""
    monkeypatch.setattr("eval.report.html.draw_images", lambda *_: [])


def write_images(folder: Path, sizes: list[tuple[int, int]], dtype: str, classes: int) -> Path:
    """Noisy scenes with nodata in a corner and, of one, in a whole tile, and with ignored labels."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = (image // 2 + rng.integers(0, 120, image.shape) + 1).astype(dtype)
        if dtype != "uint8":
            image *= 20
        label = label * rng.integers(1, max(2, classes), label.shape, np.uint8)
        label[:9, :11] = 255
        image[:, -13:, -17:] = 0
        if image.shape[1] > 64:
            image[:, 64:, 64:128] = 0
        return image, label

    rng = np.random.default_rng(5)
    return write_dataset(folder, {"train": [(64, 64)], "test": sizes, "val": sizes}, change=change, nodata=0)


def write_checkpoint(
    path: Path, config_path: Path, scores: dict[str, float] | None = None
) -> tuple[SegmentationModel, DataModule]:
    """A network with random weights that has seen real pixels, so that its predictions differ from pixel to pixel."""
    config = load_config(config_path).config
    data = DataModule(config)
    data.prepare()
    card = model_card(config, data.images, scores).model_dump(mode="json")
    torch.manual_seed(1)
    network = MODELS[config.segmentation_model_cls](config.plain(), card)
    with torch.no_grad():
        for batch in data.test_dataloader():
            network(network.normalize(batch["image"]))
    network.eval()
    parameters = {"config": config.plain(), "card": card}
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": parameters}, path)
    return network, data


def training_scores(network: SegmentationModel, data: DataModule) -> dict[str, float]:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.test(network, datamodule=data, verbose=False)
    return {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}


def map_scores(checkpoint: Path, out: Path, *options: str) -> dict[str, Any]:
    assert main([str(checkpoint), "--no-threshold", "--out", str(out), *options]) == 0
    found: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return found


def config_sections(folder: Path, classes: int, dtype: str) -> dict[str, Any]:
    data: dict[str, Any] = {"data_dir": str(folder), "num_workers": 0}
    if dtype != "uint8":
        data |= {"mean": "auto", "std": "auto"}
    if dtype == "float32":
        data |= {"max_pixel_value": 2000}
    network = {"ignore_index": 255} | ({"loss": {"name": "CE"}} if classes > 1 else {})
    return {"num_classes": classes, "data_module": data, "segmentation_config": network}


@pytest.mark.parametrize(
    ("classes", "dtype"), [(1, "uint8"), (2, "uint16"), (3, "float32")], ids=["one", "two", "three"]
)
def test_an_unblended_map_scores_as_training_where_its_tiles_are_the_windows_of_training(
    classes: int, dtype: str, write_config: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "data", TILED, dtype, max(2, classes))
    network, data = write_checkpoint(tmp_path / "m.ckpt", write_config(**config_sections(folder, classes, dtype)))
    trained = training_scores(network, data)
    mapped = map_scores(tmp_path / "m.ckpt", tmp_path / "out", *UNBLENDED)["scores"]
    assert 0.05 < trained["dice"] < 0.95
    if classes == 2:  # the map has a target; training's score without a class is a mean over both classes
        assert trained["dice"] == pytest.approx((mapped["dice/background"] + mapped["dice"]) / 2, abs=1e-6)
        for name in ("iou", "dice", "f1", "precision", "recall"):
            trained[name] = trained[f"{name}/class_1"]
    compared = [name for name in trained if name in mapped]
    assert {"accuracy", "iou", "dice", "precision", "recall"} <= set(compared)
    for name in compared:
        assert mapped[name] == pytest.approx(trained[name], abs=1e-6), name


def test_a_nodata_value_that_training_replaced_is_said(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_images(tmp_path / "data", TILED[:2], "uint8", 2)
    sections = config_sections(folder, 1, "uint8")
    sections["data_module"]["nodata"] = "none"
    network, data = write_checkpoint(tmp_path / "m.ckpt", write_config(**sections))
    trained = training_scores(network, data)["accuracy"]
    heeded = map_scores(tmp_path / "m.ckpt", tmp_path / "own", *UNBLENDED)
    assert (
        f"notice: {folder}/test/x/s0.tif: declares nodata 0 (1 more image likewise), which maps heed; training had "
        "data_module.nodata: none in its place (to score as in training: --nodata none)\n" in capsys.readouterr().err
    )
    same = map_scores(tmp_path / "m.ckpt", tmp_path / "none", *UNBLENDED, "--nodata", "none")
    assert "declares nodata" not in capsys.readouterr().err
    assert same["scores"]["accuracy"] == pytest.approx(trained, abs=1e-6)
    assert heeded["scores"]["accuracy"] != pytest.approx(trained, abs=1e-3)


def cut(folder: Path, target: Path, size: int) -> Path:
    """The test split with each window of training as an image of its own."""
    for path in sorted((folder / "test" / "x").glob("*.tif")):
        label = folder / "test" / "y" / f"{path.stem}_label.tif"
        for part, source in (("x", path), ("y", label)):
            with rasterio.open(source) as file:
                pixels, nodata = file.read(), file.nodata
            for row in range(0, pixels.shape[1], size):
                for col in range(0, pixels.shape[2], size):
                    name = source.name.replace(path.stem, f"{path.stem}-{row}-{col}")
                    write_raster(
                        target / "test" / part / name, pixels[:, row : row + size, col : col + size], nodata=nodata
                    )
    return target


def test_a_blended_map_differs_from_training_and_the_report_says_so(
    write_config: Callable[..., Path], tmp_path: Path
) -> None:
    """Of an image that tiles don't divide, more than half a tile is left over: its reflection is that of a chip."""
    folder = write_images(tmp_path / "data", [(100, 110), (64, 104)], "uint8", 2)
    path = write_config(**config_sections(folder, 1, "uint8"))
    network, data = write_checkpoint(tmp_path / "m.ckpt", path)
    trained = training_scores(network, data)["dice"]
    network, data = write_checkpoint(tmp_path / "m.ckpt", path, {"test/dice": trained})
    chips = cut(folder, tmp_path / "chips", 64)
    same = map_scores(tmp_path / "m.ckpt", tmp_path / "same", "--data", str(chips))
    assert same["scores"]["dice"] == pytest.approx(trained, abs=1e-6)
    assert same["training_dice"] is None  # of other data, as far as the card knows

    blended = map_scores(tmp_path / "m.ckpt", tmp_path / "blended")
    mapped = blended["scores"]["dice"]
    assert abs(mapped - trained) > 1e-3
    assert blended["training_dice"] == pytest.approx(trained, abs=1e-12)
    said = (
        f"Training scored Dice {trained:.4f} on this split, in windows side by side; these maps score {mapped:.4f}, "
        "blended from tiles that overlap by 50 %."
    )
    assert said in blended["verdict"]
    assert said in (tmp_path / "blended" / "report.html").read_text()
    limited = write_config("limited.yml", **config_sections(folder, 1, "uint8"), trainer={"limit_test_batches": 1})
    partly = map_scores(tmp_path / "m.ckpt", tmp_path / "partly", *UNBLENDED, str(limited))
    assert partly["training_dice"] is None
    unblended = map_scores(tmp_path / "m.ckpt", tmp_path / "unblended", *UNBLENDED)
    assert f"these maps score {unblended['scores']['dice']:.4f}, in tiles side by side." in unblended["verdict"]


def test_a_run_has_the_score_of_its_card(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """A checkpoint is saved before the test; its run's card.json has the score, until it is damaged."""
    folder = write_images(tmp_path / "data", TILED[:1], "uint8", 2)
    config = write_config(**config_sections(folder, 1, "uint8"))
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    network, data = write_checkpoint(run / "checkpoints" / "last.ckpt", config)
    (run / "config.yml").write_text(config.read_text())
    card = model_card(network.config, data.images, {"test/dice": 0.25, "val/dice": 0.5})
    (run / "card.json").write_text(card.dumps())
    assert map_scores(run, tmp_path / "whole")["training_dice"] == 0.25
    (run / "card.json").write_text("{")
    assert map_scores(run, tmp_path / "damaged")["training_dice"] is None

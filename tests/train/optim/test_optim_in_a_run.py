"""Optimisation settings in whole runs: staged unfreezing, weight averages, class weights, augmentation pipelines."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
import yaml

from inference.common.errors import UserError
from tests.conftest import write_dataset
from train.configs.loader import load_config
from train.model import SegmentationModel, SMPSegmentationModel
from train.run.checkpoints import read_checkpoint
from train.run.fit import train
from train.run.folder import RunFolder
from train.transforms import UserAugmentation

NETWORK = {
    "architecture": "Unet",
    "backbone": "tu-mobilenetv3_small_050",
    "opts": {"encoder_weights": None},
    "lr": 5e-3,
}


def run(write_config: Callable[..., Path], network: dict[str, Any], **more: Any) -> RunFolder:
    content = {"max_epoch": 2, "trainer": {"accelerator": "cpu"}} | more
    path = write_config(segmentation_config=NETWORK | network, **content)
    return train(load_config(path).config).folder


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], prefix: str) -> bool:
    names = [name for name in before if name.startswith(prefix)]
    assert names
    return any(not torch.equal(before[name], after[name]) for name in names)


def test_stages_freeze_and_unfreeze(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[dict[str, torch.Tensor]] = []
    start = SegmentationModel.on_train_epoch_start

    def noted(self: SegmentationModel) -> None:
        states.append({k: v.clone() for k, v in self.model.state_dict().items()})
        start(self)

    monkeypatch.setattr(SegmentationModel, "on_train_epoch_start", noted)
    stages = [
        {"epoch": 0, "unfreeze": "decoder", "lr": 1e-2},
        {"epoch": 1, "unfreeze": 2, "lr": 1e-3},
        {"epoch": 2, "unfreeze": "all"},
    ]
    folder = run(write_config, {"finetune": stages}, max_epoch=3)
    states.append({k.removeprefix("model."): v for k, v in last(folder)["state_dict"].items()})
    first, second, third = ((states[i], states[i + 1]) for i in range(3))
    stem, deep, head = "encoder.model.conv_stem", "encoder.model.blocks.4.2", "segmentation_head"
    # Running statistics are included: a frozen norm layer keeps them.
    assert [changed(*first, "encoder."), changed(*first, head)] == [False, True]
    assert [changed(*second, stem), changed(*second, "encoder.model.bn1")] == [False, False]
    assert [changed(*second, deep), changed(*second, head)] == [True, True]
    assert changed(*third, stem)
    rates = [float(row.split(",")[2]) for row in folder.metrics.read_text().splitlines()[1:]]
    assert len(rates) == 3


def read_table(folder: RunFolder) -> list[dict[str, float]]:
    with folder.metrics.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def last(folder: RunFolder) -> dict[str, Any]:
    return read_checkpoint(folder.checkpoints / "last.ckpt")


def test_averaged_weights_are_validated_and_saved(write_config: Callable[..., Path]) -> None:
    folder = run(write_config, {"ema": {"decay": 0.9}})
    content = last(folder)
    assert content["ema"]["updates"] == 6
    raw, kept = content["raw_weights"], content["state_dict"]
    assert any(not torch.equal(raw[name], kept[f"model.{name}"]) for name in raw)
    # The reported scores are those of the averaged weights in the checkpoint.
    best = json.loads(folder.summary.read_text())["best"]["checkpoint"]
    model = SMPSegmentationModel.load_from_checkpoint(folder.path / best, map_location="cpu", weights_only=True).eval()
    from train.datamodule import DataModule
    from train.metrics import PooledConfusion, scores

    data = DataModule(model.config)
    data.prepare()
    pooled = PooledConfusion(1, ignore_index=model.config.ignore_index)
    for batch in data.val_dataloader():
        with torch.no_grad():
            pooled.update_from_logits(model(model.normalize(batch["image"])), batch["label"], threshold=0.5)
    found = scores(pooled.confusion, model.card.class_names, target_only=True)["dice"]
    assert found == pytest.approx(json.loads(folder.summary.read_text())["val"]["dice"], abs=1e-6)


def test_the_mean_of_the_last_epochs_is_saved(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[dict[str, torch.Tensor]] = []

    def noted(self: SegmentationModel) -> None:
        # The average is being validated; the weights of training are stored in its place.
        assert self.average is not None
        raw = self.average.average if self.average.in_place else self.model.state_dict()
        ends.append({k: v.clone() for k, v in raw.items()})
        validated(self)

    validated = SegmentationModel.on_validation_epoch_end
    monkeypatch.setattr(SegmentationModel, "on_validation_epoch_end", noted)
    folder = run(write_config, {"swa": {"start_epoch": 2, "lr": 1e-3}, "lr_scheduler": "cosine"}, max_epoch=5)
    content = last(folder)
    assert content["ema"]["updates"] == 3
    for name, mean in content["state_dict"].items():
        if mean.is_floating_point():
            wanted = torch.stack([state[name.removeprefix("model.")].double() for state in ends[2:5]]).mean(dim=0)
            assert torch.allclose(mean.double(), wanted, rtol=1e-5, atol=1e-7), name
    rates = [row["lr"] for row in read_table(folder)]
    assert rates[3:] == pytest.approx([1e-3, 1e-3])


def test_by_default_the_last_quarter_is_averaged(write_config: Callable[..., Path]) -> None:
    def start(epochs: int, **more: Any) -> int | None:
        path = write_config(segmentation_config=NETWORK | {"swa": {}} | more, max_epoch=epochs)
        swa = load_config(path).config.segmentation_config.swa
        assert swa is not None
        return swa.start_epoch

    assert [start(n) for n in (20, 10, 2)] == [15, 7, 1]
    assert start(20, finetune=[{"epoch": 0, "unfreeze": 1}, {"epoch": 16, "unfreeze": "all"}]) == 19


def test_no_average_before_it_begins(write_config: Callable[..., Path]) -> None:
    folder = run(write_config, {"ema": {"decay": 0.9, "start_epoch": 5}})
    assert last(folder)["ema"]["updates"] == 0
    assert "raw_weights" not in last(folder)


def test_class_weights_come_from_the_labels(
    write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(write_config, {"loss": {"name": "BCELoss", "opts": {"class_weights": "auto"}}}, max_epoch=1)
    written = yaml.safe_load(folder.config.read_text())
    weights = written["segmentation_config"]["loss"]["opts"]["class_weights"]
    import rasterio

    labels = Path(written["data_module"]["data_dir"]) / "train" / "y"
    counts = sum(np.bincount(rasterio.open(path).read(1).ravel(), minlength=2)[:2] for path in labels.iterdir())
    assert weights == pytest.approx([counts.sum() / (2 * n) for n in counts])
    assert "class weights from the train split: background" in capsys.readouterr().err


def test_class_weights_of_a_class_that_does_not_occur(write_config: Callable[..., Path], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", change=lambda image, label: (image, label * 0))
    with pytest.raises(UserError, match="auto found no pixel of target in the train split"):
        run(
            write_config,
            {"loss": {"name": "BCELoss", "opts": {"class_weights": "auto"}}},
            data_module={"data_dir": str(tmp_path / "d"), "num_workers": 0},
        )


def test_channels_last_learns_the_same(write_config: Callable[..., Path]) -> None:
    one = run(write_config, {})
    other = run(write_config, {}, trainer={"accelerator": "cpu", "channels_last": True})
    second = last(other)["state_dict"]
    kernel = next(name for name, value in second.items() if value.ndim == 4 and min(value.shape[1:]) > 1)
    assert second[kernel].is_contiguous(memory_format=torch.channels_last)
    # Adam amplifies gradients near 0, so weights may differ although losses agree.
    losses = [read_table(folder)[0]["train/loss"] for folder in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


# A pipeline of one's own


def pipeline(*transforms: A.BasicTransform) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(A.to_dict(A.Compose(list(transforms)))))
    return found


def test_ones_own_pipeline_and_a_picture_of_it(write_config: Callable[..., Path]) -> None:
    wanted = pipeline(A.HorizontalFlip(p=1), A.Affine(translate_percent=0.2, p=0.5))
    folder = run(
        write_config,
        {},
        data_module={"num_workers": 0, "augmentation": wanted, "preview_augmentations": True},
        max_epoch=1,
    )
    picture = cv2.imread(str(folder.previews / "augmentations.png"))
    assert picture is not None
    assert picture.std() > 10
    assert yaml.safe_load(folder.config.read_text())["data_module"]["augmentation"] == wanted


def test_what_a_pipeline_brings_in_from_outside_is_ignored() -> None:
    """Filled pixels are ignored even with `fill_mask=0`, which would make them background."""
    shift = A.Affine(translate_px={"x": 8, "y": 0}, p=1, fill=200, fill_mask=0)
    augment = UserAugmentation(pipeline(shift), 3, "uint8", ignore_index=2, fill_value=7, size=32)
    image, label = np.full((32, 32, 3), 90, np.uint8), np.ones((32, 32), np.uint8)
    invalid = np.zeros((32, 32), bool)
    invalid[:4] = True
    label[:4] = 2
    made, found = augment(image, label, invalid, 0)
    assert np.unique(found[:, :7]).tolist() == [2]
    assert np.unique(made[:, :7]).tolist() == [7]
    assert np.unique(found[:3, 12:]).tolist() == [2]
    assert np.unique(found[6:, 12:]).tolist() == [1]


@pytest.mark.parametrize(
    ("augmentation", "said"),
    [
        (pipeline(A.RandomCrop(16, 16)), r"into uint8 windows of shape \[16, 16, 3\]"),
        (pipeline(A.Normalize()), "into float32 windows"),
        ({"transform": {"__class_fullname__": "Nonsense", "p": 1}}, "not an Albumentations pipeline"),
        ({"transform": {"__class_fullname__": "os.system", "p": 1}}, "not an Albumentations pipeline"),
        ({}, "not an Albumentations pipeline"),
    ],
)
def test_pipelines_that_do_not_fit(augmentation: dict[str, Any], said: str, write_config: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=said):
        run(write_config, {}, data_module={"num_workers": 0, "augmentation": augmentation})


@pytest.mark.parametrize(
    ("network", "more", "said"),
    [
        ({"finetune": [{"epoch": 1, "unfreeze": "all"}]}, {}, "the first stage begins with epoch 0, found 1"),
        (
            {"finetune": [{"epoch": 0, "unfreeze": "decoder"}, {"epoch": 0, "unfreeze": "all"}]},
            {},
            "is 0, but the stage before begins with 0",
        ),
        ({"finetune": [{"epoch": 0, "unfreeze": 1}, {"epoch": 9, "unfreeze": "all"}]}, {}, "training ends after 2"),
        ({"finetune": [{"epoch": 0, "unfreeze": "encoder"}]}, {}, "unfreeze"),
        ({"finetune": [{"epoch": 0, "unfreeze": 1}], "freeze_encoder": True}, {}, "both say what is trained"),
        ({"finetune": [{"epoch": 0, "unfreeze": 1}]}, {"trainer": {"max_steps": 5}}, "max_steps counts steps"),
        ({"ema": {"decay": 1.0}}, {}, "ema.decay"),
        ({"ema": {"dekay": 0.9}}, {}, "decay"),
        ({"swa": {}, "ema": {}}, {}, "and ema are two averages"),
        ({"swa": {"start_epoch": 2}}, {}, "training ends after 2 epochs"),
        ({"swa": {"start_epoch": 0}}, {}, "learning rate of 2 epochs of training still rises"),
        ({"swa": {"start_epoch": 1}, "warmup_period": 0.6}, {}, "still rises (begin later)"),
        ({"swa": {}}, {"max_epoch": 1}, "still rises"),
        ({"swa": {}}, {"trainer": {"max_steps": 5}}, "max_steps counts steps"),
        ({"swa": {"lr": 0}}, {}, "swa.lr"),
        ({"layer_decay": 0}, {}, "layer_decay"),
        ({"loss": {"name": "DiceLoss", "opts": {"class_weights": "auto"}}}, {}, "is for several classes"),
        ({"loss": {"name": "BCELoss", "opts": {"class_weights": "balanced"}}}, {}, "class_weights"),
    ],
)
def test_recipes_that_make_no_sense(
    network: dict[str, Any], more: dict[str, Any], said: str, write_config: Callable[..., Path]
) -> None:
    with pytest.raises(UserError) as error:
        run(write_config, network, **more)
    assert said in str(error.value)
    assert str(error.value).startswith(str(write_config().parent))

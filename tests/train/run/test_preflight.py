"""What training would refuse is refused before it begins, in the same words by `--check`; nothing is left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.connectors.data_connector import _parse_num_batches
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from train.__main__ import main
from train.configs.loader import load_config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.fit import build_model
from train.run.preflight import check_network, limited_batches

PAN = {"architecture": "PAN", "backbone": "resnet18", "opts": {"encoder_weights": None}}
# The data set has 4 chips of one window and one of two to train on, two for validation, and one of two windows to test.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a share of val": (
        {"trainer": {"accelerator": "cpu", "limit_val_batches": 0.1}},
        "trainer.limit_val_batches: 0.1 of 2 batches is less than one (allowed: 0.5 to 1.0, or a number of batches "
        "such as 1)",
    ),
    "a share of test": (
        {"trainer": {"accelerator": "cpu", "limit_test_batches": 0.9}},
        "trainer.limit_test_batches: 0.9 of 1 batch is less than one (allowed: 1 to 1.0,",
    ),
    "a share of train": (
        {"trainer": {"accelerator": "cpu", "limit_train_batches": 0.3}},
        "trainer.limit_train_batches: 0.3 of 3 batches is less than one (allowed: 0.3334 to 1.0,",
    ),
    "validation after the limited epoch": (
        {"trainer": {"accelerator": "cpu", "limit_train_batches": 2, "val_check_interval": 3}},
        "trainer.val_check_interval: 3 batches is more than an epoch has (6 windows in batches of 2 are 3 batches, of "
        "which limit_train_batches keeps 2; allowed: 1 to 2,",
    ),
    "validation after an epoch of two devices": (
        {"trainer": {"accelerator": "cpu", "devices": 2, "val_check_interval": 3}},
        "(6 windows in batches of 2 are 2 batches on each of 2 devices; allowed: 1 to 2,",
    ),
    "a device of a CPU": (
        {"trainer": {"accelerator": "cpu", "devices": [3]}},
        "trainer.devices: [3] with trainer.accelerator: cpu isn't possible on this machine: ",
    ),
    "stages on two devices": (
        {
            "trainer": {"accelerator": "cpu", "devices": 2},
            "segmentation_config": {
                "architecture": "Unet", "backbone": "tu-mobilenetv3_small_050", "opts": {"encoder_weights": None},
                "finetune": [{"epoch": 0, "unfreeze": "decoder"}, {"epoch": 1, "unfreeze": "all"}],
            },
        },
        "segmentation_config.finetune: with several devices it needs trainer.strategy",
    ),
    "a network for larger windows": (
        {"segmentation_config": PAN},
        "tile_size: PAN on resnet18 can't process 2 windows of 64 px: Given input size",
    ),
    "a network for larger windows, with the batch size left to the machine": (
        {"segmentation_config": PAN, "batch_size": "auto"},
        "tile_size: PAN on resnet18 can't process 2 windows of 64 px: Given input size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("more", [[], ["--check"]])
def test_refused(
    write_config: Callable[..., Path], capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str, more: list[str]
) -> None:
    sections, said = REFUSED[name]
    assert main([str(write_config(**sections)), *more]) == 2
    (line,) = (line for line in capfd.readouterr().err.splitlines()[1:] if not line.startswith("note: "))
    assert said in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "trainer",
    [
        {"limit_val_batches": 0.5, "limit_test_batches": 1.0, "limit_train_batches": 0.4},
        {"limit_val_batches": 0, "limit_test_batches": 0, "val_check_interval": 9, "devices": "auto"},
    ],
)
def test_accepted(write_config: Callable[..., Path], trainer: dict[str, Any]) -> None:
    assert main([str(write_config(trainer=trainer | {"accelerator": "cpu"}, max_epoch=1))]) == 0


def test_limits_are_those_of_lightning() -> None:
    for count in range(1, 12):
        for limit in (0, 1, 3, 20, 0.0, 0.05, 0.1, 0.3, 1 / 3, 0.5, 0.99, 1.0):
            try:
                expected = _parse_num_batches(RunningStage.TRAINING, count, limit)
            except MisconfigurationException:
                expected = 0
            assert limited_batches(count, limit) == expected


@pytest.mark.parametrize(
    "network",
    [
        {"architecture": "Unet", "backbone": "tu-mobilenetv3_small_050", "freeze_encoder": True},
        {"architecture": "DPT", "backbone": "tu-vit_tiny_patch16_224"},
        {"architecture": "Segformer", "backbone": "mit_b0"},
        {"architecture": "PAN", "backbone": "resnet18"},
    ],
)
def test_a_network_is_not_changed(write_config: Callable[..., Path], network: dict[str, Any]) -> None:
    """Neither running statistics nor the random numbers of the run change."""
    config = load_config(
        write_config(tile_size=256, segmentation_config=network | {"opts": {"encoder_weights": None}})
    ).config
    data = DataModule(config)
    data.prepare()
    model = build_model(config, data, pretrained=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check_network(config, model, 2)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_an_operation_without_shapes_only_is_tried_with_numbers(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_config()).config
    data = DataModule(config)
    data.prepare()
    model = build_model(config, data, pretrained=False)
    forward = type(model).forward

    def needs_numbers(self: Any, image: torch.Tensor) -> torch.Tensor:
        assert float(image.sum()) == 0  # fails on the device `meta`
        return forward(self, image)

    monkeypatch.setattr(type(model), "forward", needs_numbers)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_network(config, model, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_test_that_fails_costs_nothing_else(
    write_config: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device", "/tmp/x")

    monkeypatch.setattr(SegmentationModel, "test_step", fail)
    assert main([str(write_config(max_epoch=1))]) == 2
    assert "the disk is full: /tmp/x" in capfd.readouterr().err
    (folder,) = (tmp_path / "runs" / "p").iterdir()
    assert {"card.json", "summary.json", "curves.png", "previews", "metrics.csv"} <= {p.name for p in folder.iterdir()}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_failed"].startswith("the disk is full: /tmp/x")
    assert (summary["test"], "dice" in summary["val"]) == ({}, True)

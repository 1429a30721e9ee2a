"""The learning rate range test."""

import copy
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from train.__main__ import main
from train.configs.loader import load_config
from train.datamodule import DataModule
from train.run.fit import build_model
from train.run.lr_find import range_test, smoothed, suggest

NETWORK: dict[str, Any] = {
    "architecture": "Unet",
    "backbone": "tu-mobilenetv3_small_050",
    "opts": {"encoder_weights": None},
}
RATES = 1e-7 * 10 ** np.linspace(0, 7, 100)


def fall(steepest: float, noise: float = 0.0) -> NDArray[np.float64]:
    """Return a loss that falls as a logistic function of log10(rate), and rises from ten times its middle on."""
    x = np.log10(RATES / steepest)
    loss: NDArray[np.float64] = 0.2 + 0.6 / (1 + np.exp(4 * x)) + 0.3 * np.maximum(0, x - 1) ** 2
    return loss + noise * np.random.default_rng(0).standard_normal(len(RATES))


@pytest.mark.parametrize("middle", [1e-5, 3e-4, 1e-2])
def test_the_steepest_point_of_a_logistic_is_its_middle(middle: float) -> None:
    found = suggest(RATES, fall(middle))
    assert found is not None
    step = np.log10(RATES[1] / RATES[0])
    assert abs(np.log10(found.steepest / middle)) <= step
    assert np.log10(found.end / middle) == pytest.approx(1, abs=0.35)
    noisy = suggest(RATES, fall(middle, noise=0.03))
    assert noisy is not None
    assert abs(np.log10(noisy.steepest / middle)) < 0.4


def test_the_fall_ends_at_the_first_rise_not_at_a_lower_place_far_behind() -> None:
    def rise(middle: float, slope: float) -> NDArray[np.float64]:
        done: NDArray[np.float64] = 1 / (1 + np.exp(-slope * (np.log10(RATES / 1e-4) - middle)))
        return done

    losses = 0.8 - 0.5 * rise(0, 6) + 0.15 * rise(1.5, 6) - 0.25 * rise(3, 3)
    assert RATES[np.argmin(losses)] > 0.1
    found = suggest(RATES, losses)
    assert found is not None
    assert abs(np.log10(found.steepest / 1e-4)) < 0.1
    assert 0.5 < np.log10(found.end / 1e-4) < 1.3


@pytest.mark.parametrize("scale", [1e-3, 0.1])
def test_a_loss_that_only_scatters_suggests_nothing(scale: float) -> None:
    for seed in range(10):
        losses = 0.5 + scale * np.random.default_rng(seed).standard_normal(100)
        assert suggest(RATES, losses) is None
    assert suggest(RATES, np.linspace(0.5, 0.9, 100)) is None
    assert suggest(RATES[:5], np.linspace(0.9, 0.5, 5)) is None


def test_smoothing_keeps_a_straight_line_straight() -> None:
    line = np.linspace(0, 1, 100)
    assert smoothed(line)[20:80] == pytest.approx(line[20:80], abs=1e-6)
    assert smoothed(np.full(7, 0.3)) == pytest.approx(0.3)


def test_rates_rise_in_all_groups_and_what_is_frozen_stays(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, closure: Any = None) -> Any:
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    stages = [{"epoch": 0, "unfreeze": 2}, {"epoch": 1, "unfreeze": "all"}]
    trainer = {"accelerator": "cpu", "accumulate_grad_batches": 2}
    path = write_config(
        segmentation_config=NETWORK | {"layer_decay": 0.5, "finetune": stages}, trainer=trainer, max_epoch=2
    )
    config = load_config(path).config
    data = DataModule(config)
    data.prepare()
    model = build_model(config, data, pretrained=False)
    before = copy.deepcopy(model.model.state_dict())
    rates, losses = range_test(config, data, model, 8)
    after = model.model.state_dict()
    assert len(rates) == len(losses) == len(seen) == 8
    assert rates == pytest.approx(1e-7 * 10 ** np.linspace(0, 7, 8))
    assert [groups[0] for groups in seen] == pytest.approx(rates)
    for groups in seen:
        assert min(groups) / groups[0] == pytest.approx(min(seen[0]) / seen[0][0])
    assert min(seen[0]) < 0.1 * seen[0][0]
    stem = [name for name in before if name.startswith("encoder.model.conv_stem")]
    assert all(torch.equal(before[name], after[name]) for name in stem)
    assert not torch.equal(before["segmentation_head.0.weight"], after["segmentation_head.0.weight"])


def test_the_command(write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(segmentation_config=NETWORK | {"lr": 1e-3}, trainer={"accelerator": "cpu"})
    folder = tmp_path / "found"
    arguments = [str(path), "--lr-find", f"logging.save_dir={folder}", "trainer.max_steps=12"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    (picture,) = folder.rglob("*.png")
    (table,) = folder.rglob("*.csv")
    assert str(picture) in out
    assert "learning rates  1.0e-07 to" in out
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.std() > 5
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert float(rows[-1]["lr"]) == 1.0
    assert all(0 < float(row["loss"]) < 10 for row in rows)
    assert sorted(folder.rglob("*")) == sorted([picture.parent, picture, table])  # no run, no checkpoint


def test_what_does_not_go_together(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--resume", str(tmp_path), "--lr-find"]) == 2
    assert "--resume: can't be used together with --lr-find" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["a.yml", "--check", "--lr-find"])
    assert left.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    path = write_config(segmentation_config=NETWORK, trainer={"accelerator": "cpu"})
    assert main([str(path), "--lr-find", f"logging.save_dir={tmp_path / 'file'}"]) == 2
    assert "can't be written to" in capsys.readouterr().err

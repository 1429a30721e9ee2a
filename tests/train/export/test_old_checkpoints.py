"""Conversion of the earlier tool's checkpoints: no card, no config, and a compiler's prefix in the names."""

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.model.card_files import read_card
from train.convert_checkpoint import main
from train.export.trained_model import load_trained_model
from train.model import SMPSegmentationModel

from .conversions import best, config_of, old_checkpoint, refused, save


def test_an_old_checkpoint_works_with_its_yaml(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    config = run.parents[2] / "c.yml"
    arguments = [str(old), str(config), "--score", "0.75", "--formats", "torchscript", "--output_dir", str(tmp_path)]
    assert main(arguments) == 0
    assert "has no model card; the card is made from" in capsys.readouterr().err
    path = tmp_path / "small_kelp_jit_dice=0.7500.pt"
    x = torch.rand(1, 3, 64, 64)
    model = SMPSegmentationModel.load_from_checkpoint(best(run), map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(torch.jit.load(path)(x), model(x).sigmoid())
    # The same weights have the same hash, whatever they came in.
    assert read_card(path).revision[9:] == revision_of(run)  # type: ignore[index]


def revision_of(run: Path) -> str:
    from train.export.trained_model import weights_revision

    return weights_revision("2026-01-01", load_trained_model(best(run), None).model.state_dict())[9:]


def test_an_old_checkpoint_alone_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    assert "contains no config (give the YAML" in refused(capsys, tmp_path, old)
    said = refused(capsys, tmp_path, old, run.parents[2] / "c.yml")
    assert "has no score" in said
    assert "--score" in said


def test_another_network_is_refused_in_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    other = save(tmp_path / "o.yml", config_of(tmp_path, segmentation_config__architecture="FPN"))
    (line,) = refused(capsys, tmp_path, old, other, "--score", "0.5").splitlines()
    assert "not the weights of FPN with tu-mobilenetv3_small_050: " in line
    assert "weights are missing, first model." in line
    assert "are unexpected, first model.decoder" in line


def test_another_shape_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def widen(state: dict[str, Any]) -> None:
        name = "model._orig_mod.segmentation_head.0.bias"
        state[name] = torch.zeros(7)

    old = old_checkpoint(run, tmp_path / "old.ckpt", widen)
    (line,) = refused(capsys, tmp_path, old, run.parents[2] / "c.yml", "--score", "0.5").splitlines()
    assert "model.segmentation_head.0.bias has shape [7], [1] was expected" in line

"""Conversion of the earlier tool's checkpoints: no card, no config, and a compiler's prefix in the names."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict

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


def test_an_old_checkpoint_gets_the_normalisation_of_the_tool_that_wrote_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was ImageNet's for every network. Numbers of a YAML that is made for this tool are no answer."""
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    half = {"data_module__mean": [0.5, 0.5, 0.5], "data_module__std": [0.5, 0.5, 0.5]}
    config = save(tmp_path / "half.yml", config_of(run.parents[2], **half))
    lines = refused(capsys, tmp_path, old, config, "--score", "0.5").splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == ["data_module.mean", "data_module.std"]
    assert "is [0.5,0.5,0.5], but" in lines[0]
    assert "normalised all images with [0.485,0.456,0.406]" in lines[0]

    def card_of(*overrides: str) -> Any:
        folder = tmp_path / str(len(overrides))
        arguments = [str(old), str(config), *overrides, "--score", "0.5", "--formats", "torchscript"]
        assert main([*arguments, "--output_dir", str(folder)]) == 0
        (path,) = folder.glob("*.pt")
        return read_card(path)

    plain = save(tmp_path / "plain.yml", config_of(run.parents[2]))
    earlier = ["data_module.mean=[0.485,0.456,0.406]", "data_module.std=[0.229,0.224,0.225]"]
    own = ["data_module.mean=[0.5,0.5,0.5]", "data_module.std=[0.5,0.5,0.5]", "data_module.max_pixel_value=100"]
    for card, mean, std, largest in (
        (card_of(*earlier), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 255),
        (card_of(*own), [0.5] * 3, [0.5] * 3, 100),
    ):
        assert (card.mean, card.std, card.max_pixel_value) == (mean, std, largest)
    config = plain
    card = card_of()
    assert (card.mean, card.std, card.max_pixel_value) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 255)
    assert "mean 0.485, 0.456, 0.406" in capsys.readouterr().err


def test_the_earlier_aerialformer_was_another_network(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    changes = {"segmentation_model_cls": "AerialFormer", "segmentation_config": {"architecture": "AerialFormer-T"}}
    config = save(tmp_path / "af.yml", config_of(run.parents[2]) | changes)
    (line,) = refused(capsys, tmp_path, old, config, "--score", "0.5").splitlines()
    assert "used the name AerialFormer for another network" in line
    assert "give the YAML" not in line


@pytest.mark.parametrize(
    "shape",
    [
        lambda weights: weights,
        lambda weights: {"model_state_dict": weights},
        lambda weights: {"model": weights, "epoch": 3},
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
        lambda weights: {"state_dict": {f"model.module.{name}": value for name, value in weights.items()}},
    ],
    ids=["state dict", "model_state_dict", "model", "module.", "model.module."],
)
def test_weights_of_other_tools(run: Path, tmp_path: Path, shape: Any) -> None:
    """What `torch.save(model.state_dict())` and wrappers write; the normalisation is that of the config."""
    weights = torch.load(best(run), weights_only=True)["state_dict"]
    file = tmp_path / "weights.pth"
    torch.save(shape({name.removeprefix("model."): value for name, value in weights.items()}), file)
    config = save(tmp_path / "c.yml", config_of(run.parents[2]))
    arguments = [str(file), str(config), "--score", "0.75", "--formats", "torchscript", "--output_dir", str(tmp_path)]
    assert main(arguments) == 0
    path = tmp_path / "small_kelp_jit_dice=0.7500.pt"
    x = torch.rand(1, 3, 64, 64)
    model = SMPSegmentationModel.load_from_checkpoint(best(run), map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(torch.jit.load(path)(x), model(x).sigmoid())
    found = read_card(path)
    assert found.scores["val/dice"] == 0.75


def test_weights_of_other_tools_are_normalised_as_the_config_says(run: Path, tmp_path: Path) -> None:
    weights = torch.load(best(run), weights_only=True)["state_dict"]
    file = tmp_path / "weights.pth"
    torch.save(weights, file)
    half = {"data_module__mean": [0.5, 0.5, 0.5], "data_module__std": [0.5, 0.5, 0.5]}
    config = save(tmp_path / "c.yml", config_of(run.parents[2], **half))
    arguments = [str(file), str(config), "--score", "0.75", "--formats", "torchscript", "--output_dir", str(tmp_path)]
    assert main(arguments) == 0
    assert read_card(tmp_path / "small_kelp_jit_dice=0.7500.pt").mean == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "pickled", [b"\x80\x02K\x01K\x02s.", b"\x80\x02]K\x01u.", b"\x80\x02}K\x01o.", b"\x80\x02q\x00."]
)
def test_damaged_pickles(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pickled: bytes) -> None:
    """Their first wrong instruction raises whatever it meets: IndexError, TypeError, AttributeError ..."""
    file = tmp_path / "damaged.ckpt"
    with zipfile.ZipFile(best(run)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            content = pickled if entry.filename.endswith("data.pkl") else source.read(entry)
            target.writestr(entry.filename, content)
    (line,) = refused(capsys, tmp_path, file, run.parents[2] / "c.yml").splitlines()
    assert line.startswith(str(file))
    assert "weights_only" not in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": {}}, "its state_dict holds no weights"),
        ({"state_dict": {1: 2}}, "its state_dict holds no weights"),
        ({"epoch": 3}, "it has no state_dict, nor weights alone or under model_state_dict or model"),
        ([1], "it has no state_dict, nor"),
    ],
)
def test_files_without_weights(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    torch.save(content, tmp_path / "a.pth")
    (line,) = refused(capsys, tmp_path, tmp_path / "a.pth", run.parents[2] / "c.yml", "--score", "0.5").splitlines()
    assert said in line


@pytest.mark.parametrize("beside", [False, True], ids=["ema.*", "ema_state_dict"])
def test_of_several_sets_of_weights_the_user_chooses(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], beside: bool
) -> None:
    weights = {
        name.removeprefix("model."): value
        for name, value in torch.load(best(run), weights_only=True)["state_dict"].items()
    }
    average = {name: value * 2 if name.startswith("segmentation_head") else value for name, value in weights.items()}
    file = tmp_path / "weights.pth"
    if beside:
        name = "ema_state_dict"
        torch.save({"model_state_dict": weights, name: average}, file)
    else:
        name = "ema"
        torch.save({"state_dict": weights | {f"ema.module.{key}": value for key, value in average.items()}}, file)
    config = save(tmp_path / "c.yml", config_of(run.parents[2]))
    arguments = [str(file), str(config), "--score", "0.75"]
    (line,) = refused(capsys, tmp_path, *arguments).splitlines()
    assert f"(convert it with --weights model or --weights {name})" in line
    (line,) = refused(capsys, tmp_path, *arguments, "--weights", "swa").splitlines()
    assert line.startswith("--weights: ")
    x = torch.rand(1, 3, 64, 64)
    model = SMPSegmentationModel.load_from_checkpoint(best(run), map_location="cpu", weights_only=True).eval()
    for chosen, factor in (("model", 1), (name, 2)):
        folder = tmp_path / chosen
        more = ["--weights", chosen, "--formats", "torchscript", "--output_dir", str(folder)]
        assert main([*arguments, *more]) == 0
        with torch.no_grad():
            expected = (model(x) * factor).sigmoid()
            assert torch.allclose(torch.jit.load(folder / "small_kelp_jit_dice=0.7500.pt")(x), expected, atol=1e-6)


def test_an_old_checkpoint_with_containers_of_lightning_1_is_read(run: Path, tmp_path: Path) -> None:
    old = torch.load(old_checkpoint(run, tmp_path / "old.ckpt"), weights_only=True)
    old["hyper_parameters"] = AttributeDict(lr=1e-3, namespace=argparse.Namespace(a=1))
    old["callbacks"] = {"ModelCheckpoint": {"best_model_score": np.float64(0.5), "dirpath": Path("/home/a/b")}}
    torch.save(old, tmp_path / "old.ckpt")
    arguments = [str(tmp_path / "old.ckpt"), str(run.parents[2] / "c.yml"), "--score", "0.75"]
    assert main([*arguments, "--formats", "torchscript", "--output_dir", str(tmp_path)]) == 0

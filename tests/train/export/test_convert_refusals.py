"""Inputs that the converter refuses: configs, files, folders and arguments."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.model.card_files import read_card
from train.convert_checkpoint import main

from .conversions import best, config_of, refused, save

# A config must agree with the checkpoint.


@pytest.mark.parametrize(
    ("changes", "key", "both"),
    [
        ({"segmentation_config__backbone": "resnet18"}, "segmentation_config.backbone", ("resnet18", "mobilenetv3")),
        ({"segmentation_config__architecture": "FPN"}, "segmentation_config.architecture", ("FPN", "Unet")),
        ({"num_bands": 4, "data_module__mean": [0.1] * 4, "data_module__std": [1.0] * 4}, "num_bands", ("4", "3")),
        (
            {"data_module__mean": [0.1, 0.2, 0.3], "data_module__std": [0.229, 0.224, 0.225]},
            "data_module.mean",
            ("[0.1, 0.2, 0.3]", "[0.485, 0.456, 0.406]"),
        ),
        ({"data_module__max_pixel_value": 1000}, "data_module.max_pixel_value", ("1000", "255")),
        ({"data_module__bands": [3, 2, 1]}, "data_module.bands", ("[3, 2, 1]", "[1, 2, 3]")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_config_that_contradicts_the_checkpoint_shows_both(
    changes: dict[str, Any],
    key: str,
    both: tuple[str, str],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = save(tmp_path / "c.yml", config_of(run.parents[2], **changes))
    said = refused(capsys, tmp_path, run, config)
    (line,) = [line for line in said.splitlines() if f": {key}: is " in line]
    assert line.startswith(f"{config}:")
    assert all(value in line for value in both)


def test_what_changes_neither_network_nor_normalisation_may_differ(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"tile_size": 96, "max_epoch": 50, "segmentation_config__lr": 1e-4, "batch_size": 1}
    config = save(tmp_path / "c.yml", config_of(run.parents[2], **changes))
    assert main([str(run), config, "--formats", "torchscript", "--output_dir", str(tmp_path / "o")]) == 0
    assert "tile_size is 96, the model was trained with 64; 64 is used" in capsys.readouterr().err
    (path,) = (tmp_path / "o").iterdir()
    assert read_card(path).tile_size == 64


# Files that are no checkpoints.


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["pickle", "torch", "html", "truncated", "empty", "json"])
def test_what_is_no_checkpoint_is_refused_and_not_run(
    kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.ckpt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": _Bomb()}))
    elif kind == "torch":
        torch.save({"state_dict": _Bomb()}, path)
    elif kind == "html":
        path.write_text("<!DOCTYPE html><title>404</title>")
    elif kind == "truncated":
        path.write_bytes(best(run).read_bytes()[:20_000])
    elif kind == "empty":
        path.touch()
    else:
        path.write_text("{}")
    (line,) = refused(capsys, tmp_path, path, run.parents[2] / "c.yml", "--score", "0.5").splitlines()
    assert line.startswith(f"{path}: ")
    assert not (tmp_path / "exploded").exists()


def test_folders_that_are_no_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a run folder" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "config.yml").touch()
    assert "last.ckpt: no such file; the run kept none" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "summary.json").write_text('{"best": {"checkpoint": "../../x.ckpt"}}')
    assert "which isn't inside" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "summary.json").write_text("{")
    assert "is damaged" in refused(capsys, tmp_path, tmp_path)
    assert "no such file" in refused(capsys, tmp_path, tmp_path / "no.ckpt")
    assert "neither a file nor an artifact's name" in refused(capsys, tmp_path, "what is this")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model_name", "../../evil"], "--model_name: '../../evil' can't be part of a file name"),
        (["--task", "a/b"], "--task: 'a/b' can't be part of a file name"),
        (["--task", "a:b"], "--task: 'a:b' can't be part of a file name"),
        (["--model_name", ""], "--model_name: '' can't be part of a file name"),
        (["--score", "91"], "--score: 91.0 is not a Dice score (allowed: 0 to 1)"),
        (["--score", "nan"], "score"),
        (["--formats", "onnx,pt2"], "--formats: found pt2 (allowed: onnx, torchscript"),
        (["--formats", ","], "--formats: found nothing"),
        (["--revision", "v2"], "--revision: v2 is not a revision (allowed: YYYYMMDD"),
        (["--device", "tpu9"], "--device: tpu9 is not available on this machine"),
        (["tile_size=3"], "tile_size=3: overrides a config, but none was given"),
        (["no.yml"], "no.yml: no such file"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, tmp_path, run, *arguments)


def test_a_folder_that_cannot_be_written_to(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(run), "--output_dir", str(tmp_path / "file")]) == 2
    assert "can't be written to" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".onnx", ".json"])
@pytest.mark.parametrize("kind", ["device", "read-only", "checkpoint"])
def test_files_that_must_stay(
    kind: str, suffix: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / f"n_t_dice=0.5000{suffix}"
    source = tmp_path / "best.ckpt"
    source.write_bytes(best(run).read_bytes())
    if kind == "device":
        try:
            os.mknod(target, 0o600 | 0o020000, os.makedev(1, 3))
        except (AttributeError, OSError) as error:
            pytest.skip(f"devices can't be made here: {error}")
        said = "is a device and can't be replaced (choose another --output_dir)"
    elif kind == "read-only":
        target.touch()
        target.chmod(0o444)
        said = "is read-only (allow writing with chmod u+w, or choose another --output_dir)"
    else:
        target.hardlink_to(source)
        said = "is the checkpoint itself (choose another --output_dir)"
    before = target.stat()
    options = ["--output_dir", str(tmp_path), "--model_name", "n", "--task", "t", "--score", "0.5"]
    assert main([str(source), *options]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"{target}: {said}"
    assert (target.stat().st_ino, target.stat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, target.name])

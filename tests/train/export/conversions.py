"""Parts that the tests of the converter share: a config, the paths of a run, and how a refusal is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from train.convert_checkpoint import main

ROOT = Path(__file__).parents[3]


def config_of(folder: Path, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "tile_size": 64,
        "batch_size": 4,
        "max_epoch": 3,
        "segmentation_config": {
            "architecture": "Unet",
            "backbone": "tu-mobilenetv3_small_050",
            "opts": {"encoder_weights": None},
            "lr": 5e-3,
        },
        "data_module": {"data_dir": str(folder / "data"), "num_workers": 0, "class_names": ["sea", "kelp"]},
        "trainer": {"accelerator": "cpu"},
        "logging": {"save_dir": str(folder / "runs"), "project": "kelp", "name": "small"},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content[section][name] = value
        else:
            content[section] = value
    return content


def save(path: Path, content: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def best(run: Path) -> Path:
    return run / str(json.loads((run / "summary.json").read_text())["best"]["checkpoint"])


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object, code: int = 2) -> str:
    """What the command says when it refuses; nothing may be left in the folder."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--output_dir", str(folder / "out")]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert not (folder / "out").exists() or list((folder / "out").iterdir()) == []
    said = [line for line in shown.err.splitlines() if not line.startswith(("loading", "checkpoint ", "notice:"))]
    assert "Traceback" not in shown.err
    return "\n".join(said)


def old_checkpoint(run: Path, path: Path, change: Callable[[dict[str, Any]], None] = lambda state: None) -> Path:
    state = torch.load(best(run), weights_only=True)["state_dict"]
    state = {name.replace("model.", "model._orig_mod.", 1): value for name, value in state.items()}
    change(state)
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {}}, path)
    return path

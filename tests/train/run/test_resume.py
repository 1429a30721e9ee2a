"""A run that is interrupted and resumed ends with the weights of an uninterrupted one, bit for bit on the CPU."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from train.__main__ import main
from train.configs.loader import load_config
from train.model import SegmentationModel
from train.run import trainer
from train.run.checkpoints import read_checkpoint
from train.run.fit import train
from train.run.folder import RunFolder, existing_run
from train.run.interrupt import Interrupted

# Dropout makes the step's randomness count; accumulation puts optimiser steps between batches.
SETTINGS: dict[str, Any] = {
    "segmentation_config": {
        "architecture": "DeepLabV3Plus",
        "backbone": "tu-mobilenetv3_small_050",
        "opts": {"encoder_weights": None, "decoder_channels": 16},
        "lr": 5e-3,
    },
    "max_epoch": 3,
}


def run(path: Path, *overrides: str) -> RunFolder:
    return train(load_config(path, overrides).config).folder


def stop_at(
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    batch: int,
    number: signal.Signals = signal.SIGINT,
    name: str = "training_step",
) -> list[int]:
    """Send a signal while this batch is being computed; the list returned gets the batches of that epoch."""
    step = getattr(SegmentationModel, name)
    computed: list[int] = []

    def signalled(self: SegmentationModel, content: Any, batch_idx: int) -> Any:
        if self.current_epoch == epoch:
            computed.append(batch_idx)
            if batch_idx == batch and not computed[:-1].count(batch):
                os.kill(os.getpid(), number)
        return step(self, content, batch_idx)

    monkeypatch.setattr(SegmentationModel, name, signalled)
    return computed


def resume(folder: Path, *overrides: str) -> RunFolder:
    config = load_config(folder / "config.yml", overrides).config
    return train(config, resume=existing_run(folder)).folder


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(folder.checkpoints / "last.ckpt")["state_dict"]
    return state


def table(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open() as file:
        return list(csv.DictReader(file))


def assert_same(one: RunFolder, other: RunFolder) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [k for k in first if not torch.equal(first[k], second[k])] == []
    assert table(one) == table(other)


@pytest.mark.parametrize(
    ("epoch", "batch", "workers", "accumulate"),
    [
        (0, 1, 0, 1),  # inside the first epoch
        (1, 0, 2, 1),  # inside a later one, with workers that read ahead
        (1, 2, 0, 1),  # the last batch: the epoch is finished first
        (1, 2, 2, 1),
        (1, 0, 0, 2),  # between two optimiser steps
        (0, 0, 2, 3),
    ],
)
def test_ctrl_c(
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    batch: int,
    workers: int,
    accumulate: int,
) -> None:
    path = write_config(**SETTINGS, trainer={"accumulate_grad_batches": accumulate, "accelerator": "cpu"})
    more = [f"data_module.num_workers={workers}"]
    uninterrupted = run(path, *more)
    assert len(table(uninterrupted)) == 3
    with monkeypatch.context() as patch:
        stop_at(patch, epoch, batch)
        with pytest.raises(Interrupted) as stopped:
            run(path, *more)
    folder = Path(stopped.value.args[0])
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["epoch"] == epoch
    assert_same(resume(folder), uninterrupted)


@pytest.mark.parametrize(
    ("number", "name", "batch", "extra"),
    [
        (signal.SIGTERM, "validation_step", 0, {}),
        # Between two batches after which validation is due; and with averaged weights, which are validated.
        (signal.SIGUSR1, "training_step", 0, {"trainer": {"val_check_interval": 1, "accelerator": "cpu"}}),
        (
            signal.SIGINT,
            "validation_step",
            0,
            {
                "trainer": {"val_check_interval": 2, "accelerator": "cpu"},
                "segmentation_config": SETTINGS["segmentation_config"] | {"ema": {"decay": 0.9, "start_epoch": 0}},
            },
        ),
    ],
)
def test_stop_signals_in_training_and_validation(
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    name: str,
    batch: int,
    extra: dict[str, Any],
) -> None:
    """Through the command: exit code, the line that says how to resume, and the weights of an unbroken run."""
    path = write_config(**(SETTINGS | {"max_epoch": 2} | extra))
    uninterrupted = run(path)
    capsys.readouterr()
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        computed = stop_at(patch, 1, batch, number, name)
        assert main([str(path)]) == (130 if number == signal.SIGINT else 143)
    assert signal.getsignal(number) is handler
    if name == "validation_step":
        assert computed == [batch], "validation stops after the batch"
    *_, stopping, last = capsys.readouterr().err.strip().splitlines()
    assert stopping.endswith("stopping after this step (press Ctrl-C again to stop at once, without saving)")
    assert stopping.startswith("stopping" if number == signal.SIGINT else f"{number.name}: ")
    said, _, folder = last.rpartition(" ")
    assert said == "stopped; resume with: python -m train --resume"
    assert_same(resume(Path(folder)), uninterrupted)


def test_stopped_before_the_first_step_nothing_is_left(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(**SETTINGS)
    monkeypatch.setattr("lightning.pytorch.Trainer.fit", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main([str(path)]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted (SIGTERM)"
    assert list(path.parent.joinpath("runs", "p").iterdir()) == []


def test_stopped_in_the_test_stage(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(**SETTINGS)
    with monkeypatch.context() as patch:
        stop_at(patch, SETTINGS["max_epoch"], 0, signal.SIGTERM, "test_step")
        assert main([str(path)]) == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stopped; resume with: python -m train --resume ")
    assert main(["--resume", said.split()[-1]]) == 0


def test_from_a_checkpoint_within_an_epoch(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation within an epoch saves a checkpoint; a run that crashes later resumes from it."""
    path = write_config(**SETTINGS, trainer={"val_check_interval": 1, "accelerator": "cpu"})
    uninterrupted = run(path)

    def die(self: SegmentationModel, content: Any, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 2):
            raise RuntimeError("power cut")
        return step(self, content, batch_idx)

    step = SegmentationModel.training_step
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModel, "training_step", die)
        with pytest.raises(RuntimeError, match="power cut"):
            run(path)
    folder = next(p for p in path.parent.joinpath("runs", "p").iterdir() if p != uninterrupted.path)
    assert_same(resume(folder), uninterrupted)


def test_after_kill(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """`kill -9` between two checkpoints loses only the steps since the last one."""
    path = write_config(**SETTINGS)
    uninterrupted = run(path)
    killed = tmp_path / "killed"
    script = (
        "import os, signal, sys\n"
        "from train.model import SegmentationModel\n"
        "step = SegmentationModel.training_step\n"
        "def dying(self, batch, batch_idx):\n"
        "    if (self.current_epoch, batch_idx) == (2, 1): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch, batch_idx)\n"
        "SegmentationModel.training_step = dying\n"
        "from train.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), f"logging.save_dir={killed}"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL
    (folder,) = (killed / "p").iterdir()
    (folder / "checkpoints" / "last.ckpt.1.writing").write_bytes(b"half")  # what a kill while saving leaves
    assert_same(resume(folder), uninterrupted)
    assert sorted(p.suffix for p in (folder / "checkpoints").iterdir()) == [".ckpt", ".ckpt"]


def test_prolonged(write_config: Callable[..., Path]) -> None:
    folder = run(write_config(**SETTINGS), "max_epoch=1")
    longer = resume(folder.path, "trainer.max_epochs=2")
    assert [float(row["epoch"]) for row in table(longer)] == [1, 2]


def test_in_mixed_precision_with_clipped_gradients(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "native_precision", lambda *_: ("bf16-mixed", None))  # emulated where need be
    path = write_config(**SETTINGS, trainer={"accelerator": "cpu", "gradient_clip_val": 0.1})
    uninterrupted = run(path)
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 1)
        with pytest.raises(Interrupted) as stopped:
            run(path)
    resumed = resume(Path(stopped.value.args[0]))
    assert_same(resumed, uninterrupted)
    checkpoint = read_checkpoint(resumed.checkpoints / "last.ckpt")
    assert all(group["fused"] for group in checkpoint["optimizer_states"][0]["param_groups"])


@pytest.mark.parametrize(
    ("epoch", "batch", "average"),
    [
        (1, 1, {"ema": {"decay": 0.9, "start_epoch": 1}}),
        (0, 1, {"ema": {"decay": 0.9, "start_epoch": 1}}),
        (1, 2, {"ema": {"decay": 0.9, "start_epoch": 1}}),
        (2, 1, {"swa": {"start_epoch": 2, "lr": 1e-3}}),
        (3, 1, {"swa": {"start_epoch": 2}}),
    ],
)
def test_with_every_recipe_that_keeps_a_state(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int, average: dict[str, Any]
) -> None:
    """Averaged weights, stages and layer-wise learning rates continue exactly."""
    recipes = {
        "layer_decay": 0.8,
        "gradient_checkpointing": True,
        "finetune": [{"epoch": 0, "unfreeze": "decoder", "lr": 1e-2}, {"epoch": 1, "unfreeze": 3}],
    }
    settings = SETTINGS | {"segmentation_config": SETTINGS["segmentation_config"] | recipes | average}
    settings |= {"max_epoch": 4 if "swa" in average else SETTINGS["max_epoch"]}
    path = write_config(**settings, trainer={"accelerator": "cpu"})
    uninterrupted = run(path)
    with monkeypatch.context() as patch:
        stop_at(patch, epoch, batch)
        with pytest.raises(Interrupted) as stopped:
            run(path)
    resumed = resume(Path(stopped.value.args[0]))
    assert_same(resumed, uninterrupted)
    for name in ("ema", "raw_weights"):
        one, other = (read_checkpoint(f.checkpoints / "last.ckpt")[name] for f in (resumed, uninterrupted))
        assert one.keys() == other.keys()
        assert all(bool((one[k] == other[k]).all()) if name == "raw_weights" else one[k] == other[k] for k in one)

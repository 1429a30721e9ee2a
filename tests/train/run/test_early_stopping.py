"""Runs that stop early, and what --resume makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from train.__main__ import main
from train.run.checkpoints import read_checkpoint
from train.run.folder import RunFolder
from train.run.metrics_table import read_rows

# Nothing can improve by more than a Dice of 1, so that the second validation without an improvement stops the run.
STOPPING: dict[str, Any] = {"max_epoch": 9, "early_stopping": {"patience": 2, "min_delta": 1.0}}


@pytest.fixture(params=["val/dice", "train/loss"])
def stopped(request: pytest.FixtureRequest, write_config: Callable[..., Path], tmp_path: Path) -> RunFolder:
    """A run that stopped early, after its third epoch."""
    stopping = STOPPING["early_stopping"] | {"monitor": request.param, "min_delta": 9.0}
    assert main([str(write_config(**(STOPPING | {"early_stopping": stopping})))]) == 0
    (folder,) = (tmp_path / "runs" / "p").iterdir()
    run = RunFolder(folder)
    assert [row["epoch"] for row in read_rows(run.metrics)] == [1, 2, 3]
    return run


def state(run: RunFolder) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(run.checkpoints / "last.ckpt")["state_dict"]
    return weights


def test_a_resumed_one_is_finished(stopped: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    before, table = state(stopped), stopped.metrics.read_text()
    summary = json.loads(stopped.summary.read_text())
    stopped.summary.unlink()
    assert main(["--resume", str(stopped.path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    (said,) = [line for line in lines if "stopped early" in line]
    assert said.startswith("note: this run had stopped early: ")
    assert said.endswith(
        "(early_stopping.patience: 2); nothing is left to train (to go on, raise trainer.max_epochs or add --force)"
    )
    assert not [line for line in lines if line.startswith("epoch")]
    assert stopped.metrics.read_text() == table
    after = state(stopped)
    assert [k for k in before if not torch.equal(before[k], after[k])] == []
    again = json.loads(stopped.summary.read_text())
    assert (again["best"], again["test"]) == (summary["best"], summary["test"])
    assert again["val"] == pytest.approx(summary["val"], rel=1e-5)  # as the table has them


@pytest.mark.parametrize("more", ["trainer.max_epochs=12", "--force"])
def test_a_resumed_one_goes_on_when_asked(stopped: RunFolder, capsys: pytest.CaptureFixture[str], more: str) -> None:
    capsys.readouterr()
    assert main(["--resume", str(stopped.path), more]) == 0
    lines = capsys.readouterr().err.splitlines()
    first, second = [line for line in lines if "stopped early" in line]
    assert first.endswith("; it goes on until that happens again")
    assert second.startswith("stopped early: ")
    assert [row["epoch"] for row in read_rows(stopped.metrics)] == [1, 2, 3, 4, 5]


def test_the_patience_is_that_of_the_config(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write_config(**STOPPING))]) == 0
    (folder,) = (tmp_path / "runs" / "p").iterdir()
    assert main(["--resume", str(folder), "early_stopping.patience=4", "--force"]) == 0
    assert [row["epoch"] for row in read_rows(folder / "metrics.csv")] == [1, 2, 3, 4, 5]


def test_killed_after_the_decision_it_ends_like_an_unbroken_one(
    write_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the last validation is written before the epoch ends, and its row of the table."""
    path = write_config(**STOPPING)
    assert main([str(path)]) == 0
    (unbroken,) = map(RunFolder, (tmp_path / "runs" / "p").iterdir())

    def die(self: Any, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")
        original(self, trainer, *_)

    from train.run.metrics_table import MetricsTable

    original = MetricsTable.on_train_epoch_end
    with monkeypatch.context() as patch:
        patch.setattr(MetricsTable, "on_train_epoch_end", die)
        with pytest.raises(RuntimeError, match="power cut"):
            main([str(path)])
    (broken,) = (RunFolder(p) for p in (tmp_path / "runs" / "p").iterdir() if p != unbroken.path)
    assert main(["--resume", str(broken.path)]) == 0
    assert broken.metrics.read_text() == unbroken.metrics.read_text()
    one, other = state(unbroken), state(broken)
    assert [k for k in one if not torch.equal(one[k], other[k])] == []

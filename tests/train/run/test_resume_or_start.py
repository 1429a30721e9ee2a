"""`--resume-or-start RUN_DIR`: one command that starts a run, resumes it, and says that it is finished."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import tiny_config
from tests.train.run.test_resume import assert_same, run, stop_at, table
from train.__main__ import main
from train.run.checkpoints import read_checkpoint
from train.run.folder import CONFIG_HEADER, RunFolder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of a run folder that doesn't exist."""
    return tmp_path / "jobs" / "night"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> tuple[Path, Path]:
    """Config and folder of a finished run of one epoch."""
    place = tmp_path_factory.mktemp("finished")
    config = tiny_config(dataset, place / "runs")
    (place / "c.yml").write_text(yaml.safe_dump(config))
    assert main([str(place / "c.yml"), "--resume-or-start", str(place / "run")]) == 0
    assert not (place / "runs").exists(), "the run is in exactly the folder that was given"
    return place / "c.yml", place / "run"


@pytest.fixture
def again(finished: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Config, and a copy of the finished run."""
    shutil.copytree(finished[1], tmp_path / "run")
    yield finished[0], tmp_path / "run"
    assert not (tmp_path / "run" / "run.lock").exists()


def steps(run: Path) -> int:
    return int(read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_finished_run_is_left_alone(again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, run = again
    before = contents(run)
    assert main([str(config), "--resume-or-start", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: the run is finished (to prolong it, raise max_epoch)\n"
    assert contents(run) == before


def test_a_finished_run_is_prolonged(again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, run = again
    command = [str(config), "trainer.max_epochs=2", "--resume-or-start", str(run)]
    assert main(command) == 0
    assert "note: max_epoch is 2 from now on, and was 1\n" in capsys.readouterr().err
    assert [float(row["epoch"]) for row in table(RunFolder(run))] == [1, 2]
    assert main(command) == 0
    assert "the run is finished" in capsys.readouterr().out


def test_prolonged_and_killed_before_the_next_checkpoint(
    again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """`config.yml` has the new length by then, and the summary of the shorter run is still there."""
    config, run = again
    written = (run / "config.yml").read_text()
    (run / "config.yml").write_text(
        written.replace("max_epoch: 1", "max_epoch: 2").replace("max_epochs: 1", "max_epochs: 2")
    )
    assert main([str(config), "max_epoch=2", "--resume-or-start", str(run)]) == 0
    assert "the run is finished" not in capsys.readouterr().out
    assert [float(row["epoch"]) for row in table(RunFolder(run))] == [1, 2]


def test_the_same_command_after_a_stop(
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
) -> None:
    """Overrides that a resumed run refuses are allowed where they are what the run has."""
    path = write_config()
    uninterrupted = run(path, "segmentation_config.lr=0.004")
    command = [str(path), "segmentation_config.lr=0.004", "--resume-or-start", str(folder)]
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 0, signal.SIGUSR1)
        assert main(command) == 143
    assert f"--resume {folder}" in capsys.readouterr().err
    assert main(command) == 0
    assert_same(RunFolder(folder), uninterrupted)


def test_what_the_first_start_found_is_kept(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """`auto` in the config agrees with the number that the run has, even if the machine has less memory now."""
    path = write_config(
        batch_size="auto",
        num_classes=2,
        segmentation_config={"loss": {"name": "CELoss", "opts": {"class_weights": "auto"}}},
        data_module={"num_workers": 0, "samples_per_epoch": 45, "mean": "auto", "std": "auto"},
    )
    command = [str(path), "--resume-or-start", str(folder)]
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 0, signal.SIGTERM)
        assert main(command) == 143
    found = yaml.safe_load((folder / "config.yml").read_text())["batch_size"]
    monkeypatch.setattr("train.run.auto_batch.free_memory", lambda: 0)
    assert main(command) == 0
    assert yaml.safe_load((folder / "config.yml").read_text())["batch_size"] == found == 4


def test_killed_before_the_first_checkpoint(write_config: Callable[..., Path], folder: Path) -> None:
    """The run starts anew; a log of the job in the folder stays."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yml").write_text(f"{CONFIG_HEADER}\nseed: 1\n")
    (folder / "metrics.csv").write_text("epoch,step,lr\n1,1,1\n")
    (folder / "run.lock").write_text("elsewhere 1\n")
    (folder / "slurm-1.out").write_text("a log\n")
    assert main([str(write_config(max_epoch=1)), "--resume-or-start", str(folder)]) == 0
    assert [float(row["epoch"]) for row in table(RunFolder(folder))] == [1]
    assert (folder / "slurm-1.out").read_text() == "a log\n"


def test_stopped_before_the_first_step(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Only what the run has written is removed."""
    folder.mkdir(parents=True)
    (folder / "slurm-1.out").write_text("a log\n")
    command = [str(write_config(max_epoch=1)), "--resume-or-start", str(folder)]
    with monkeypatch.context() as patch:
        patch.setattr("lightning.pytorch.Trainer.fit", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        assert main(command) == 143
    assert [p.name for p in folder.iterdir()] == ["slurm-1.out"]
    assert main(command) == 0


def test_invalid_data_leaves_no_folder(write_config: Callable[..., Path], tmp_path: Path, folder: Path) -> None:
    path = write_config(data_module={"data_dir": str(tmp_path / "none")})
    assert main([str(path), "--resume-or-start", str(folder)]) == 2
    assert not folder.exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"data/a.tif": ""}, "is not a run folder, but holds folders: data (give a run folder,"),
        ({"config.yml": "seed: 3\n"}, "config.yml: is not the config of a run, and would be replaced (move it,"),
        (
            {"checkpoints/001-0.5.ckpt": ""},
            "can't be resumed (checkpoints: 001-0.5.ckpt; copy one of them to last.ckpt",
        ),
        ({"summary.json": "{}"}, "holds a finished run, whose checkpoints are gone"),
    ],
)
def test_what_would_be_replaced_is_refused(
    write_config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    files: dict[str, str],
    said: str,
) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert main([str(write_config()), "--resume-or-start", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--resume-or-start: ")
    assert said in line
    assert {name: (folder / name).read_text() for name in files} == files
    assert len(contents(folder)) == len(files)


def test_a_file_in_its_place(
    write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert main([str(write_config()), "--resume-or-start", str(tmp_path / "file")]) == 2
    assert f"--resume-or-start: {tmp_path / 'file'}: is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--resume", "r"], "--resume: can't be used together with --resume-or-start"),
        (["--check"], "--resume-or-start: can't be used together with --check"),
        (["--lr-find"], "--resume-or-start: can't be used together with --lr-find"),
        (["checkpoint.save_last=false"], "--resume-or-start: needs last.ckpt, but checkpoint.save_last is false"),
    ],
)
def test_options_that_do_not_go_together(
    write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str], folder: Path, more: list[str], said: str
) -> None:
    config = [] if "--resume" in more else [str(write_config())]
    assert main([*config, "--resume-or-start", str(folder), *more]) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_without_a_config(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["--resume-or-start", str(folder)]) == 2
    assert "a config is missing" in capsys.readouterr().err


def test_another_config(again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused by key, value and place; --force goes on with it."""
    config, run = again
    before = contents(run)
    command = [str(config), "segmentation_config.lr=0.5", "max_epoch=2", "seed=3", "--resume-or-start", str(run)]
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (undo")[0] for line in lines] == [
        f"{config}: seed: is 3 now, but the run in {run} has 42",
        f"{config}: segmentation_config.lr: is 0.5 now, but the run in {run} has 0.0003",
    ]
    assert contents(run) == before
    assert main([*command, "--force"]) == 0
    assert yaml.safe_load((run / "config.yml").read_text())["segmentation_config"]["lr"] == 0.5


def test_a_copy_of_the_data_elsewhere(again: tuple[Path, Path], dataset: Path, tmp_path: Path) -> None:
    """Jobs may copy the data to the disk of their node."""
    config, run = again
    shutil.copytree(dataset, tmp_path / "copy")
    command = [str(config), f"data_module.data_dir={tmp_path / 'copy'}", "max_epoch=2", "--resume-or-start", str(run)]
    assert main(command) == 0
    assert [float(row["epoch"]) for row in table(RunFolder(run))] == [1, 2]
    (tmp_path / "copy" / "train" / "x" / "s0.tif").unlink()
    (tmp_path / "copy" / "train" / "y" / "s0_label.tif").unlink()
    assert main([*command, "max_epoch=3"]) == 2


def test_a_second_job(again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The lock is taken before the folder is looked at, so that the second job changes nothing."""
    config, run = again
    before = contents(run)
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys; from train.run.lock import RunLock\n"
            "lock = RunLock(pathlib.Path(sys.argv[1])); print(flush=True); input(); lock.release()",
            str(run),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    other.stdout.readline()
    try:
        assert main([str(config), "max_epoch=2", "--resume-or-start", str(run)]) == 2
        assert f"{run}: another process trains in this run (process {other.pid} on " in capsys.readouterr().err
    finally:
        other.communicate(b"\n")
    assert contents(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_two_jobs_at_once(write_config: Callable[..., Path], folder: Path, delay: float) -> None:
    """One trains; the other is refused, or comes late and finds the run finished."""
    path = write_config(max_epoch=3)
    unbroken = run(path)
    command = [sys.executable, "-m", "train", str(path), "--resume-or-start", str(folder)]
    jobs = []
    for _ in range(2):
        jobs.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        time.sleep(delay)
    said: list[tuple[int, Any]] = []
    for job in jobs:
        out, err = job.communicate(timeout=300)
        said.append((job.returncode, out + err))
    codes = sorted(code for code, _ in said)
    assert codes == [0, 2], said
    assert sum("another process trains in this run" in text for _, text in said) == 1
    assert_same(RunFolder(folder), unbroken)
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2

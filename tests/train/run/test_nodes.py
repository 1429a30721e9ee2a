"""Runs of several processes that are nodes of a cluster, on loopback with gloo: one run, the same in all processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml

from tests.train.run.test_resume import assert_same
from train.configs.loader import load_config
from train.datamodule import DataModule
from train.model import SMPSegmentationModel
from train.run.agreement import _problems
from train.run.folder import RunFolder

ROOT = Path(__file__).parents[3]
# A process writes a digest of the weights that it has at the end; its batch size can be given.
SCRIPT = """
import hashlib, os, pathlib, sys
from train.model import SegmentationModel
from train.run import auto_batch
end, find = SegmentationModel.on_fit_end, auto_batch.largest_that_fits
def on_fit_end(self):
    end(self)
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())).hexdigest()
    pathlib.Path(os.environ["WEIGHTS"] + f"{self.global_rank}").write_text(digest)
SegmentationModel.on_fit_end = on_fit_end
auto_batch.largest_that_fits = lambda fits, limit: int(os.environ.get("FITS", find(fits, limit)))
from train.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
STAGES: dict[str, Any] = {
    "segmentation_config": {
        "finetune": [
            {"epoch": 0, "unfreeze": "decoder"},
            {"epoch": 1, "unfreeze": 3},
            {"epoch": 2, "unfreeze": "all"},
        ],
    },
    "max_epoch": 3,
    "trainer": {"accelerator": "cpu", "num_nodes": 2, "strategy": "ddp_find_unused_parameters_true"},
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def nodes(
    path: Path,
    *arguments: str,
    each: Mapping[int, Mapping[str, str]] | None = None,
    more: Mapping[int, list[str]] | None = None,
) -> list["subprocess.Popen[str]"]:
    """Start two nodes of one process each, by the variables that a job script sets."""
    port = str(free_port())
    started = []
    for rank in range(2):
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        environment |= {"NODE_RANK": str(rank), "WEIGHTS": str(path.parent / "weights"), **(each or {}).get(rank, {})}
        command = [sys.executable, "-c", SCRIPT, str(path), *arguments, *(more or {}).get(rank, [])]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True))
    return started


def ended(processes: list["subprocess.Popen[str]"]) -> list[tuple[int, str, str]]:
    """Return exit code, stdout and stderr of each process."""
    try:
        said = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def only_run(path: Path) -> RunFolder:
    (folder,) = (path.parent / "runs" / "p").iterdir()
    return RunFolder(folder)


def assert_scores_of_one_process(folder: RunFolder) -> None:
    """Check that the best checkpoint has the scores of the summary when one process computes them."""
    summary = json.loads(folder.summary.read_text())
    config = load_config(folder.config, ["trainer.num_nodes=1", "trainer.devices=1"]).config
    model = SMPSegmentationModel.load_from_checkpoint(folder.path / summary["best"]["checkpoint"], weights_only=True)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for split, compute in (("val", trainer.validate), ("test", trainer.test)):
        compute(model, datamodule=DataModule(config), verbose=False)
        alone = {k.removeprefix(f"{split}/"): float(v) for k, v in trainer.callback_metrics.items()}
        assert alone.keys() == summary[split].keys()
        assert alone == pytest.approx(summary[split], abs=1e-6)


def assert_same_weights(path: Path) -> None:
    assert len({(path.parent / f"weights{rank}").read_text() for rank in range(2)}) == 1


@pytest.mark.slow  # two processes for half a minute
def test_two_nodes_with_stages_and_automatic_batches(write_config: Callable[..., Path]) -> None:
    """One folder, one report; all processes unfreeze alike, and take the batch size that fits on each."""
    path = write_config(**STAGES, batch_size="auto")
    processes = nodes(path, each={0: {"FITS": "3"}, 1: {"FITS": "2"}})
    (first, out, err), (second, other_out, other_err) = ended(processes)
    assert (first, second) == (0, 0), err + other_err
    assert out.count("best: epoch") == 1
    assert other_out == ""
    assert other_err == "loading ...\n"
    assert "note: batch_size auto: 3 (" in err
    assert "note: batch_size auto: 2 on every device, which is what fits on rank 1 on " in err
    folder = only_run(path)
    written = yaml.safe_load(folder.config.read_text())
    assert written["batch_size"] == written["data_module"]["batch_size"] == 2
    assert_same_weights(path)
    content = torch.load(folder.checkpoints / "last.ckpt", weights_only=True)
    assert content["hyper_parameters"]["config"]["batch_size"] == 2
    assert_scores_of_one_process(folder)


def test_what_does_not_fit_together() -> None:
    first = {"host": "a", "sees the folder": True, "batch": 2, "config": {"tile_size": 64}, "data": "0"}
    other = {"host": "b", "sees the folder": False, "batch": 2, "config": {"tile_size": 96}, "data": "1"}
    assert _problems("/runs/r", [first, first]) == []
    folder, config, data = _problems("/runs/r", [first, other])
    assert folder.startswith('logging.save_dir: /runs/r of rank 0 on "a" does not exist for rank 1 on "b" (write runs')
    assert config.startswith('config: that of rank 1 on "b" is another: tile_size is 96, rank 0 has 64 (start all')
    assert data.startswith('data_module.data_dir: rank 1 on "b" finds other files than rank 0 on "a" (give all nodes')


@pytest.mark.slow
def test_processes_that_do_not_fit_together(write_config: Callable[..., Path]) -> None:
    """Another config in a process is refused in all of them, and nothing is left."""
    path = write_config(trainer={"accelerator": "cpu", "num_nodes": 2})
    said = ended(nodes(path, more={1: ["segmentation_config.lr=0.1"]}))
    assert [code for code, _, _ in said] == [2, 2], said
    for _, _, err in said:
        assert err.splitlines()[-1].startswith("config: that of rank 1 on ")
        assert "is another: segmentation_config.lr is 0.1, rank 0 has 0.005 (start all processes with" in err
    assert list((path.parent / "runs" / "p").iterdir()) == []


@pytest.mark.parametrize(
    ("launcher", "environment"),
    [
        ("torchrun", {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}),
        ("srun", {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}),
    ],
)
def test_more_processes_than_the_config_asks_for(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    launcher: str, environment: dict[str, str],
) -> None:  # fmt: skip
    """Each would train a run of its own."""
    from train.__main__ import main

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([str(write_config()), "--check"]) == 2
    said = capsys.readouterr().err
    assert f"trainer.devices and trainer.num_nodes: ask for 1 process, but {launcher} has started 2 (" in said


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"GROUP_RANK": "1"}, False),
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, True),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "3"}, False),
    ],
)
def test_the_first_process(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], first: bool) -> None:
    from train.run.launch import is_first_process

    for name in ("NODE_RANK", "LOCAL_RANK", "GROUP_RANK", "RANK", "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


@pytest.mark.slow
def test_nodes_of_torchrun_equal_two_devices_of_one_machine(write_config: Callable[..., Path], tmp_path: Path) -> None:
    path = write_config(**STAGES)
    for name in ("nodes", "devices"):
        (tmp_path / name).mkdir()
    port = free_port()
    launched = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}"),
                *("--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}", "-m", "train"),
                *(str(path), f"logging.save_dir={tmp_path / 'nodes'}"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = ended(launched)
    assert [code for code, _, _ in said] == [0, 0], said
    assert "".join(out for _, out, _ in said).count("best: epoch") == 1
    more = ["trainer.num_nodes=1", "trainer.devices=2", f"logging.save_dir={tmp_path / 'devices'}"]
    done = subprocess.run([sys.executable, "-m", "train", str(path), *more], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (one,), (other,) = ((tmp_path / name / "p").iterdir() for name in ("nodes", "devices"))
    assert_same(RunFolder(one), RunFolder(other))
    assert_scores_of_one_process(RunFolder(one))


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGTERM), (1, signal.SIGUSR1), (0, signal.SIGUSR1)])
def test_a_signal_to_one_node_stops_both(write_config: Callable[..., Path], rank: int, number: signal.Signals) -> None:
    """The same command then goes on to the weights of an unbroken run."""
    path = write_config(**(STAGES | {"max_epoch": 12}))
    unbroken, stopped = (path.parent / name for name in ("unbroken", "stopped"))
    assert [code for code, _, _ in ended(nodes(path, "--resume-or-start", str(unbroken)))] == [0, 0]
    processes = nodes(path, "--resume-or-start", str(stopped))
    deadline = time.monotonic() + 100
    while not (stopped / "metrics.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[rank].send_signal(number)
    said = ended(processes)
    assert [code for code, _, _ in said] == [143, 143], said
    assert [err.count("stopped; resume with: ") for _, _, err in said] == [1, 0]
    said = ended(nodes(path, "--resume-or-start", str(stopped)))
    assert [code for code, _, _ in said] == [0, 0], said
    assert_same(RunFolder(stopped), RunFolder(unbroken))
    again = ended(nodes(path, "--resume-or-start", str(stopped)))
    assert [code for code, _, _ in again] == [0, 0]
    assert "the run is finished" in again[0][1]
    assert again[1][1] == ""

"""What `--resume` refuses before training: other data, a state that isn't the run's, a second process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
import torch

from inference.card import ModelCard
from tests.train.run.conftest import content_of
from train.configs.loader import load_config
from train.data.labelled_images import LabelledImages
from train.run.folder import RunFolder
from train.run.lock import RunLock
from train.run.resume import changed_data

ROOT = Path(__file__).parents[3]


def kept(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["callbacks"]["Checkpoints"]["kept"][0]
    return entry


def moments(content: dict[str, Any]) -> dict[str, Any]:
    return content["optimizer_states"][0]["state"][0]  # type: ignore[no-any-return]


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no optimizer": (lambda c: c.pop("optimizer_states"), "optimizer_states: is missing"),
    "optimizer of nothing": (lambda c: c["optimizer_states"].clear(), "optimizer_states: has 0 items, not 1"),
    "no moments": (lambda c: c["optimizer_states"][0]["state"].clear(), "state: is empty after 2 steps"),
    "moments of another shape": (
        lambda c: moments(c).update(exp_avg=torch.zeros(3)), "exp_avg: is float32 of shape (3,), this run has",
    ),
    "no rate": (lambda c: c["optimizer_states"][0]["param_groups"][0].pop("lr"), "param_groups[0].lr: is missing"),
    "no schedule": (lambda c: c.pop("lr_schedulers"), "lr_schedulers: is missing"),
    "no loops": (lambda c: c.pop("loops"), "loops: is missing"),
    "loops of text": (lambda c: c.update(loops="x"), "loops: is of type str, not a mapping"),
    "negative progress": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"]["current"].update(completed=-1), "completed: is -1",
    ),
    "no callbacks": (lambda c: c.pop("callbacks"), "callbacks: is missing"),
    "callbacks of nothing": (lambda c: c["callbacks"].clear(), "'mode': 'max'}: is missing"),
    "no early stopping": (
        lambda c: [c["callbacks"].pop(k) for k in list(c["callbacks"]) if k != "Checkpoints"], "EarlyStopping",
    ),
    "no scores": (lambda c: kept(c).pop("score"), "kept[0].score: is missing"),
    "a score of text": (lambda c: kept(c).update(score="good"), "kept[0].score: is of type str, not int or float"),
    "the last checkpoint as a best one": (lambda c: kept(c).update(file="last.ckpt"), 'is "last.ckpt", not the name'),
    "a file in a folder": (lambda c: kept(c).update(file="sub/a.ckpt"), 'is "sub/a.ckpt", not the name'),
    "no position": (lambda c: c.pop("DataModule"), "DataModule: is missing"),
    "no counts": (lambda c: c.pop("pooled"), "pooled: is missing"),
    "counts of other classes": (
        lambda c: c["pooled"]["val"].update(counts=torch.zeros(5, 5, dtype=torch.long)), "pooled.val.counts: is int64",
    ),
    "other network": (
        lambda c: c["state_dict"].update(x=c["state_dict"].pop(next(iter(c["state_dict"])))),
        "state_dict: is of another network than config.yml: it lacks 1 tensors such as",
    ),
    "weights of whole numbers": (
        lambda c: c["state_dict"].update({k: v.long() for k, v in c["state_dict"].items()}), "is int64 of shape",
    ),
    "weights of text": (lambda c: c["state_dict"].update(dict.fromkeys(c["state_dict"], "x")), "is of type str"),
    "an epoch of text": (lambda c: c.update(epoch="one"), "epoch: is of type str, not int"),
    "no version": (lambda c: c.pop("pytorch-lightning_version"), "pytorch-lightning_version: is missing"),
    "no card": (lambda c: c["hyper_parameters"].pop("card"), "hyper_parameters.card: is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_a_state_that_is_not_the_runs(run: Path, resume: Callable[..., tuple[int, str, str]], name: str) -> None:
    edit, said = EDITS[name]
    last = run / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    edit(state)
    last.unlink()  # it may be a second name of the best checkpoint
    torch.save(state, last)
    before = content_of(run)
    code, out, err = resume()
    assert (code, out) == (2, "")
    assert len(err.splitlines()) <= 8
    for line in err.splitlines():
        assert line.startswith(f"{last}: can't be resumed from: ")
        assert "copy another checkpoint of the run over it: 001-" in line
    assert said in err
    assert content_of(run) == before


def edit_config(folder: Path, key: str, value: str) -> str:
    """Replace a value in a run's config; return the earlier one."""
    (line,) = [line for line in (folder / "config.yml").read_text().splitlines() if line.strip().startswith(f"{key}:")]
    before = line.partition(": ")[2]
    text = (folder / "config.yml").read_text().replace(line, line.replace(before, value))
    (folder / "config.yml").write_text(text)
    return before


@pytest.mark.parametrize(("key", "value"), [("lr", "0.123"), ("weight_decay", "0.5")])
def test_a_checkpoint_of_another_run_of_the_same_network(
    run: Path, resume: Callable[..., tuple[int, str, str]], key: str, value: str
) -> None:
    """It has all that this run continues from; only its config tells the two apart."""
    trained = edit_config(run, key, value)
    before = content_of(run)
    code, out, err = resume()
    assert (code, out) == (2, "")
    assert err == (
        f"{run / 'checkpoints' / 'last.ckpt'}: is a checkpoint of another run, or config.yml was changed: "
        f"segmentation_config.{key} is {trained}, config.yml has {value} (restore the file, or begin a new run; "
        "--force goes on)\n"
    )
    assert content_of(run) == before
    assert resume("--force")[0] == 0


def test_a_checkpoint_of_the_same_config_on_other_data(run: Path, resume: Callable[..., tuple[int, str, str]]) -> None:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    state["hyper_parameters"]["card"]["training_data"]["fingerprint"] = "0" * 64
    (run / "checkpoints" / "last.ckpt").unlink()
    torch.save(state, run / "checkpoints" / "last.ckpt")
    code, _, err = resume()
    assert code == 2
    assert "last.ckpt: is a checkpoint of another run: it was trained on other data than data.json records" in err
    assert resume("--force")[0] == 0


@pytest.mark.parametrize("file", ["../../victim.txt", "{}/victim.txt", "link.ckpt", 3, ""])
def test_a_state_names_files_within_the_run_only(
    run: Path, resume: Callable[..., tuple[int, str, str]], tmp_path: Path, file: Any
) -> None:
    victim = tmp_path / "runs" / "p" / "victim.txt"
    victim.write_text("dear")
    (run / "checkpoints" / "link.ckpt").symlink_to(victim)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    kept(state).update(file=file.format(victim.parent) if isinstance(file, str) else file, score=-1.0)
    (run / "checkpoints" / "last.ckpt").unlink()
    torch.save(state, run / "checkpoints" / "last.ckpt")
    code, _, err = resume()
    assert code == 2
    assert "callbacks.Checkpoints.kept[0].file: " in err
    assert victim.read_text() == "dear"


def invert(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.write(1 - file.read())


def test_other_data(run: Path, resume: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    data = tmp_path / "data"
    for kind, name in (("x", "s0.tif"), ("y", "s0_label.tif")):
        (data / "train" / kind / name).unlink()
    invert(data / "train" / "y" / "s1_label.tif")
    shutil.copy(data / "val" / "x" / "s0.tif", data / "val" / "x" / "new.tif")
    shutil.copy(data / "val" / "y" / "s0_label.tif", data / "val" / "y" / "new_label.tif")
    before = content_of(run)
    code, out, err = resume()
    assert (code, out) == (2, "")
    difference = (
        "added: val/x/new.tif, val/y/new_label.tif; gone: train/x/s0.tif, train/y/s0_label.tif; "
        "changed: train/y/s1_label.tif"
    )
    assert err == (
        f"{data}: isn't the data that {run} was trained on so far: {difference} (restore the data, or begin a new run; "
        "--force goes on with these data and records it in summary and card)\n"
    )
    assert content_of(run) == before

    code, _, err = resume("--force")
    assert code == 0, err
    assert difference in err
    (change,) = json.loads((run / "summary.json").read_text())["data_changes"]
    assert change.endswith(difference)
    card = ModelCard.parse(json.loads((run / "card.json").read_text()), "card.json")
    assert card.training_data is not None
    assert card.training_data.changes == [change]
    # From here on these are the run's data; the note stays.
    code, _, err = resume("trainer.max_epochs=3")
    assert code == 0, err
    assert json.loads((run / "summary.json").read_text())["data_changes"] == [change]


def test_a_run_of_an_earlier_version_has_a_fingerprint_only(
    run: Path, resume: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (run / "data.json").unlink()
    invert(tmp_path / "data" / "train" / "y" / "s1_label.tif")
    code, _, err = resume()
    assert code == 2
    assert "the train split has another fingerprint" in err
    invert(tmp_path / "data" / "train" / "y" / "s1_label.tif")
    code, _, err = resume()
    assert code == 0, err
    assert (run / "data.json").is_file()


def test_a_measured_normalisation_stays_that_of_the_run(original: Path) -> None:
    """Data that are taken over by --force would be measured anew, and shift the input of the network."""
    config = load_config(original / "config.yml", ["data_module.mean=auto", "data_module.std=auto"]).config
    data = LabelledImages(config)
    data.prepare()
    content = torch.load(original / "checkpoints" / "last.ckpt", weights_only=True)
    card = content["hyper_parameters"]["card"]
    assert data.normalization is not None
    assert list(data.normalization.mean) != card["mean"]
    assert changed_data(RunFolder(original), data, content, force=False) == []
    assert list(data.normalization.mean) == card["mean"]


def test_what_is_refused_before_torch_is_loaded(
    run: Path, resume: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        raise AssertionError("PyTorch is imported")

    monkeypatch.setattr("train.__main__._import_slow_libraries", load)
    label, last = run.parents[2] / "data" / "train" / "y" / "s0_label.tif", run / "checkpoints" / "last.ckpt"
    label.unlink()
    code, _, err = resume()
    assert code == 2
    assert err.startswith(f"{run.parents[2] / 'data' / 'train' / 'x' / 's0.tif'}: has no label (expected ")
    last.rename(last.with_name("old.ckpt"))
    code, _, err = resume()
    assert code == 2
    assert err.startswith(f"{last}: no such file, so the run can't be resumed (checkpoints: ")
    assert err.endswith("old.ckpt)\n")


def test_a_run_is_trained_by_one_process(run: Path, resume: Callable[..., tuple[int, str, str]]) -> None:
    """A lock is that of a living process: one that is killed leaves the file, but not the lock."""
    script = (
        "import sys, pathlib; from train.run.lock import RunLock\n"
        "lock = RunLock(pathlib.Path(sys.argv[1])); print(flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(run)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        before = content_of(run / "checkpoints")
        code, _, err = resume()
        assert code == 2
        assert err.startswith(f"{run}: another process trains in this run (process {other.pid} on ")
        assert content_of(run / "checkpoints") == before
    finally:
        other.kill()
        other.communicate()
    assert (run / "run.lock").is_file()
    lock = RunLock(run)
    assert (run / "run.lock").read_text().split() == [os.uname().nodename, str(os.getpid())]
    lock.release()
    assert not (run / "run.lock").exists()
    assert resume()[0] == 0
    assert not (run / "run.lock").exists()

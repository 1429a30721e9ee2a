"""Options of Ray, and the division of a cluster among the workers."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.batch.distributed.options import INSTALL, RayOptions
from inference.batch.distributed.share import Node, Share, divide
from inference.common.errors import UserError
from inference.options import Options
from tests.inference.batch.survey import refused, write_survey

ROOT = Path(__file__).parents[4]

REFUSED = {
    "in out --ray --workers 0": "--workers: 0 (allowed: 1 to 4,096)",
    "in out --ray --workers x": "argument --workers:",
    "in out --ray --gpus-per-worker 1.5": "--gpus-per-worker: 1.5 (allowed: 0 to 1, or a whole number",
    "in out --ray --gpus-per-worker -1": "--gpus-per-worker: -1 (allowed",
    "in out --ray --gpus-per-worker nan": "--gpus-per-worker: nan (allowed",
    "in out --ray http://head:6379": 'argument --ray: "http://head:6379" is no address of a Ray cluster',
    "--ray in out": 'argument --ray: "in" is no address of a Ray cluster (allowed: HOST:PORT, auto; for a Ray on this',
    "in out --ray --split-px -1": "--split-px: -1 (allowed: pixels, 1 to 1,000,000,000,000,000, or 0 to split no",
    "in out --ray --split-px 9e9": 'argument --split-px: "9e9" is not a whole number',
    "in out --split-px 9": "--split-px: is for a batch on Ray (add --ray",
    "in/cove0/m0.tif o.tif --split-px 9": "--split-px: is for several mosaics and a folder",
    "in out --workers 2": "--workers: is for a batch on Ray (add --ray",
    "in out --gpus-per-worker 1": "--gpus-per-worker: is for a batch on Ray (add --ray",
    "in/cove0/m0.tif o.tif --ray": "--ray: is for several mosaics and a folder",
    "in/cove0/m0.tif o.tif --workers 2": "--workers: is for several mosaics and a folder",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_survey(tmp_path / "in")
    assert REFUSED[words] in refused(capsys, *words.split(), "--model", "m.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m.onnx"]


def test_without_ray_one_line_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install 'ray>="):
        RayOptions().check()


def test_the_ray_extra_is_what_the_message_names() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"'(\S+)'", INSTALL) == declared["optional-dependencies"]["ray"]


DIVIDED = {
    "a laptop": ([Node(8)], RayOptions(), None, "auto", Share(2, 4, 0, 2)),
    "two cores": ([Node(2)], RayOptions(), None, "auto", Share(1, 2, 0, 1)),
    "two workers on eight cores": ([Node(8)], RayOptions(workers=2), None, "auto", Share(2, 4, 0, 2)),
    "threads of the user": ([Node(8)], RayOptions(), 1, "auto", Share(8, 1, 0, 8)),
    "more workers than cores": ([Node(2)], RayOptions(workers=4), None, "auto", Share(4, 1, 0, 2)),
    "three workers on two nodes": ([Node(8), Node(8)], RayOptions(workers=3), None, "cpu", Share(3, 4, 0, 4)),
    "a worker a GPU": ([Node(16, 4)], RayOptions(), None, "auto", Share(4, 4, 1, 4)),
    "two workers a GPU": ([Node(16, 2)], RayOptions(gpus=0.5), None, "cuda", Share(4, 4, 0.5, 4)),
    "three workers a GPU": ([Node(9, 1)], RayOptions(gpus=1 / 3), None, "cuda", Share(3, 3, 1 / 3, 3)),
    "two GPUs a worker": ([Node(16, 3)], RayOptions(gpus=2), None, "cuda", Share(1, 16, 2, 1)),
    "GPUs that aren't wanted": ([Node(16, 4)], RayOptions(workers=2), None, "cpu", Share(2, 8, 0, 2)),
    "GPUs that aren't there": ([Node(8)], RayOptions(gpus=1, workers=1), None, "cuda", Share(1, 1, 1, 0)),
}


@pytest.mark.parametrize("name", DIVIDED)
def test_divided(name: str) -> None:
    nodes, options, threads, device, expected = DIVIDED[name]
    assert divide(nodes, options, threads, device) == expected


def test_a_gpu_that_no_worker_has() -> None:
    with pytest.raises(UserError, match="--device cuda: the workers have no GPU"):
        divide([Node(8)], RayOptions(), None, "cuda")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 40))
def test_as_many_threads_as_all_workers_can_have(cpus: list[int], workers: int) -> None:
    share = divide([Node(count) for count in cpus], RayOptions(workers=workers), None, "cpu")
    assert share.room == sum(count // share.threads for count in cpus)
    if sum(cpus) >= workers:
        assert share.room >= workers
        assert sum(count // (share.threads + 1) for count in cpus) < workers


def test_options_of_a_worker() -> None:
    share = Share(2, 3, 0, 2)
    assert (share.options(Options()).threads, share.options(Options()).device) == (3, "cpu")
    assert share.options(Options(device="mps")).device == "mps"
    assert Share(2, 3, 0.5, 2).options(Options()).device == "auto"

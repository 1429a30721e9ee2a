"""A batch on a real Ray: two workers on this machine, two nodes, a worker and a node that are killed, and SIGTERM."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.batch import queue
from inference.batch.distributed import workers
from tests.inference.batch.survey import contents, journal, run, write_failing, write_survey
from tests.inference.commands import COMMAND, leftovers

pytestmark = [
    pytest.mark.slow,  # Ray takes up to half a minute to start on two cores
    pytest.mark.filterwarnings("ignore:::ray"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
OPTIONS = ("--model", "m.onnx", "--ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Ray on two nodes of this machine, which this process has joined."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    more = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
    for left in (2, 1, 0):
        try:
            cluster = Cluster(initialize_head=True, connect=True, head_node_args={"include_dashboard": False, **more})
            break
        except Exception:  # on a busy machine a node isn't there within half a minute
            if not left:
                raise
    cluster.add_node(**more)
    yield cluster
    import ray

    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the survey `in`, the model `m.onnx` and the maps of one process in `plain`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.0)
    write_survey(tmp_path / "in", 6, side=300)
    write_failing(tmp_path / "in")
    assert run("in", "plain", "--model", "m.onnx") == 4
    return tmp_path


def check(world: Path) -> None:
    """Check that the maps on Ray are those of one process, and that nothing else is there."""
    assert contents(world / "out") == contents(world / "plain")
    assert leftovers(world / "out" / "cove0") == []


def at_the_first(monkeypatch: pytest.MonkeyPatch, doing: str, act: Any) -> None:
    """Call a function once, with the slot of a worker that does something, such as "run"."""
    advance, done = workers.Workers._advance, []

    def advancing(self: Any) -> None:
        busy = [slot for slot in self._slots if slot.doing == doing and slot.answer is not None]
        if busy and not done:
            done.append(busy[0])
            act(busy[0])
        advance(self)

    monkeypatch.setattr(workers.Workers, "_advance", advancing)


def test_two_nodes(world: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("in", "out", *OPTIONS, nodes.address, "--workers", "2", "--threads", "1") == 4
    check(world)


def test_a_killed_worker(world: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_first(monkeypatch, "run", lambda slot: os.kill(slot.place.process, signal.SIGKILL))
    assert run("in", "out", *OPTIONS, nodes.address, "--workers", "2", "--threads", "1") == 4
    check(world)
    assert [line for line in journal(world / "out") if "the Ray worker that mapped it was lost" in line["reason"]]


def test_a_killed_node(world: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []

    def kill(_: Any) -> None:
        killed.append(True)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    at_the_first(monkeypatch, "run", kill)
    try:
        assert run("in", "out", *OPTIONS, nodes.address, "--workers", "2", "--threads", "1") == 4
    finally:
        nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    assert killed
    check(world)


SPLIT = ("--workers", "2", "--threads", "1", "--split-px", "80_000")


def test_split_mosaics(world: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    take = workers.Workers._take

    def taking(self: Any, slot: Any, found: Any) -> None:
        if slot.band is not None:
            places.add((slot.band.path, slot.place))
        take(self, slot, found)

    monkeypatch.setattr(workers.Workers, "_take", taking)
    assert run("in", "out", *OPTIONS, nodes.address, *SPLIT) == 4
    check(world)
    assert len({path for path, _ in places}) == 12  # of six mosaics
    assert len({place for _, place in places}) == 2


@pytest.mark.parametrize("doing", ["predict", "join"])
def test_a_killed_worker_of_a_split_mosaic(
    world: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    at_the_first(monkeypatch, doing, lambda slot: os.kill(slot.place.process, signal.SIGKILL))
    assert run("in", "out", *OPTIONS, nodes.address, *SPLIT) == 4
    check(world)
    assert not [line for line in journal(world / "out") if "the Ray worker that mapped it was lost" in line["reason"]]


def processes(group: int) -> list[int]:
    """Return the processes of a session, which a command leads."""
    found = subprocess.run(["ps", "-s", str(group), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.parametrize(
    ("number", "more"),
    [(signal.SIGTERM, ["--split-px", "80_000"]), (signal.SIGINT, [])],
    ids=["SIGTERM, split mosaics", "SIGINT to the group"],
)
def test_stopped_in_the_middle(world: Path, number: signal.Signals, more: list[str]) -> None:
    path = world / "out" / "batch.jsonl"
    for left in (2, 1, 0):
        command = subprocess.Popen(
            [*COMMAND, "in", "out", *OPTIONS, "--workers", "2", *more],
            cwd=world,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not (path.exists() and "started" in path.read_text()) and command.poll() is None:
            time.sleep(0.02)
        if command.poll() is None:
            break
        _, said = command.communicate()
        assert left, said
        assert "--ray: can't be started" in said, said  # the machine is busy
    (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)
    _, said = command.communicate(timeout=60)
    assert command.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number], said
    assert "images are done (the same command does the rest)" in said
    assert processes(command.pid) == []
    assert leftovers(world / "out" / "cove0") == []
    assert run("in", "out", "--model", "m.onnx") == 4
    check(world)


def test_a_cluster_that_is_not_there(world: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "in", "out", *OPTIONS, "127.0.0.1:1"], cwd=world, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "--ray: can't join 127.0.0.1:1: " in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr

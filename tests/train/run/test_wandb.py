"""Weights & Biases without an API key or a network: recorded offline, with one line for the user and no long wait."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb

from inference.common.errors import UserError
from train.configs.loader import load_config
from train.run import wandb as tracking
from train.run.fit import train
from train.run.folder import RunFolder

KEY = "a" * 40


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep W&B away from the user's own folders and API key."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_offline_without_a_key(write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(enable_logging=True, max_epoch=1, tags=["kp-rgb"])
    result = train(load_config(path).config)
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if "W&B" in line]
    assert "no API key" in line
    sync = Path(line.rpartition("wandb sync ")[2])
    assert list(sync.glob("run-*.wandb"))
    assert json.loads((result.folder.path / "wandb.json").read_text())["mode"] == "offline"
    files = {p.name for p in (sync / "files").iterdir()}
    assert {"config.yml", "card.json", "summary.json"} <= files
    assert "wandb: WARNING" not in err
    # What would be uploaded names the checkpoint's artifact and its score.
    wandb.teardown()  # W&B's own process writes the record, and has it on disk when it ends
    recorded = next(sync.glob("run-*.wandb")).read_bytes()
    run_id = json.loads((result.folder.path / "wandb.json").read_text())["id"]
    assert f"model-{run_id}".encode() in recorded
    assert b'"score"' in recorded
    assert b"val/dice" in recorded


def test_a_resumed_run_is_the_same_wandb_run(write_config: Callable[..., Path]) -> None:
    from train.run.folder import existing_run

    path = write_config(enable_logging=True, max_epoch=1, logging={"log_model": False})
    folder = train(load_config(path).config).folder
    first = json.loads(folder.wandb.read_text())["id"]
    again = load_config(folder.config, ["trainer.max_epochs=2"]).config
    train(again, resume=existing_run(folder.path))
    assert json.loads(folder.wandb.read_text())["id"] == first
    assert len(list(folder.path.glob("wandb/offline-run-*"))) == 2


def test_a_server_that_never_answers_is_not_waited_for(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server on the loopback accepts connections and never answers: the slowest kind of failure."""
    done = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            done.wait(60)

    server = HTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracking, "REACH_SECONDS", 1.5)
    try:
        reason = tracking._why_offline(f"http://127.0.0.1:{server.server_port}", KEY)
    finally:
        done.set()
        server.shutdown()
        server.server_close()
    assert reason is not None
    assert "127.0.0.1" in reason


def test_a_server_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any answer counts, even an error: the server can be reached."""

    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert tracking._why_offline(f"http://127.0.0.1:{server.server_port}", KEY) is None
    finally:
        server.shutdown()
        server.server_close()


def test_wandb_is_not_imported_when_logging_is_off(write_config: Callable[..., Path]) -> None:
    script = (
        "import sys; from train.__main__ import main; code = main(sys.argv[1:]); print(code, 'wandb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(write_config(max_epoch=1))],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_a_broken_client_does_not_stop_training(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the server is reachable but W&B fails, the run is recorded offline."""
    monkeypatch.setattr(tracking, "_why_offline", lambda *_: None)
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2.0)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    began = time.monotonic()
    result = train(load_config(write_config(enable_logging=True, max_epoch=1)).config)
    assert "recorded offline" in capsys.readouterr().err
    assert result.folder.summary.is_file()
    assert time.monotonic() - began < 120  # it ends at all


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_resumed_run_that_cannot_start_online_stays_the_same_run(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slow: bool
) -> None:
    """A server that answers, but is too slow to start a run or refuses it."""
    from train.run.folder import existing_run

    path = write_config(enable_logging=True, max_epoch=1, logging={"log_model": False})
    folder = train(load_config(path).config).folder
    first = json.loads(folder.wandb.read_text())["id"]
    done = threading.Event()

    class Server(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            if slow:
                done.wait(60)
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wandb.teardown()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setattr(tracking, "INIT_SECONDS", 1.0)
        capsys.readouterr()
        try:
            again = load_config(folder.config, ["trainer.max_epochs=2"]).config
            train(again, resume=existing_run(folder.path))
        finally:
            done.set()
            server.shutdown()
            wandb.teardown()
    err = capsys.readouterr().err
    assert "W&B: recorded offline (" in err
    assert json.loads(folder.wandb.read_text()) == {"id": first, "project": "p", "mode": "offline"}
    assert len(list(folder.path.glob(f"wandb/offline-run-*-{first}"))) == 2


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"id": 3}', '{"id": "../../x"}', '{"id": ""}'])
def test_a_damaged_id_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "wandb.json").write_text(content)
    with pytest.raises(UserError, match=r"wandb\.json: "):
        tracking._known_id(RunFolder(tmp_path))

"""Downloads from W&B that fail: a damaged file, no key, no server, a stalled connection, Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from train.export.artifact import fetch

from .artifacts import CONTENT, NAME, kept, refusal, versions
from .wandb_server import Stored, WandbServer

pytestmark = pytest.mark.usefixtures("private")


def test_a_damaged_file_is_not_kept(serve: Callable[..., WandbServer], cache: Path) -> None:
    damaged = Stored("model-x", 0, {"model.ckpt": CONTENT}, sent={"model.ckpt": CONTENT.swapcase()})
    server = serve(damaged)
    message = refusal(f"{NAME}:v0")
    assert "model.ckpt arrived damaged" in message
    assert "digest" in message
    assert kept(cache) == []
    damaged.sent = {"model.ckpt": b"<!DOCTYPE html><title>Log in</title>"}
    assert "a web page was sent for model.ckpt" in refusal(f"{NAME}:v0")
    assert kept(cache) == []
    damaged.sent = {}
    assert fetch(f"{NAME}:v0").checkpoint.read_bytes() == CONTENT
    assert server.asked["model.ckpt"] == 3


def test_a_web_page_that_was_uploaded(serve: Callable[..., WandbServer], cache: Path) -> None:
    serve(Stored("model-x", 0, {"model.ckpt": b"\n<html></html>"}))
    assert "uploaded as such" in refusal(f"{NAME}:v0")
    assert kept(cache) == []


def test_no_key_and_a_refused_key(serve: Callable[..., WandbServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(*versions())
    server.refuses = True
    assert "refused the W&B API key" in refusal(f"{NAME}:v0")
    # It takes no network to learn that there is none.
    server.shutdown()
    server.server_close()
    monkeypatch.delenv("WANDB_API_KEY")
    message = refusal(f"{NAME}:v0")
    assert "no W&B API key" in message
    assert "wandb login" in message
    assert "WANDB_API_KEY" in message


@pytest.mark.parametrize("server", ["closed", "silent", "nameless"])
def test_an_unreachable_server_is_told_in_time(monkeypatch: pytest.MonkeyPatch, cache: Path, server: str) -> None:
    """Nothing listens; something listens and never answers; the name means nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}" if server != "nameless" else "http://wandb.invalid"
        if server == "closed":
            listener.close()
        monkeypatch.setenv("WANDB_BASE_URL", url)
        began = time.monotonic()
        message = refusal(f"{NAME}:v0", timeout=3)
        assert time.monotonic() - began < 9  # the three, and the start and the end of the client
    assert f"{NAME}:v0" in message
    assert url in message
    assert "local .ckpt" in message
    assert kept(cache) == []


def test_a_download_that_stands_still(serve: Callable[..., WandbServer], cache: Path) -> None:
    server = serve(*versions())
    server.stalls = True
    began = time.monotonic()
    assert "has stalled" in refusal(f"{NAME}:v0", timeout=3)
    assert time.monotonic() - began < 15
    assert not list(cache.iterdir())
    server.stalls = False
    assert fetch(f"{NAME}:v0").checkpoint.read_bytes() == CONTENT


def processes() -> set[str]:
    """Names of those that fetch for this test: W&B's too, in a session of its own, inherits where the cache is."""
    mine = f"HAKAI_CACHE_DIR={os.environ['HAKAI_CACHE_DIR']}".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (process / "environ").read_bytes():
                found.add((process / "comm").read_text().strip())
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_leaves_nothing(serve: Callable[..., WandbServer], cache: Path) -> None:
    server = serve(*versions())
    server.stalls = True
    process = subprocess.Popen(
        [sys.executable, "-c", f"from train.export.artifact import fetch; fetch('{NAME}:v0')"],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 20
    while not server.asked["model.ckpt"] and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in err
    assert not list(cache.iterdir())
    # W&B's own process looks every other second whether it has been left alone.
    deadline = time.monotonic() + 10
    while processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes() == set()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="processes are listed in /proc")
def test_no_process_is_left(serve: Callable[..., WandbServer]) -> None:
    serve(*versions())
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.update(processes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fetch(f"{NAME}:v0")
    finally:
        over.set()
        watcher.join()
    assert any("wandb-core" in name for name in seen), seen  # the search finds it where it is
    assert processes() == set()


def test_a_page_on_another_server(serve: Callable[..., WandbServer]) -> None:
    serve(*versions())
    message = refusal("https://wandb.reef.org/reef/kelp/artifacts/model/model-x/v0")
    assert "is on wandb.reef.org" in message
    assert "WANDB_BASE_URL" in message


@pytest.mark.parametrize(
    "source", ["https://wandb.ai/reef/kelp/runs/abc", "https://example.org/model.ckpt", "a/b/c/d:v0"]
)
def test_what_is_no_artifact(source: str) -> None:
    assert source in refusal(source)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(tmp_path / "file"))
    assert "HAKAI_CACHE_DIR" in refusal(f"{NAME}:v0")

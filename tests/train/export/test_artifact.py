"""Checkpoints from W&B through its real client, from a server on the loopback: the right file, or one clear line."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.common.errors import UserError
from train.export.artifact import _checkpoint, _File, _is_whole, _parse, _place, fetch, is_artifact_name

from .wandb_server import KEY, Stored, WandbServer, digest_of, serving

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 1000
NAME = "reef/kelp/model-x"


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's W&B folders and key nor their cache."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    for name in ("WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where checkpoints are kept."""
    return tmp_path / "cache" / "artifacts"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WandbServer]]:
    """Serves artifacts until the test ends, to a client that is set up for it."""
    open_servers = []

    def start(*artifacts: Stored) -> WandbServer:
        context = serving(*artifacts)
        server = context.__enter__()
        open_servers.append(context)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        return server

    yield start
    for context in open_servers:
        context.__exit__(None, None, None)


def refusal(source: str, timeout: float = 15.0) -> str:
    """What a fetch that fails says; one line."""
    with pytest.raises(UserError) as caught:
        fetch(source, timeout=timeout)
    message = str(caught.value)
    assert "\n" not in message
    return message


def kept(cache: Path) -> list[str]:
    """Names of all that is in the cache, whole or not."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file())


def versions() -> tuple[Stored, Stored]:
    """Two versions, the second being the latest."""
    first = Stored("model-x", 0, {"model.ckpt": CONTENT, "card.json": b"{}"}, ("best",), {"score": 0.91})
    return first, Stored("model-x", 1, {"model.ckpt": CONTENT + b"!"}, ("latest",))


@pytest.mark.parametrize(
    ("source", "version"),
    [
        (f"{NAME}:v0", 0),
        ("kelp/model-x", 1),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x/best/files?a=b", 0),
    ],
)
def test_by_version_by_alias_and_by_address(
    serve: Callable[..., WandbServer], capfd: pytest.CaptureFixture[str], source: str, version: int
) -> None:
    server = serve(*versions())
    artifact = fetch(source)
    assert artifact.name == f"{NAME}:v{version}"
    assert artifact.checkpoint.read_bytes() == CONTENT + b"!" * version
    assert artifact.checkpoint.name == "model.ckpt"
    assert artifact.metadata == ({"score": 0.91} if version == 0 else {})
    assert server.asked["card.json"] == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"downloading {NAME}:v{version} (0.3 MB)\n"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (f"{NAME}:best", f"{NAME}:best"),
        (NAME, f"{NAME}:latest"),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x", f"{NAME}:latest"),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x/v3/overview", f"{NAME}:v3"),
        ("https://wandb.ai/reef/kelp/artifacts/model/my%20model/v3#top", "reef/kelp/my model:v3"),
        (f"wandb-artifact://{NAME}:v0", f"{NAME}:v0"),
        (f"wandb-artifact:///{NAME}", f"{NAME}:latest"),
    ],
)
def test_names_and_addresses(source: str, name: str) -> None:
    assert is_artifact_name(source)
    assert _parse(source)[0] == name


def test_the_second_call_downloads_nothing(
    serve: Callable[..., WandbServer], cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(*versions())
    first = fetch(f"{NAME}:v0")
    capfd.readouterr()
    assert fetch(f"{NAME}:best") == first
    assert server.asked["model.ckpt"] == 1
    assert capfd.readouterr() == ("", "")
    # What was kept has changed since: downloaded again.
    first.checkpoint.write_bytes(CONTENT.swapcase())
    fetch(f"{NAME}:v0")
    assert server.asked["model.ckpt"] == 2
    assert first.checkpoint.read_bytes() == CONTENT
    # Another server has the same bytes under another name, so that nothing is downloaded at all.
    other = serve(Stored("copy", 3, {"model.ckpt": CONTENT}))
    assert fetch("reef/kelp/copy:v3").checkpoint == first.checkpoint
    assert other.asked["model.ckpt"] == 0
    assert kept(cache) == ["model.ckpt"]
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and cache not in p.parents]


def test_a_link_in_the_cache_is_neither_trusted_nor_followed(
    serve: Callable[..., WandbServer], cache: Path, tmp_path: Path
) -> None:
    serve(*versions())
    place = fetch(f"{NAME}:v0").checkpoint
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.rename(elsewhere / "model.ckpt")
    place.symlink_to(elsewhere / "model.ckpt")
    assert fetch(f"{NAME}:v0").checkpoint == place
    assert not place.is_symlink()
    file = _File("model.ckpt", digest_of(CONTENT), "MD5", len(CONTENT), None)
    place.unlink()
    place.parent.rmdir()
    place.parent.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link"):
        _place(NAME, cache, file)


def test_absent_artifacts_and_versions(serve: Callable[..., WandbServer]) -> None:
    serve(*versions())
    message = refusal(f"{NAME}:v7")
    assert f"{NAME}:v7" in message
    assert "the latest is v1: latest" in message
    assert "no such W&B artifact" in refusal("reef/kelp/model-y:v0")


def test_an_artifact_without_a_checkpoint(serve: Callable[..., WandbServer], cache: Path) -> None:
    serve(Stored("parts", 0, {f"part-{number:02d}.bin": b"0" for number in range(12)}))
    message = refusal("reef/kelp/parts:v0")
    assert "part-00.bin" in message
    assert "and 2 more" in message
    assert kept(cache) == []


def test_the_usual_one_of_several_checkpoints(serve: Callable[..., WandbServer], cache: Path) -> None:
    """The files whose names begin like it, which W&B's client downloads as well, are not kept."""
    serve(Stored("several", 0, {"deep/best.ckpt": b"b", "deep/best.ckpt.txt": b"t", "last.ckpt": b"l"}))
    assert fetch("reef/kelp/several:v0").checkpoint.read_bytes() == b"b"
    assert kept(cache) == ["best.ckpt"]


def choose(*paths: str, ref: str | None = None) -> str:
    """The path of the checkpoint among files."""
    return _checkpoint("a/b/c:v0", [_File(path, digest_of(b""), "MD5", 0, ref) for path in paths]).path


def test_which_file_is_the_checkpoint() -> None:
    assert choose("card.json", "checkpoints/epoch=3.CKPT") == "checkpoints/epoch=3.CKPT"
    assert choose("a.ckpt", "model.ckpt") == "model.ckpt"
    for paths in (["a.ckpt", "b.ckpt"], ["best.ckpt", "model.ckpt"], ["x/model.ckpt", "y/model.ckpt"]):
        with pytest.raises(UserError, match=f"several checkpoints \\({paths[0]}, {paths[1]}\\)"):
            choose(*paths)
    with pytest.raises(UserError, match="it holds nothing"):
        choose()
    with pytest.raises(UserError, match=r"at s3://bucket/model\.ckpt"):
        choose("model.ckpt", ref="s3://bucket/model.ckpt")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "", ".", "/tmp/x", "..\\x", "C:\\x", "C:x", "a\0b"])
def test_paths_that_leave_their_folder(path: str) -> None:
    with pytest.raises(UserError, match="would leave its folder"):
        choose("model.ckpt", path)


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


def test_the_other_digest_that_wandb_writes(serve: Callable[..., WandbServer], tmp_path: Path) -> None:
    xxhash = pytest.importorskip("xxhash")
    right = base64.b64encode(xxhash.xxh128(CONTENT).digest()).decode()
    entry = {"digest": right, "extra": {"alg": "XXH128"}}
    serve(Stored("model-x", 0, {"model.ckpt": CONTENT}, manifest={"model.ckpt": entry}))
    checkpoint = fetch(f"{NAME}:v0").checkpoint
    assert checkpoint.read_bytes() == CONTENT
    assert not _is_whole(checkpoint, _File("model.ckpt", digest_of(CONTENT), "XXH128", len(CONTENT), None))


def test_nothing_is_asked_for_where_a_path_leaves_its_folder(serve: Callable[..., WandbServer], cache: Path) -> None:
    path = "../x.ckpt"
    server = serve(Stored("model-x", 0, {"model.ckpt": CONTENT, path: b"x"}))
    message = refusal(f"{NAME}:v0")
    assert repr(path) in message
    assert "would leave its folder" in message
    assert server.asked["GetArtifactMembershipFileUrls"] == 0
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
    assert "stands still" in refusal(f"{NAME}:v0", timeout=3)
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


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("reef/kelp/model-x:v0", True),
        ("kelp/model-x", True),
        ("model-x:latest", True),
        ("https://wandb.ai/reef/kelp/artifacts/model/model-x/v0", True),
        ("wandb-artifact://reef/kelp/model-x:v0", True),
        ("model-x", False),
        ("runs/kelp/last.ckpt", False),
        ("./kelp/model-x", False),
        ("/data/kelp/model-x", False),
        ("~/kelp", False),
        ("C:\\kelp\\model-x", False),
        ("C:/kelp/model-x", False),
        ("a/b/c/d", False),
    ],
)
def test_artifact_names_and_paths(source: str, is_one: bool) -> None:
    assert is_artifact_name(source) is is_one


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(tmp_path / "file"))
    assert "HAKAI_CACHE_DIR" in refusal(f"{NAME}:v0")

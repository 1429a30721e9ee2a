"""A short run to convert, and a W&B server on the loopback to download from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import write_dataset
from train.configs.loader import load_config
from train.run.fit import train

from .conversions import config_of, save
from .wandb_server import KEY, Stored, WandbServer, serving


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("convert")
    write_dataset(folder / "data")
    loaded = load_config(save(folder / "c.yml", config_of(folder)))
    train(loaded.config, loaded.notices)
    (found,) = (folder / "runs" / "kelp").iterdir()
    return found


@pytest.fixture
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

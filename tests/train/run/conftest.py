"""A small run, and its resumption through the command."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import tiny_config, write_dataset
from train.__main__ import main


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of one epoch with early stopping; its data lie beside it."""
    folder = tmp_path_factory.mktemp("original")
    write_dataset(folder / "data", {"train": [(64, 64)] * 3, "val": [(64, 64)], "test": [(64, 64)]})
    config = tiny_config(folder / "data", folder / "runs", early_stopping={"patience": 5})
    (folder / "c.yml").write_text(yaml.safe_dump(config))
    assert main([str(folder / "c.yml")]) == 0
    (run,) = (folder / "runs" / "p").iterdir()
    return run


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, on a copy of its data."""
    shutil.copytree(original.parents[2] / "data", tmp_path / "data")
    shutil.copytree(original, tmp_path / "runs" / "p" / "run")
    folder = tmp_path / "runs" / "p" / "run"
    config = (folder / "config.yml").read_text()
    (folder / "config.yml").write_text(config.replace(str(original.parents[2]), str(tmp_path)))
    return folder


@pytest.fixture
def resume(run: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that resumes the run for an epoch: exit code, stdout, and stderr without its first line."""

    def command(*more: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["--resume", str(run), "trainer.max_epochs=2", *more])
        out, err = capfd.readouterr()
        return code, out, err.removeprefix("loading ...\n")

    return command


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

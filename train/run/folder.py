"""The folder of a run: what lies where, and how it is made and found again."""

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.files import write_text
from train.configs.config import Config
from train.configs.document import dump

# Lightning starts the other processes of a distributed run with this environment: they must not make their own folders.
_FOLDER_OF_THIS_RUN = "HAKAI_RUN_FOLDER"


@dataclass(frozen=True)
class RunFolder:
    """Paths within a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Table of everything that was measured."""
        return self.path / "metrics.csv"

    @property
    def curves(self) -> Path:
        """Picture of the learning curves."""
        return self.path / "curves.png"

    @property
    def previews(self) -> Path:
        """Folder of predictions beside their labels."""
        return self.path / "previews"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "card.json"

    @property
    def summary(self) -> Path:
        """Scores, times and versions."""
        return self.path / "summary.json"

    @property
    def wandb(self) -> Path:
        """Which W&B run this is."""
        return self.path / "wandb.json"

    def write_config(self, config: Config) -> None:
        """Writes the resolved config; `python -m train` reads it like any other."""
        write_text(
            self.config, "# The resolved config of this run: every key, defaults included.\n" + dump(config.plain())
        )

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Writes plain data; NaN, which JSON doesn't have, becomes null."""
        write_text(path, json.dumps(_without_nan(content), indent=2, ensure_ascii=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and value != value else value


def new_run(config: Config, rank: int) -> RunFolder:
    """Makes `SAVE_DIR/PROJECT/NAME-TIMESTAMP/`; on other ranks than 0 it names the folder that rank 0 made.

    Raises:
        UserError: The folder can't be made or written to.
    """
    inherited = os.environ.get(_FOLDER_OF_THIS_RUN)
    if rank != 0 and inherited:
        return RunFolder(Path(inherited))
    project = Path(config.logging.save_dir).expanduser() / config.logging.project
    stamp = f"{config.logging.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    if rank != 0:
        return RunFolder(project / stamp)
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        path = project / f"{stamp}{suffix}"
        try:
            path.mkdir(parents=True)
            (path / "checkpoints").mkdir()
        except FileExistsError:
            if not project.is_dir():
                raise UserError(f"{project}: a file stands where the folder of runs should be") from None
            continue
        except OSError as error:
            raise UserError(f"{project}: can't be written to: {error.strerror} (logging.save_dir)") from None
        os.environ[_FOLDER_OF_THIS_RUN] = str(path)
        return RunFolder(path)
    raise UserError(f"{project / stamp}: exists already")


def existing_run(path: Path) -> RunFolder:
    """The folder of an earlier run, to resume.

    Raises:
        UserError: It is no run folder, or has no checkpoint to go on from.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder (--resume takes a run folder, such as runs/PROJECT/NAME-TIMESTAMP)")
    if not folder.config.is_file():
        raise UserError(f"{path}: is no run folder: it has no config.yml")
    os.environ[_FOLDER_OF_THIS_RUN] = str(path)
    return folder


def forget_run() -> None:
    """Another run in this process gets a folder of its own."""
    os.environ.pop(_FOLDER_OF_THIS_RUN, None)


def versions() -> dict[str, str]:
    """Versions of what makes a model."""
    found = {"python": platform.python_version()}
    for package in ("hakai-ml-train", "torch", "lightning", "segmentation-models-pytorch", "timm", "albumentations"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of this code, `-dirty` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""The run folder `SAVE_DIR/PROJECT/NAME-TIMESTAMP/`: its paths, how it is created, and how it is found to resume."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.files import write_text
from inference.common.paths import user_path
from train.configs.config import Config
from train.configs.document import dump

CONFIG_HEADER = "# The resolved config of this run: every key, defaults included."
"""First line of the `config.yml` of a run."""
LAST = "last.ckpt"
"""File name of the newest checkpoint."""
# Lightning starts the other processes of a distributed run with this environment: they use the folder of rank 0.
_FOLDER_VARIABLE = "HAKAI_RUN_FOLDER"

RESUMABLE = (
    "max_epoch",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
    "trainer.log_every_n_steps",
    "data_module.num_workers",
    "data_module.pin_memory",
    "data_module.persistent_workers",
    "enable_logging",
    "tags",
    "logging.",
)
"""Keys that may change when a run is resumed: its length, devices and logging. Any other would change its results."""


def is_resumable(key: str) -> bool:
    """Return True if a key of the config may change when a run is resumed."""
    return key in RESUMABLE or key.startswith("logging.")


def dotted_values(config: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= dotted_values(value, f"{within}{key}.")
        else:
            flat[f"{within}{key}"] = value
    return flat


@dataclass(frozen=True)
class RunFolder:
    """Paths within a run folder.

    Attributes:
        path: Path of the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Path of the resolved config."""
        return self.path / "config.yml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Path of the table of all scores."""
        return self.path / "metrics.csv"

    @property
    def curves(self) -> Path:
        """Path of the figure of the learning curves."""
        return self.path / "curves.png"

    @property
    def previews(self) -> Path:
        """Folder of the figures of labels and predictions."""
        return self.path / "previews"

    @property
    def card(self) -> Path:
        """Path of the model card."""
        return self.path / "card.json"

    @property
    def summary(self) -> Path:
        """Path of the summary: scores, times and versions."""
        return self.path / "summary.json"

    @property
    def data(self) -> Path:
        """Path of the record of the data's files, with a digest of each."""
        return self.path / "data.json"

    @property
    def wandb(self) -> Path:
        """Path of the ID of the W&B run."""
        return self.path / "wandb.json"

    def write_config(self, config: Config) -> None:
        """Write the resolved config; `python -m train` reads it like any other."""
        write_text(self.config, f"{CONFIG_HEADER}\n{dump(config.plain())}")

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Write plain data as JSON, with null for NaN, which JSON doesn't have."""
        write_text(path, json.dumps(_without_nan(content), indent=2, ensure_ascii=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and value != value else value


def new_run(config: Config, rank: int) -> RunFolder:
    """Create `SAVE_DIR/PROJECT/NAME-TIMESTAMP/`; on ranks other than 0, return the folder that rank 0 created.

    Raises:
        UserError: The folder can't be created.
    """
    inherited = os.environ.get(_FOLDER_VARIABLE)
    if rank != 0 and inherited:
        return RunFolder(Path(inherited))
    project = user_path(config.logging.save_dir, "logging.save_dir") / config.logging.project
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
                raise UserError(
                    f"{project}: is a file, but must be a folder (logging.save_dir, logging.project)"
                ) from None
            continue
        except OSError as error:
            raise UserError(f"{project}: can't be written to: {error.strerror} (logging.save_dir)") from None
        os.environ[_FOLDER_VARIABLE] = str(path)
        return RunFolder(path)
    raise UserError(f"{project / stamp}: exists already (logging.name)")


def existing_run(path: Path) -> RunFolder:
    """Return the folder of an earlier run, to resume.

    Raises:
        UserError: It is not a run folder, or has no `last.ckpt`.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder (--resume takes a run folder, such as runs/PROJECT/NAME-TIMESTAMP)")
    if not folder.config.is_file():
        raise UserError(f"{path}: is not a run folder (it has no config.yml)")
    last = folder.checkpoints / LAST
    if not last.is_file():
        found = ", ".join(sorted(p.name for p in folder.checkpoints.glob("*.ckpt"))) or "none"
        raise UserError(f"{last}: no such file, so the run can't be resumed (checkpoints: {found})")
    os.environ[_FOLDER_VARIABLE] = str(path)
    return folder


def forget_run_folder() -> None:
    """Remove the run folder from the environment, so that another run in this process gets its own."""
    os.environ.pop(_FOLDER_VARIABLE, None)

"""`--resume-or-start RUN_DIR`: one command for a job that a scheduler may stop and start again.

The run folder is locked before it is looked at, so that of two jobs only one starts or resumes the run.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.common.documents import read_json
from inference.common.errors import UserError
from inference.common.text import limited
from train.configs.config import SHARED, Config
from train.configs.loader import Loaded, load_config
from train.configs.wording import shown
from train.run.folder import CONFIG_HEADER, LAST, RunFolder, dotted_values, is_resumable
from train.run.launch import is_first_process
from train.run.lock import RunLock

OPTION = "--resume-or-start"
_FOLDERS = {"checkpoints", "previews", "wandb"}  # of a run
# A job may copy the data to its node, so that their place differs from job to job; the files themselves are compared.
_DATA = "data_module.data_dir"
_COPIES = {f"{section}.{key}" for copies in SHARED.values() for section, key in copies}  # of shared keys


@dataclass(frozen=True)
class ClaimedRun:
    """Run folder that this process, if it is rank 0, holds the lock of.

    Attributes:
        folder: Run folder.
        resumes: True if it holds a run to resume; False if one is to be started.
    """

    folder: RunFolder
    resumes: bool

    def clear(self) -> None:
        """Remove what a run without a checkpoint has written; leave the folder, which may hold files of the job."""
        run = self.folder
        for path in (run.config, run.data, run.metrics, run.wandb):
            path.unlink(missing_ok=True)
        shutil.rmtree(run.previews, ignore_errors=True)


def claim_run(path: Path, held: ExitStack) -> ClaimedRun:
    """Lock a run folder, creating it if need be, and find out whether it holds a run to resume.

    Args:
        path: Path of the run folder.
        held: Gets the lock.

    Raises:
        UserError: Another process trains in it, or it can be neither a run to resume nor the place of a new one.
    """
    folder = RunFolder(path)
    if is_first_process():
        if not path.exists():
            held.callback(_remove_if_empty, path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "is not a folder" if path.exists() else f"can't be created: {error.strerror or error}"
            raise UserError(f"{OPTION}: {path}: {reason} (give a run folder, or a path for a new one)") from None
        held.callback(RunLock(path).release)
        held.callback(_remove_if_empty, folder.checkpoints)
    if (folder.checkpoints / LAST).is_file():
        return ClaimedRun(folder, resumes=True)
    claimed = ClaimedRun(folder, resumes=False)
    if is_first_process():
        _check_free(folder)
        claimed.clear()  # what a run that was killed before its first checkpoint has left
        try:
            folder.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder.checkpoints}: can't be created: {error.strerror or error} ({OPTION})") from None
    return claimed


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


def _check_free(folder: RunFolder) -> None:
    """Check that a folder without `last.ckpt` has nothing that a new run would replace.

    Raises:
        UserError: It has.
    """
    path, new = folder.path, "or give another folder, for a new run"
    if found := sorted(p.name for p in folder.checkpoints.glob("*.ckpt")):
        raise UserError(
            f"{OPTION}: {folder.checkpoints / LAST}: no such file, so the run can't be resumed (checkpoints: "
            f"{', '.join(limited(found, 3))}; copy one of them to {LAST}, {new})"
        )
    if folder.summary.exists():
        raise UserError(f"{OPTION}: {path}: holds a finished run, whose checkpoints are gone (restore them, {new})")
    others = sorted(p.name for p in path.iterdir() if p.is_dir() and p.name not in _FOLDERS)
    if others:
        raise UserError(
            f"{OPTION}: {path}: is not a run folder, but holds folders: {', '.join(limited(others, 3))} (give a run "
            "folder, or a path for a new one; files such as logs may be in it)"
        )
    if folder.config.exists() and not _is_of_a_run(folder.config):
        raise UserError(
            f"{OPTION}: {folder.config}: is not the config of a run, and would be replaced (move it, {new})"
        )


def _is_of_a_run(config: Path) -> bool:
    with config.open("rb") as file:
        return file.readline().strip() == CONFIG_HEADER.encode()


def resumed_config(wanted: Loaded, config_path: str, folder: RunFolder, force: bool) -> Loaded:
    """Return the config to resume a run with, when the command that started it is given again.

    It is the run's own, with the values that may change when a run is resumed taken from the command.

    Args:
        wanted: Config file with its overrides.
        config_path: Path of the config file as the user gave it.
        folder: Run folder.
        force: True to resume with the command's config where other values differ.

    Raises:
        UserError: Other values differ, and `force` is False.
    """
    own = load_config(folder.config)
    before, after = dotted_values(own.config.plain()), dotted_values(wanted.config.plain())
    differing = {
        key: after.get(key)
        for key in sorted((before.keys() | after.keys()) - _COPIES)
        if not _agrees(after.get(key), before.get(key)) and not _follows_from_data(key, after)
    }
    refused = [key for key in differing if not is_resumable(key) and key != _DATA]
    if refused and force:
        return wanted
    if refused:
        lines = [
            f"{config_path}: {key}: is {shown(differing[key])} now, but the run in {folder.path} has "
            f"{shown(before.get(key))} (undo the change, give another folder for a new run, or add --force)"
            for key in refused
        ]
        raise UserError("\n".join(limited(lines, 8)))
    pairs = [f"{key}={json.dumps(value)}" for key, value in differing.items()]
    changed = [
        f"{key} is {shown(value)} from now on, and was {shown(before.get(key))}"
        for key, value in differing.items()
        if not key.startswith("logging.")
    ]
    loaded = load_config(folder.config, pairs)
    return Loaded(loaded.config, [*loaded.notices, *changed])


def _agrees(wanted: Any, own: Any) -> bool:
    """Return True if a value is that of the run; `auto` stands for what the run found."""
    if isinstance(wanted, list) and isinstance(own, list) and len(wanted) == len(own):
        return all(_agrees(*pair) for pair in zip(wanted, own, strict=True))
    if isinstance(wanted, Mapping) and isinstance(own, Mapping):
        return all(_agrees(wanted.get(key), own.get(key)) for key in wanted.keys() | own.keys())
    return bool(wanted == "auto" and own is not None) or bool(wanted == own)


def _follows_from_data(key: str, wanted: Mapping[str, Any]) -> bool:
    """Return True for a value that a prepared data set fills in."""
    return key == "data_module.class_names" and key not in wanted


def is_finished(folder: RunFolder, config: Config) -> bool:
    """Return True if a run has been trained to its end, and its results are written.

    Args:
        folder: Run folder with a `last.ckpt`.
        config: Config that it would be resumed with.
    """
    from train.run.resume import is_prolonged, read_last_checkpoint

    if not folder.summary.is_file():
        return False
    summary = read_json(folder.summary)
    if not isinstance(summary, dict) or "test_failed" in summary or not isinstance(summary.get("steps"), int):
        return False
    content = read_last_checkpoint(folder)
    try:
        return content.get("global_step") == summary["steps"] and not is_prolonged(content, config)
    except (KeyError, TypeError):  # resuming says what is wrong with the checkpoint
        return False

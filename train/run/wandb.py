"""Logging to Weights & Biases: online with an API key and a network, offline otherwise; it never stops training."""

import logging
import netrc
import os
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from inference.common.documents import read_json
from inference.common.errors import UserError, first_line
from inference.common.text import quoted
from train.configs.config import Config
from train.run.folder import RunFolder

# Their sum stays below the 15 s that training may wait for W&B, with a second for a local start.
REACH_SECONDS = 4.0
INIT_SECONDS = 8.0
LOST_SECONDS = 10.0


class WandbRun:
    """W&B run of a training run.

    Args:
        config: Resolved config with `enable_logging`.
        folder: Run folder; W&B writes its own files to `wandb/` in it.
        notify: Called with each line for the user.

    Attributes:
        run: The `wandb.Run`.
        mode: online, offline or disabled.
    """

    def __init__(self, config: Config, folder: RunFolder, notify: Callable[[str], None]) -> None:
        # Staged artifacts stay in the run folder; by default they would fill the user's cache.
        os.environ.setdefault("WANDB_DATA_DIR", str(folder.path.resolve()))
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        self._wandb = wandb
        self._notify = notify
        self._folder = folder
        settings = wandb.setup().settings
        mode = os.environ.get("WANDB_MODE") or config.logging.mode
        reason = None
        if mode == "online":
            reason = _why_offline(str(settings.base_url), settings.api_key)
            mode = "online" if reason is None else "offline"
        known = _known_id(folder)
        options: dict[str, Any] = {
            "project": config.logging.project,
            "entity": config.logging.entity,
            "name": config.logging.name,
            "tags": config.tags,
            "config": config.plain(),
            "dir": str(folder.path),
            "id": known,
            "resume": "allow" if known else None,
        }
        try:
            self.run = self._start(mode, options)
        except Exception as error:  # no failure of W&B may stop training
            reason = first_line(error)
            mode = "offline"
            # W&B's own process still holds the ID of the run that it couldn't start.
            self._end_service()
            try:
                self.run = self._start(mode, options)
            except Exception as second:
                mode = "disabled"
                self.run = self._start(mode, options)
                notify(f"W&B: nothing is recorded: {first_line(second)}")
        self.mode = mode
        folder.write_json(folder.wandb, {"id": self.run.id, "project": config.logging.project, "mode": mode})
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step")
        if mode == "online":
            notify(f"W&B: {self.run.url}")
        elif mode == "offline":
            because = f" ({reason})" if reason else ""
            notify(f"W&B: recorded offline{because}; upload later with: wandb sync {self.sync_dir}")

    def _start(self, mode: Any, options: Mapping[str, Any]) -> Any:
        quiet = self._wandb.Settings(init_timeout=INIT_SECONDS, silent=True, console="off")
        if mode != "online":
            options = {**options, "resume": None}  # a new part of the same run; `wandb sync` joins the parts
        return self._wandb.init(mode=mode, settings=quiet, **options)

    def _end_service(self) -> None:
        """End W&B's own process; one that doesn't end in time is left, and a new one is started beside it."""
        ending = threading.Thread(target=self._wandb.teardown, args=(1,), daemon=True)
        ending.start()
        ending.join(REACH_SECONDS)

    @property
    def sync_dir(self) -> Path:
        """Folder to upload with `wandb sync`."""
        return Path(self.run.dir).parent

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log values at an optimiser step."""
        self.run.log({**values, "trainer/global_step": step})

    def finish(self, best: Path | None, score: float | None, pictures: Sequence[Path], upload: bool) -> None:
        """Upload figures, config, model card, summary and, if wanted, the best checkpoint; then close the run.

        Args:
            best: Path of the best checkpoint.
            score: Its val dice, which the converter puts into file names.
            pictures: Paths of PNGs.
            upload: True to upload the checkpoint as an artifact.
        """
        wandb = self._wandb
        self.run.log({p.stem: wandb.Image(str(p)) for p in pictures if p.is_file()})
        for path in (self._folder.config, self._folder.card, self._folder.summary):
            if path.is_file():
                # Copied, because W&B would make a link, which breaks if the folder is moved before it is synced.
                copy = shutil.copy(path, self.run.dir)
                self.run.save(copy, base_path=self.run.dir, policy="now")
        if best is not None and upload:
            artifact = wandb.Artifact(f"model-{self.run.id}", type="model", metadata={"score": score})
            artifact.add_file(str(best), name="model.ckpt")
            for path in (self._folder.config, self._folder.card):
                if path.is_file():
                    artifact.add_file(str(path))
            self.run.log_artifact(artifact, aliases=["latest", "best"])
        self.close(0)

    def close(self, exit_code: int) -> None:
        """Close the run; if the connection is lost, the data stay on disk to be uploaded later.

        Args:
            exit_code: Exit code to report to W&B: 0 done, 1 failed, 130 interrupted.
        """
        closing = threading.Thread(target=self.run.finish, args=(exit_code,), daemon=True)
        closing.start()
        lost = 0.0
        while closing.is_alive() and lost < LOST_SECONDS:
            closing.join(REACH_SECONDS)
            if closing.is_alive():
                reachable = self.mode == "offline" or _unreachable(self.run.settings.base_url) is None
                lost = 0.0 if reachable else lost + REACH_SECONDS
        if closing.is_alive():
            self._notify(f"W&B: the connection was lost; upload the rest later with: wandb sync {self.sync_dir}")


def _known_id(folder: RunFolder) -> str | None:
    """Return the ID of the W&B run that earlier parts of this run were logged to; None for a new run.

    Raises:
        UserError: The file that holds it is damaged.
    """
    if not folder.wandb.is_file():
        return None
    content = read_json(folder.wandb)
    found = content.get("id") if isinstance(content, dict) else None
    # W&B names a folder and a file after the ID.
    if not isinstance(found, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found):
        raise UserError(
            f"{folder.wandb}: id: is {quoted(found)}, not the ID of a W&B run (allowed: letters, digits, - and _; "
            "restore it, or remove the file to log to a new W&B run)"
        )
    return found


def _why_offline(base_url: str, key: str | None) -> str | None:
    """Return the reason why W&B can't be used online, in a few words; None where it can."""
    if not (key or os.environ.get("WANDB_API_KEY") or _key_in_netrc(base_url)):
        return "no API key: wandb login"
    return _unreachable(base_url)


def _key_in_netrc(base_url: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _unreachable(base_url: str) -> str | None:
    """Return the reason why the server can't be reached; None where it answers, with an error or without."""
    result: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(base_url, method="HEAD"), timeout=REACH_SECONDS - 1):
                result.append(None)
        except urllib.error.HTTPError:
            result.append(None)
        except (OSError, ValueError) as error:
            result.append(f"{urlparse(base_url).hostname} can't be reached: {getattr(error, 'reason', error)}")

    # A daemon thread, because name resolution has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return result[0] if result else f"{urlparse(base_url).hostname} doesn't answer"

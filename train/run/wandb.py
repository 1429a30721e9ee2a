"""Weights & Biases: online where there is a key and a network, offline otherwise, and never in the way of training."""

import json
import logging
import netrc
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from train.configs.config import Config
from train.run.folder import RunFolder

# Together with the second that a local start takes, under the 15 s that training may wait for W&B.
REACH_SECONDS = 4.0
INIT_SECONDS = 8.0
GONE_SECONDS = 10.0


class Tracker:
    """A W&B run.

    Args:
        config: A resolved config with `enable_logging`.
        folder: The run's folder; W&B's own files go to `wandb/` in it.
        say: Takes lines for the user.
    """

    def __init__(self, config: Config, folder: RunFolder, say: Callable[[str], None]) -> None:
        # Staged artifacts belong to the run as well; by default they would stay in the user's cache.
        os.environ.setdefault("WANDB_DATA_DIR", str(folder.path.resolve()))
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        self._wandb = wandb
        self._say = say
        self._folder = folder
        settings = wandb.setup().settings
        mode = os.environ.get("WANDB_MODE") or config.logging.mode
        reason = None
        if mode == "online":
            reason = _why_offline(str(settings.base_url), settings.api_key)
            mode = "online" if reason is None else "offline"
        known = json.loads(folder.wandb.read_text("utf-8")) if folder.wandb.is_file() else {}
        options: dict[str, Any] = {
            "project": config.logging.project,
            "entity": config.logging.entity,
            "name": config.logging.name,
            "tags": config.tags,
            "config": config.plain(),
            "dir": str(folder.path),
            "id": known.get("id"),
            "resume": "allow" if known else None,
        }
        try:
            self.run = self._start(mode, options)
        except Exception as error:  # whatever W&B stumbles over, training goes on
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            mode = "offline"
            self.run = self._start(mode, options)
        self.mode = mode
        folder.write_json(folder.wandb, {"id": self.run.id, "project": config.logging.project, "mode": mode})
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step")
        if mode == "online":
            say(f"W&B: {self.run.url}")
        elif mode == "offline":
            because = f" ({reason})" if reason else ""
            say(f"W&B: recorded offline{because}; upload later with: wandb sync {self.sync_dir}")

    def _start(self, mode: Any, options: Mapping[str, Any]) -> Any:
        quiet = self._wandb.Settings(init_timeout=INIT_SECONDS, silent=True, console="off")
        if mode != "online":
            options = {**options, "resume": None}  # a new piece of the same run; `wandb sync` puts them together
        return self._wandb.init(mode=mode, settings=quiet, **options)

    @property
    def sync_dir(self) -> Path:
        """What `wandb sync` takes."""
        return Path(self.run.dir).parent

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Records scores at an optimiser step."""
        self.run.log({**values, "trainer/global_step": step})

    def finish(self, best: Path | None, score: float | None, pictures: Sequence[Path], upload: bool) -> None:
        """Adds pictures, config and card, and the best checkpoint where it is wanted; then closes the run.

        Args:
            best: The best checkpoint.
            score: Its val dice: what the converter names its files after.
            pictures: PNGs to show.
            upload: Whether the checkpoint goes up as an artifact.
        """
        wandb = self._wandb
        self.run.log({p.stem: wandb.Image(str(p)) for p in pictures if p.is_file()})
        for path in (self._folder.config, self._folder.card, self._folder.summary):
            if path.is_file():
                # A copy: W&B would leave a link, which breaks when the folder moves before it is synced.
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
        """Ends the run; where the network has gone meanwhile, what is missing stays on disk."""
        closing = threading.Thread(target=self.run.finish, args=(exit_code,), daemon=True)
        closing.start()
        gone = 0.0
        while closing.is_alive() and gone < GONE_SECONDS:
            closing.join(REACH_SECONDS)
            if closing.is_alive():
                reachable = self.mode == "offline" or _unreachable(self.run.settings.base_url) is None
                gone = 0.0 if reachable else gone + REACH_SECONDS
        if closing.is_alive():
            self._say(f"W&B: the network is gone; upload the rest later with: wandb sync {self.sync_dir}")


def _why_offline(base_url: str, key: str | None) -> str | None:
    """Why W&B can't be used online, in a few words; None where it can."""
    if not (key or os.environ.get("WANDB_API_KEY") or _key_in_netrc(base_url)):
        return "no API key: wandb login"
    return _unreachable(base_url)


def _key_in_netrc(base_url: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _unreachable(base_url: str) -> str | None:
    """Why the server doesn't answer; None where it does, whatever it says."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(base_url, method="HEAD"), timeout=REACH_SECONDS - 1):
                outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)
        except (OSError, ValueError) as error:
            outcome.append(f"{urlparse(base_url).hostname} can't be reached: {getattr(error, 'reason', error)}")

    # A daemon thread: nothing else puts a limit on name resolution.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return outcome[0] if outcome else f"{urlparse(base_url).hostname} doesn't answer"

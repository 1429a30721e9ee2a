"""Where a checkpoint comes from: a file, a run folder, or a W&B artifact."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from inference.common.errors import UserError
from train.export.artifact import fetch, is_artifact_name
from train.run.checkpoints import LAST


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk, and what is known about it besides.

    Attributes:
        name: As the user gave it; of an artifact, with its version.
        checkpoint: The file.
        config: The resolved config beside it, where there is one.
        score: Dice that came with it; None where none did.
    """

    name: str
    checkpoint: Path
    config: Path | None = None
    score: float | None = None


def find_source(text: str) -> Source:
    """Finds the checkpoint that a user means; what lies on disk wins over what W&B has under the same name.

    Raises:
        UserError: There is none, or it can't be had.
    """
    path = Path(text).expanduser()
    if "://" in text:
        return _of_artifact(text)
    if path.is_dir():
        return _of_run(path)
    if path.exists() or path.suffix == ".ckpt":
        if not path.exists():
            raise UserError(f"{path}: no such file (give a .ckpt, a run folder or a W&B artifact)")
        return Source(text, path)
    if not is_artifact_name(text):
        raise UserError(
            f"{text}: no such file, nor the name of an artifact (give a .ckpt, a run folder such as runs/PROJECT/NAME, "
            "or ENTITY/PROJECT/NAME:VERSION)"
        )
    try:
        return _of_artifact(text)
    except UserError as error:
        if ":" in text:
            raise
        # A mistyped path looks like the name of an artifact.
        raise UserError(f"{text}: no such file or folder here; as a W&B artifact: {error}") from None


def _of_artifact(name: str) -> Source:
    artifact = fetch(name)
    return Source(artifact.name, artifact.checkpoint, score=_number(artifact.metadata.get("score")))


def _of_run(folder: Path) -> Source:
    """The best checkpoint of a run; the last one where no best was kept."""
    config = folder / "config.yml"
    if not config.is_file():
        raise UserError(f"{folder}: is no run folder: it has no config.yml (give a .ckpt file, or the folder of a run)")
    name = f"checkpoints/{LAST}"
    summary = folder / "summary.json"
    if summary.is_file():
        try:
            best = json.loads(summary.read_text(encoding="utf-8")).get("best") or {}
        except (ValueError, AttributeError) as error:
            raise UserError(f"{summary}: is damaged ({error}); give the .ckpt file in its place") from None
        name = best.get("checkpoint") or name
    checkpoint = folder / name
    if not checkpoint.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{summary}: names a checkpoint outside its folder: {name} (give the .ckpt file)")
    if not checkpoint.is_file():
        kept = sorted(p.name for p in (folder / "checkpoints").glob("*.ckpt"))
        found = f"; there are {', '.join(kept)}: give one of them" if kept else "; the run kept none"
        raise UserError(f"{checkpoint}: no such file{found}")
    return Source(str(folder), checkpoint, config)


def _number(value: object) -> float | None:
    """A score from an artifact's metadata, which may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

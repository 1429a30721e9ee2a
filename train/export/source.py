"""Sources of a checkpoint: a file, a run folder, or a W&B artifact."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.card import ModelCard
from inference.common.documents import read_json
from inference.common.errors import UserError
from inference.common.paths import path_within, user_path
from train.export.artifact import fetch, is_artifact_name
from train.run.folder import LAST


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint on disk with its origin.

    Attributes:
        name: Name that the user gave; for an artifact, with its version.
        checkpoint: Path of the checkpoint.
        config: Path of the run's resolved config; None outside a run folder.
        score: Dice score in the artifact's metadata; None where there is none.
        test_scores: Scores of the test split in the run's card, such as test/dice; the checkpoint was saved before.
    """

    name: str
    checkpoint: Path
    config: Path | None = None
    score: float | None = None
    test_scores: Mapping[str, float] = field(default_factory=dict)


def find_source(text: str) -> CheckpointSource:
    """Find the checkpoint that a string names; a local path wins over an artifact of the same name.

    Args:
        text: Path of a .ckpt file or of a run folder, or name or URL of a W&B artifact.

    Raises:
        UserError: There is no such checkpoint, or it can't be downloaded.
    """
    if "://" in text:
        return _from_artifact(text)
    path = user_path(text, "SOURCE")
    if path.is_dir():
        return _from_run(path)
    if path.exists() or path.suffix == ".ckpt":
        if not path.exists():
            raise UserError(f"{path}: no such file (give a .ckpt, a run folder or a W&B artifact)")
        return CheckpointSource(text, path)
    if not is_artifact_name(text):
        raise UserError(
            f"{text}: neither a file nor an artifact's name (give a .ckpt, a run folder such as runs/PROJECT/NAME, "
            "or ENTITY/PROJECT/NAME:VERSION)"
        )
    try:
        return _from_artifact(text)
    except UserError as error:
        if ":" in text:
            raise
        # A path with a typo has the form of an artifact's name.
        raise UserError(f"{text}: no such file or folder; tried as a W&B artifact: {error}") from None


def _from_artifact(name: str) -> CheckpointSource:
    artifact = fetch(name)
    return CheckpointSource(artifact.name, artifact.checkpoint, score=_number(artifact.metadata.get("score")))


def _from_run(folder: Path) -> CheckpointSource:
    """Return the best checkpoint of a run, or the last one if no best was kept."""
    config = folder / "config.yml"
    if not config.is_file():
        raise UserError(f"{folder}: not a run folder, it has no config.yml (give a .ckpt file or a run folder)")
    name = f"checkpoints/{LAST}"
    summary = folder / "summary.json"
    if summary.is_file():
        try:
            best = read_json(summary).get("best") or {}
            name = best.get("checkpoint") or name
        except UserError as error:
            raise UserError(f"{error} (the summary is damaged: give a .ckpt file of the run instead)") from None
        except AttributeError as error:
            raise UserError(f"{summary}: is damaged ({error}); give a .ckpt file of the run instead") from None
    checkpoint = path_within(folder, name, f"{summary}: best.checkpoint")
    if not checkpoint.is_file():
        kept = sorted(p.name for p in (folder / "checkpoints").glob("*.ckpt"))
        found = f"; there are {', '.join(kept)}: give one of them" if kept else "; the run kept none"
        raise UserError(f"{checkpoint}: no such file{found}")
    return CheckpointSource(str(folder), checkpoint, config, test_scores=_test_scores(folder / "card.json"))


def _test_scores(path: Path) -> dict[str, float]:
    """Return the scores of the test split in a run's card; none while the run isn't finished."""
    try:
        scores = ModelCard.parse(read_json(path), str(path)).scores
    except UserError:
        return {}
    return {name: score for name, score in scores.items() if name.startswith("test/")}


def _number(value: object) -> float | None:
    """Return a finite score from an artifact's metadata, which may have any type; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""Scores and report in Weights & Biases: in the run that trained the model where that is known, else in a new one."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from eval.report.results import Outcome, verdict

_SECONDS = 8.0


def log(found: Outcome, report: Path, folder: Path) -> str:
    """Logs what came out; offline where W&B can't be reached.

    Args:
        found: What came out.
        report: The HTML file.
        folder: Where W&B's own files go.

    Returns:
        Where it went, for the user.
    """
    os.environ.setdefault("WANDB_DATA_DIR", str(folder.resolve()))
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    model, split = found.judged.model, found.judged.split
    known = _run_of(model.run)
    options: dict[str, Any] = {
        "project": known.get("project") or model.card.task,
        "id": known.get("id"),
        "job_type": None if known else "evaluation",
        "dir": str(folder),
        "settings": wandb.Settings(init_timeout=_SECONDS, silent=True, console="off"),
    }
    mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.setup().settings.api_key else "offline")
    try:
        run = wandb.init(mode=mode, resume="allow" if known and mode == "online" else None, **options)
    except Exception as error:  # whatever W&B stumbles over, the scores are kept
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        mode = f"offline ({reason})"
        run = wandb.init(mode="offline", **options)
    prefix = f"eval/{split.name}"
    scores = {f"{prefix}/{name}": value for name, value in found.scores.items() if value == value}
    run.log(scores | {f"{prefix}/report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
    run.summary.update({f"{prefix}/verdict": verdict(found)})
    where = run.url if mode == "online" else f"recorded {mode}; upload later with: wandb sync {Path(run.dir).parent}"
    run.finish()
    return f"W&B: {where}"


def _run_of(folder: Path | None) -> dict[str, Any]:
    """The W&B run that a run folder names."""
    path = None if folder is None else folder / "wandb.json"
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}

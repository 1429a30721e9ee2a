"""Logging of scores and report to Weights & Biases: to the run that trained the model if known, else to a new run."""

import logging
import os
from pathlib import Path
from typing import Any

from eval.report.results import Evaluation
from eval.report.verdict import verdict
from inference.common.documents import read_json
from inference.common.errors import UserError, first_line

_TIMEOUT = 8.0  # seconds to wait for the server before going offline


def log(evaluation: Evaluation, report: Path, folder: Path) -> str:
    """Log the results; offline if W&B can't be reached.

    Args:
        evaluation: Results.
        report: HTML report.
        folder: Folder for the files of W&B.

    Returns:
        Message for the user: the URL of the run, or how to upload an offline record.
    """
    os.environ.setdefault("WANDB_DATA_DIR", str(folder.resolve()))
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    model, split = evaluation.predictions.model, evaluation.predictions.split
    known = _run_of(model.run)
    options: dict[str, Any] = {
        "project": known.get("project") or model.card.task,
        "id": known.get("id"),
        "job_type": None if known else "evaluation",
        "dir": str(folder),
        "settings": wandb.Settings(init_timeout=_TIMEOUT, silent=True, console="off"),
    }
    mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.setup().settings.api_key else "offline")
    try:
        run = wandb.init(mode=mode, resume="allow" if known and mode == "online" else None, **options)
    except Exception as error:  # W&B raises many types; none may cost the user the scores
        reason = first_line(error)
        mode = f"offline ({reason})"
        run = wandb.init(mode="offline", **options)
    prefix = f"eval/{split.name}"
    scores = {f"{prefix}/{name}": value for name, value in evaluation.scores.items() if value == value}
    run.log(scores | {f"{prefix}/report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
    run.summary.update({f"{prefix}/verdict": verdict(evaluation)})
    where = run.url if mode == "online" else f"recorded {mode}; upload later with: wandb sync {Path(run.dir).parent}"
    run.finish()
    return f"W&B: {where}"


def _run_of(folder: Path | None) -> dict[str, str]:
    """Return the W&B run recorded in a run folder; empty if there is none."""
    path = None if folder is None else folder / "wandb.json"
    if path is None or not path.is_file():
        return {}
    try:
        content = read_json(path)
    except UserError:
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)} if isinstance(content, dict) else {}

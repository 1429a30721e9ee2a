"""From models and data to a report: one straight list of steps."""

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.dataset import Split, choose_data, choose_rule, open_split
from eval.models import Model, misnamed, open_model
from eval.report.html import report
from eval.report.results import Outcome, as_csv, as_json, outcome, verdict
from eval.scoring.bootstrap import Counts
from eval.scoring.counting import judge
from eval.scoring.groups import group_images, unplaced
from eval.scoring.scores import Classes, Distance
from inference.common.errors import UserError
from inference.common.files import make_folder, write_text
from train.data.pairs import data_dir

_FILES = ("report.html", "scores.json", "per_image.csv")


@dataclass(frozen=True, kw_only=True)
class Session:
    """What to judge, and how.

    Attributes:
        model: As the user gave it; None: the one in inference/weights.
        config: Its YAML.
        overrides: KEY=VALUE for the YAML.
        data: The data set; None: what the model was trained on, else the demo.
        split: Of it.
        baseline: A second model.
        group: Regular expression for groups of images.
        out: Where the report goes.
        card: JSON in place of the model's card.
        baseline_card: JSON in place of the baseline's card.
        bands: To read, counted from 1.
        ignore_index: Label value that counts nowhere.
        boundary_pixels: How far off outlines may be.
        boundary_metres: The same on the ground.
        threshold: Whether to look for the best threshold on the validation split.
        device: Where to run.
        wandb: Whether to log to W&B.
    """

    model: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    data: str | None = None
    split: str = "test"
    baseline: str | None = None
    group: str | None = None
    out: Path | None = None
    card: Path | None = None
    baseline_card: Path | None = None
    bands: Sequence[int] | None = None
    ignore_index: int | None = None
    boundary_pixels: float = 3
    boundary_metres: float = 0.5
    threshold: bool = True
    device: str = "auto"
    wandb: bool = False


def evaluate(session: Session) -> tuple[list[Path], str]:
    """Judges a model.

    Returns:
        What was written, and the verdict.

    Raises:
        UserError: Something to mend; no report is written then.
        CheckFailed: A checkpoint's trace doesn't give its answers.
    """
    if session.baseline is None and session.baseline_card is not None:
        raise UserError("--baseline-card: there is no --baseline")
    with tempfile.TemporaryDirectory(prefix="judge-") as name:
        temporary = Path(name)
        model = open_model(session.model, session.config, session.overrides, session.card, temporary)
        baseline = None
        if session.baseline is not None:
            baseline = open_model(session.baseline, None, (), session.baseline_card, temporary)
            _comparable(model, baseline)
        for notice in (*model.notices, *(baseline.notices if baseline else ())):
            _tell(f"notice: {notice}")
        data, notice = choose_data(model, session.data)
        _tell(f"judging {model.name} on the {session.split} split of {data}")
        if notice is not None:
            _tell(f"notice: {notice}")
        rule = choose_rule(model, session.ignore_index)
        split = open_split(data, session.split, rule, model, session.bands)
        if baseline is not None:
            open_split(data, session.split, rule, baseline, session.bands)
        groups = group_images(split.scenes, session.group)
        out = _folder(session, model)
        found = _judge(session, model, baseline, split, groups, out, temporary)
    return _write(found, out, session), verdict(found)


def _judge(
    session: Session,
    model: Model,
    baseline: Model | None,
    split: Split,
    groups: Sequence[str],
    out: Path,
    temporary: Path,
) -> Outcome:
    distances = (Distance(session.boundary_pixels, "px"), Distance(session.boundary_metres, "m"))
    placed = all(scene.image.georeferenced for scene in split.scenes)
    classes = Classes.of_card(model.card, distances if placed else distances[:1])
    other = None
    if baseline is not None:
        _tell(f"the baseline, {baseline.name}")
        theirs = Split(split.data, split.name, split.scenes, split.rule, tuple(session.bands or baseline.card.bands))
        folder = _made(out / "baseline-masks")
        other = outcome(judge(baseline, theirs, classes, folder, temporary, session.device), classes, groups)
    judged = judge(model, split, classes, _made(out / "masks"), temporary, session.device)
    validation = _validation(session, model, split, classes, temporary)
    alone = unplaced(split.scenes) if session.group is None else 0
    return outcome(judged, classes, groups, validation, other, alone)


def _validation(session: Session, model: Model, split: Split, classes: Classes, temporary: Path) -> tuple[Counts, ...]:
    """Counts on the validation split, to find a threshold with; empty where there is none to be found."""
    if not session.threshold or classes.target != 1 or not (data_dir(split.data) / "val").is_dir():
        return ()
    try:
        validation = open_split(split.data, "val", split.rule, model, session.bands)
    except UserError as error:
        _tell(f"notice: no threshold is offered: {str(error).splitlines()[0]}")
        return ()
    masks = _made(temporary / "val")
    return judge(model, validation, Classes(classes.names, classes.target, ()), masks, temporary, session.device).counts


def _comparable(model: Model, baseline: Model) -> None:
    ours, theirs = model.card.class_names, baseline.card.class_names
    if len(ours) != len(theirs):
        raise UserError(
            f"--baseline: {baseline.name} has {len(theirs)} classes ({', '.join(theirs)}), {model.name} has "
            f"{len(ours)} ({', '.join(ours)}): they can't be compared"
        )
    if model.card.background_index != baseline.card.background_index:
        raise UserError(f"--baseline: {baseline.name} has its background elsewhere: they can't be compared")
    if notice := misnamed(ours, theirs, baseline.name):
        _tell(f"notice: --baseline: {notice}")


def _folder(session: Session, model: Model) -> Path:
    stem = re.sub(r"[^\w.=-]+", "-", Path(model.name).name if "/" in model.name else model.name)
    out = session.out or Path("runs/judged") / f"{stem}-{session.split}"
    make_folder(out, "--out")
    for name in _FILES:  # an old report must not pass for this one's, nor the maps of other images
        (out / name).unlink(missing_ok=True)
    for name in ("masks", "baseline-masks"):
        for path in (out / name).glob("*.tif"):
            path.unlink()
    return out


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _write(found: Outcome, out: Path, session: Session) -> list[Path]:
    text = report(found, out / "panels")
    written = [out / name for name in _FILES]
    for path, content in zip(written, (text, as_json(found), as_csv(found)), strict=True):
        write_text(path, content)
    if session.wandb:
        from eval.report.wandb import log

        _tell(log(found, written[0], out))
    return [*written, out / "masks"]


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()

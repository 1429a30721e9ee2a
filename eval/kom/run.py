"""One model, two programs: maps all images with both, compares them, scores both against the labels."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from eval.dataset import DEMO, Split, choose_rule, open_split
from eval.kom.comparison import REASONS, Difference, compare, map_as_fed
from eval.kom.habitat_mapper import VERSION, default_environment, install, installed_version, refused, registered
from eval.kom.programs import OURS, THEIRS, Entrant, target_of
from eval.models import Model, misnamed
from inference.card import CardError, ModelCard
from inference.common.errors import UserError
from inference.common.files import make_folder
from inference.common.progress import progress
from inference.common.raster import WINDOW_CACHE, environment
from inference.model.card_files import embedded_card
from inference.model.choose import card_for
from train.data.pairs import Scene
from train.data.reader import Reader


@dataclass(frozen=True, kw_only=True)
class Session:
    """What to compare.

    Attributes:
        model: An ONNX file with our card.
        images: GeoTIFFs without labels; empty: a split of `data`.
        data: The data set; None: the demo.
        split: Of it.
        blur: Side of habitat-mapper's median filter, where it post-processes.
        morph: Side of its opening and closing.
        production: Models in use, .onnx or .pt, scored on the same images.
        production_card: JSON of their card, where they carry none and none lies beside them.
        environment: Where habitat-mapper is installed; None: it is, where it isn't yet.
        ignore_index: Label value that counts nowhere.
        out: Where maps are kept; None: nowhere.
    """

    model: Path
    images: Sequence[Path] = ()
    data: str | None = None
    split: str = "test"
    blur: int = 5
    morph: int = 0
    production: Sequence[Path] = ()
    production_card: Path | None = None
    environment: Path | None = None
    ignore_index: int | None = None
    out: Path | None = None


def compare_maps(session: Session) -> int:
    """Compares, and prints what was found.

    Returns:
        0 where the maps agree but for what is known, else 3.

    Raises:
        UserError: Something to mend.
        CheckFailed: habitat-mapper fails.
    """
    card = card_for(session.model, None, "uint8")
    _check(card, session)
    model = Model(session.model.name, session.model, card)
    others = [_production(path, card, session) for path in session.production]
    split = None
    if not session.images:
        rule = choose_rule(model, session.ignore_index)
        split = open_split(session.data or DEMO, session.split, rule, model, None)
        for other in others:
            open_split(split.data, split.name, rule, Model(other.name, other.path, other.card), None)
    environment = session.environment or default_environment()
    if session.environment is None:
        install(environment)
    with ExitStack() as stack:
        if session.out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compared-")))
        else:
            out = session.out
            make_folder(out, "--out")
        mapper = stack.enter_context(registered(environment, session.model, card))
        version = installed_version(environment)
        if version != VERSION:
            _tell(f"notice: {environment} has habitat-mapper {version}; what is known of it is known of {VERSION}")
        entrant = Entrant(session.model.name, session.model, card, mapper=mapper)
        for other in others:
            other.missing = refused(other.path, other.card)
            if not other.missing:
                other.mapper = stack.enter_context(registered(environment, other.path, other.card, other.card_file))
        where = split.data if split is not None else "images without labels"
        _tell(f"comparing {entrant.name} in habitat-mapper {version} with ours: {where}")
        difference = Difference()
        scenes: Sequence[Scene | Path] = session.images if split is None else split.scenes
        for scene in progress(scenes, len(scenes), "comparing"):
            difference += _one(scene, split, entrant, others, session, out)
    _print(difference, entrant, others, session)
    return 0 if not difference.unexplained else 3


def _check(card: ModelCard, session: Session) -> None:
    if card.bands != list(range(1, len(card.bands) + 1)):
        raise UserError(
            f"{session.model}: takes bands {card.bands}; only models of an image's first bands are compared"
        )
    if len(card.class_names) == 2 and card.threshold != 0.5:
        _tell(f"notice: compared at a threshold of 0.5, habitat-mapper's only one; the card's is {card.threshold:g}")


def _production(path: Path, card: ModelCard, session: Session) -> Entrant:
    """A model in use, to be scored on the same images."""
    if session.images:
        raise UserError(f"--production: {path.name} is scored against labels, and images have none (use --data)")
    if path.suffix.lower() not in {".onnx", ".pt"}:
        raise UserError(f"--production: {path} is no model that can be run (allowed: .onnx, .pt)")
    beside, given = path.with_suffix(".json"), session.production_card
    try:
        if given is None and beside.is_file() and path.is_file() and embedded_card(path) is None:
            given = beside
        theirs = card_for(path, given, "uint8")
    except (UserError, CardError) as error:
        raise UserError(str(error).replace("--card", "--production-card").replace("--model", "--production")) from None
    if len(theirs.class_names) != len(card.class_names) or target_of(theirs) != target_of(card):
        raise UserError(
            f"--production: {path.name} has the classes {', '.join(theirs.class_names)}, {session.model.name} has "
            f"{', '.join(card.class_names)}: they can't be scored on the same labels"
        )
    if notice := misnamed(card.class_names, theirs.class_names, path.name):
        _tell(f"notice: --production: {notice}")
    return Entrant(path.name, path, theirs, given)


def _one(
    scene: Scene | Path,
    split: Split | None,
    entrant: Entrant,
    others: Sequence[Entrant],
    session: Session,
    out: Path,
) -> Difference:
    image = scene if isinstance(scene, Path) else scene.pair.image
    reader = None if split is None else Reader(split.rule)
    with environment(WINDOW_CACHE), tempfile.TemporaryDirectory(prefix="fed-") as name:
        folder = Path(name)
        maps = entrant.map(image, out, session.blur, session.morph)
        entrant.count(maps, scene, reader)
        fed, floats = folder / "fed.tif", folder / "probabilities.tif"
        map_as_fed(image, fed, floats, entrant.path, entrant.card)
        why = out / f"{image.stem}_why.tif"
        difference = compare(image, entrant.card, maps[OURS], maps[THEIRS], fed, floats, why)
        for number, other in enumerate(others):
            theirs = folder / str(number)
            theirs.mkdir()
            other.count(other.map(image, theirs, session.blur, session.morph), scene, reader)
    if reader is not None:
        reader.close()
    return difference


def _print(difference: Difference, entrant: Entrant, others: Sequence[Entrant], session: Session) -> None:
    valid = max(1, difference.valid)

    def line(count: int, text: str) -> str:
        return f"{count:>14,} {count / valid:>9.4%}  {text}"

    lines = [f"{'pixels':>14} {'share':>9}", line(difference.valid, "valid")]
    lines.append(line(difference.valid - difference.different, "the same in both maps"))
    for reason, text in REASONS.items():
        if count := getattr(difference, reason):
            lines.append(line(count, f"differ {text}"))
    if difference.invalid_mapped:
        lines.append(
            f"{difference.invalid_mapped:>14,} {'':>9}  invalid pixels that habitat-mapper maps as a class but 0"
        )
    lines.append(
        line(entrant.changed, f"changed by its post-processing (--blur {session.blur} --morph {session.morph})")
    )
    if entrant.scores:
        target = target_of(entrant.card)
        name = "mean of classes" if target is None else entrant.card.class_names[target]
        lines += ["", f"against the labels ({name}):"]
        if others:
            lines.append(entrant.name)
        lines += entrant.table()
        for other in others:
            lines += [f"{other.name}, in production", *other.table()]
            if other.missing:
                lines.append(f"  not run in habitat-mapper: {other.missing}")
    if difference.unexplained:
        lines += ["", f"the maps differ: {difference.unexplained:,} pixels for no known reason"]
    elif difference.different:
        lines += ["", "the maps agree but for what is known of habitat-mapper"]
    else:
        lines += ["", "the maps agree"]
    if session.out is not None:
        lines.append(f"wrote: {session.out} (maps; *_why.tif: 1 edge, 2 nodata, 3 skipped, 4 rounding, 5 unexplained)")
    sys.stdout.write("\n".join(lines) + "\n")


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()

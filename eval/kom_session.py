"""One model, two programs: maps all images with both, compares them, scores both against the labels."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from eval import confusion
from eval.comparison import REASONS, Difference, compare, map_as_fed
from eval.confusion import Floats
from eval.dataset import DEMO, Split, choose_rule, open_split
from eval.habitat_mapper import VERSION, HabitatMapper, default_environment, install, registered
from eval.models import Model
from inference.card import ModelCard
from inference.models import card_for
from inference.predict import predict
from train.errors import UserError
from train.geotiff import Reader
from train.progress import progress
from train.scenes import GDAL_OPTIONS, Scene, open_raster

_ROWS = 512


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
    environment: Path | None = None
    ignore_index: int | None = None
    out: Path | None = None


class _Found:
    """What has been found so far, over all images."""

    def __init__(self, classes: int) -> None:
        self.difference = Difference()
        self.changed = 0  # pixels that post-processing changes
        self.scores: dict[str, Floats] = {
            who: np.zeros((classes, classes)) for who in ("ours", "habitat-mapper", "habitat-mapper, post-processed")
        }


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
    split = None
    if not session.images:
        split = open_split(session.data or DEMO, session.split, choose_rule(model, session.ignore_index), model, None)
    environment = session.environment or default_environment()
    if session.environment is None:
        install(environment)
    with ExitStack() as stack:
        if session.out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compared-")))
        else:
            out = session.out
            _make(out)
        mapper = stack.enter_context(registered(environment, session.model, card))
        where = split.data if split is not None else "images without labels"
        _tell(f"comparing {session.model.name} in habitat-mapper {VERSION} with ours: {where}")
        found = _Found(len(card.class_names))
        scenes: Sequence[Scene | Path] = session.images if split is None else split.scenes
        for scene in progress(scenes, len(scenes), "comparing"):
            _one(scene, split, mapper, session, out, found)
    _print(found, card, session, labelled=split is not None)
    return 0 if not found.difference.unexplained else 3


def _check(card: ModelCard, session: Session) -> None:
    if card.bands != list(range(1, len(card.bands) + 1)):
        raise UserError(
            f"{session.model}: takes bands {card.bands}; only models of an image's first bands are compared"
        )
    if len(card.class_names) == 2 and card.threshold != 0.5:
        _tell(f"notice: compared at a threshold of 0.5, habitat-mapper's only one; the card's is {card.threshold:g}")


def _one(
    scene: Scene | Path, split: Split | None, mapper: HabitatMapper, session: Session, out: Path, found: _Found
) -> None:
    image = scene if isinstance(scene, Path) else scene.pair.image
    card = mapper.card
    ours, theirs, after = (out / f"{image.stem}{end}.tif" for end in ("_ours", "_habitat-mapper", "_post-processed"))
    threshold = 0.5 if len(card.class_names) == 2 else None
    predict(image, ours, model=mapper.model, threshold=threshold, cog=False, overwrite=True)
    mapper.map(image, theirs)
    mapper.map(image, after, session.blur, session.morph)
    with tempfile.TemporaryDirectory(prefix="fed-") as folder:
        fed, floats = Path(folder) / "fed.tif", Path(folder) / "probabilities.tif"
        map_as_fed(image, fed, floats, mapper.model, card)
        found.difference += compare(image, card, ours, theirs, fed, floats, out / f"{image.stem}_why.tif")
    reader = None if split is None else Reader(split.rule)
    with rasterio.Env(**GDAL_OPTIONS), open_raster(ours) as a, open_raster(theirs) as b, open_raster(after) as c:
        for row in range(0, a.height, _ROWS):
            window = Window(0, row, a.width, min(_ROWS, a.height - row))
            valid = a.dataset_mask(window=window) > 0
            maps = [file.read(1, window=window) for file in (a, b, c)]
            found.changed += int(((maps[1] != maps[2]) & valid).sum())
            if reader is not None and isinstance(scene, Scene):
                label = reader.label(scene, window)
                counted = valid & (label != reader.rule.ignore_index)
                for who, prediction in zip(found.scores, maps, strict=True):
                    found.scores[who] += confusion.count(label, prediction, counted, len(card.class_names))
    if reader is not None:
        reader.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be written to: {error.strerror or error} (choose another --out)") from None


def _print(found: _Found, card: ModelCard, session: Session, labelled: bool) -> None:
    difference = found.difference
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
    lines.append(line(found.changed, f"changed by its post-processing (--blur {session.blur} --morph {session.morph})"))
    if labelled:
        target = 1 - card.background_index if len(card.class_names) == 2 and card.background_index is not None else None
        name = "mean of classes" if target is None else card.class_names[target]
        lines += ["", f"against the labels ({name}):"]
        for who, counts in found.scores.items():
            scores = confusion.class_scores(counts)
            iou, dice = (
                float(confusion.mean_of_present(values) if target is None else values[target])
                for values in (scores["iou"], scores["dice"])
            )
            lines.append(f"  {who:<32} IoU {iou:.4f}  Dice {dice:.4f}")
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

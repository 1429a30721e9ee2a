"""Comparison of inference.py and habitat-mapper on a set of images: maps, differences and scores."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from eval.dataset import DEMO, Split, choose_label_rule, open_split
from eval.kom.comparison import REASONS, Difference, compare, map_emulated_input
from eval.kom.habitat_mapper import VERSION, default_environment, install, installed_version, refusal, registered
from eval.kom.scored_model import OURS, SUFFIXES, THEIRS, ScoredModel
from eval.models import Model, class_name_notice, range_notices
from eval.predictions import image_file
from eval.scoring.counts import target_class
from inference.card import ModelCard
from inference.common import raster
from inference.common.errors import UserError
from inference.common.files import replace, temporary_path
from inference.common.progress import progress
from inference.common.signals import finishing
from inference.common.targets import check_target, make_folder
from inference.common.text import print_line
from inference.model.card_files import embedded_card
from inference.model.choose import card_for
from train.data.pairs import Scene
from train.data.reader import Reader

_REASONS = "_why"
"""End of the name of a raster of reasons, before .tif."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of a comparison, as on the command line.

    Attributes:
        model: ONNX file with a model card.
        images: GeoTIFFs without labels; empty: the images of a split of `data`.
        data: Folder of the data set; None: the demo.
        split: `train`, `val` or `test`.
        blur: Side of habitat-mapper's median filter for the post-processed map, pixels.
        morph: Side of its morphological opening and closing, pixels.
        production: Models in use, .onnx or .pt, to score on the same images.
        production_card: JSON file with their card, if it is neither embedded nor beside them.
        environment: Environment that contains habitat-mapper; None: the default one, created if missing.
        ignore_index: Label value to ignore; None: that of the card.
        out: Folder for the maps; None: they are not kept.
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


def compare_maps(options: ComparisonOptions) -> int:
    """Map all images with both programs, compare the maps, and print the result.

    Returns:
        Exit code: 0 if the maps agree, apart from known differences, else 3.

    Raises:
        UserError: Invalid input.
        CheckFailed: habitat-mapper fails.
    """
    card = card_for(options.model, None, "uint8")
    _check(card, options)
    model = Model(options.model.name, options.model, card)
    others = [_open_production(path, card, options) for path in options.production]
    split = None
    if not options.images:
        rule = choose_label_rule(model, options.ignore_index)
        split = open_split(options.data or DEMO, options.split, rule, model, None)
        for other in others:
            open_split(split.data, split.name, rule, Model(other.name, other.path, other.card), None)
    environment = options.environment or default_environment()
    if options.environment is None:
        install(environment)
    with ExitStack() as stack:
        if options.out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compared-")))
        else:
            out = options.out
            make_folder(out, "--out")
            _check_targets(options, split, out)
        habitat_mapper = stack.enter_context(registered(environment, options.model, card))
        version = installed_version(environment)
        if version != VERSION:
            print_line(
                f"notice: {environment} has habitat-mapper {version}; known differences are those of version {VERSION}"
            )
        scored = ScoredModel(options.model.name, options.model, card, habitat_mapper=habitat_mapper)
        for other in others:
            other.refusal = refusal(other.path, other.card)
            if not other.refusal:
                other.habitat_mapper = stack.enter_context(
                    registered(environment, other.path, other.card, other.card_file)
                )
        source = split.data if split is not None else "images without labels"
        print_line(f"comparing {scored.name} in habitat-mapper {version} and in inference.py: {source}")
        difference = Difference()
        scenes: Sequence[Scene | Path] = options.images if split is None else split.scenes
        for scene in progress(scenes, len(scenes), "comparing"):
            difference += _compare_image(scene, split, scored, others, options, out)
    print_line("\n".join(_result_lines(difference, scored, others, options)), sys.stdout)
    return 0 if not difference.unexplained else 3


def _check_targets(options: ComparisonOptions, split: Split | None, out: Path) -> None:
    """Check that the maps of all images can be written, and replace nothing that the comparison reads."""
    images = options.images if split is None else [Path(scene.image.path) for scene in split.scenes]
    names = [image.stem for image in images] if split is None else [scene.name for scene in split.scenes]
    inputs: dict[str | Path, str] = dict.fromkeys(images, "an image")
    inputs |= dict.fromkeys([] if split is None else [scene.label.path for scene in split.scenes], "a label")
    for name in names:
        for suffix in (*SUFFIXES.values(), _REASONS):
            check_target(out / f"{name}{suffix}.tif", "--out", overwrite=True, inputs=inputs, clear=False)


def _check(card: ModelCard, options: ComparisonOptions) -> None:
    if card.normalization != "standard":
        raise UserError(
            f"{options.model}: its card says normalization: {card.normalization}, which habitat-mapper applies to each "
            "tile by itself and inference.py to the whole image, so every pixel may differ (score it with --production "
            "on the labels of another model's comparison)"
        )
    if card.bands != list(range(1, len(card.bands) + 1)):
        raise UserError(
            f"{options.model}: the model reads bands {card.bands} (allowed: the first bands of an image, in order, "
            "because habitat-mapper reads no others)"
        )
    if len(card.class_names) == 2 and card.threshold != 0.5:
        print_line(
            f"notice: maps are compared at threshold 0.5, the only one of habitat-mapper; the card's is "
            f"{card.threshold:g}"
        )


def _open_production(path: Path, card: ModelCard, options: ComparisonOptions) -> ScoredModel:
    """Open a model in use that is scored on the same labels as the model with `card`."""
    if options.images:
        raise UserError(f"--production: {path.name} is scored against labels, and images have none (use --data)")
    if path.suffix.lower() not in {".onnx", ".pt"}:
        raise UserError(f"--production: {path} is not an exported model (allowed: .onnx, .pt)")
    beside, given = path.with_suffix(".json"), options.production_card
    try:
        if given is None and beside.is_file() and path.is_file() and embedded_card(path) is None:
            given = beside
        other = card_for(path, given, "uint8")
    except UserError as error:
        raise UserError(str(error).replace("--card", "--production-card").replace("--model", "--production")) from None
    if len(other.class_names) != len(card.class_names) or target_class(other) != target_class(card):
        raise UserError(
            f"--production: {path.name} has the classes {', '.join(other.class_names)}, {options.model.name} has "
            f"{', '.join(card.class_names)}: they can't be scored on the same labels"
        )
    if notice := class_name_notice(card.class_names, other.class_names, path.name):
        print_line(f"notice: --production: {notice}")
    return ScoredModel(path.name, path, other, given)


def _compare_image(
    scene: Scene | Path,
    split: Split | None,
    scored: ScoredModel,
    others: Sequence[ScoredModel],
    options: ComparisonOptions,
    out: Path,
) -> Difference:
    """Map one image with both programs and all models, count its pixels and return the difference of the maps."""
    reader = None if split is None else Reader(split.rule)
    # Within the output folder: only whole maps are moved there, and a move between disks could be stopped halfway.
    folder = temporary_path(out / (scene.stem if isinstance(scene, Path) else scene.name))
    with raster.environment(raster.WINDOW_CACHE), ExitStack() as stack:
        folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        image = scene if isinstance(scene, Path) else Path(image_file(scene, folder))
        staging = folder / "maps"
        staging.mkdir()
        maps = scored.map(image, staging, options.blur, options.morph)
        scored.count(maps, scene, reader)
        emulated, probabilities = folder / "emulated.tif", folder / "probabilities.tif"
        map_emulated_input(image, emulated, probabilities, scored.path, scored.card)
        reasons = staging / f"{image.stem}{_REASONS}.tif"
        difference = compare(image, scored.card, maps[OURS], maps[THEIRS], emulated, probabilities, reasons)
        for number, other in enumerate(others):
            other_folder = folder / str(number)
            other_folder.mkdir()
            other.count(other.map(image, other_folder, options.blur, options.morph), scene, reader)
        with finishing():
            for path in staging.iterdir():
                replace(path, out / path.name)
    if reader is not None:
        reader.close()
    return difference


def _result_lines(
    difference: Difference, scored: ScoredModel, others: Sequence[ScoredModel], options: ComparisonOptions
) -> list[str]:
    """Return the printed result: pixels by agreement, scores, and the conclusion."""
    valid = max(1, difference.valid)

    def row(count: int, text: str) -> str:
        return f"{count:>14,} {count / valid:>9.4%}  {text}"

    lines = [f"{'pixels':>14} {'share':>9}", row(difference.valid, "valid")]
    lines.append(row(difference.valid - difference.different, "the same in both maps"))
    for reason, text in REASONS.items():
        if count := getattr(difference, reason):
            lines.append(row(count, f"differ {text}"))
    if difference.invalid_mapped:
        lines.append(
            f"{difference.invalid_mapped:>14,} {'':>9}  invalid, but mapped by habitat-mapper as a class other than 0"
        )
    lines.append(
        row(
            scored.changed,
            f"changed by habitat-mapper's post-processing (--blur {options.blur} --morph {options.morph})",
        )
    )
    if scored.confusion:
        target = target_class(scored.card)
        name = "mean over classes" if target is None else scored.card.class_names[target]
        lines += ["", f"scores against the labels ({name}):"]
        if others:
            lines.append(scored.name)
        lines += scored.table()
        for other in others:
            lines += [f"{other.name}, in production", *other.table()]
            for notice in range_notices(other.name, other.card):
                lines.append(f"  {notice}, so these rows differ")
            if other.refusal:
                lines.append(f"  not run in habitat-mapper: {other.refusal}")
    if difference.unexplained:
        lines += ["", f"the maps differ: {difference.unexplained:,} pixels for no known reason"]
    elif difference.different:
        lines += ["", "the maps agree, apart from known differences of habitat-mapper"]
    else:
        lines += ["", "the maps agree"]
    if options.out is not None:
        lines.append(
            f"wrote: {options.out} (maps; *_why.tif, reason of each difference: 1 edge, 2 nodata, 3 skipped tile, "
            "4 rounding, 5 unexplained)"
        )
    return lines

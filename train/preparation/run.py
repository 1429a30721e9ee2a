"""Steps of a preparation, in order: sources, labels, blocks and splits, statistics, tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path, user_path
from inference.common.text import limited, print_line
from train.data.image_digest import image_digest
from train.data.pairs import join_some
from train.data.prepared import DATASET, LABELS, OVERVIEW, STATISTICS, PreparedSet
from train.data.read_prepared import read_prepared
from train.preparation.band_statistics import write_band_statistics
from train.preparation.cells import Image, Rectangle
from train.preparation.chips import write_chips
from train.preparation.config import PrepareConfig
from train.preparation.count import count_pixels
from train.preparation.geopackage import write_dataset
from train.preparation.label_files import write_labels
from train.preparation.label_sources import ImageLabels, Layers, read_labels
from train.preparation.loader import Loaded
from train.preparation.overview import draw_overview
from train.preparation.record import (
    Record,
    SourceRecord,
    blocks_digest,
    file_digest,
    overview_digest,
    read_record,
    source_key,
)
from train.preparation.report import area_notices, overlap_lines, report, split_notices
from train.preparation.sources import SourceFiles, find_sources
from train.preparation.splits import BlockPlan, plan_blocks
from train.preparation.staging import Staging
from train.preparation.tables import settings_table, source_table
from train.preparation.touching import touch_problems

_MOST_LABELS = 20
"""Label files that are listed one by one when they were written."""


def prepare(loaded: Loaded, check: bool = False, overwrite: bool = False, chips: Path | None = None) -> None:
    """Prepare a data set, and print what it holds.

    Args:
        loaded: The config.
        check: True to do everything but write the data set.
        overwrite: True to replace files that were edited by hand.
        chips: Folder to which the selected blocks are written as images, too.

    Raises:
        UserError: The config or the files can't be used; the data set is as it was before.
    """
    config = loaded.config
    if is_address(config.output_dir):
        text = f"{shown_path(config.output_dir)}: is an address (give a folder on a disk; upload it when it is whole)"
        raise UserError(loaded.line(("output_dir",), text))
    sources = find_sources(loaded)
    target = user_path(config.output_dir, "output_dir")
    digests = [image_digest(source.image_path, source.image) for source in sources]
    before = read_record(target)
    if not check:
        _check_target(target, sources, before, overwrite)
    labels, records, notices = _read(loaded, sources, digests, before, target)
    with Staging(None if check else target, "output_dir") as staging:
        _burn_all(loaded, sources, labels, records, target, staging)
        plan = _plan(config, sources, labels, records, staging.folder / LABELS)
        prepared = PreparedSet(
            staging.folder, settings_table(config, plan), source_table(sources, digests, target), plan.blocks
        )
        lines = [*loaded.notices, *notices, *area_notices(config, records, sources), *plan.notices]
        lines += split_notices(config, sources, plan)
        if check:
            report(config, prepared, records, plan, lines)
            print_line("checked; nothing was written (leave --check out to prepare the data set)")
            return
        write_dataset(staging.folder / DATASET, prepared, [source.image for source in sources])
        lines += write_band_statistics(prepared, {s.name: s.image for s in sources}, records, target)
        record = Record(
            {source.name: records[source.name] for source in sources},
            blocks_digest(plan.blocks),
            overview_digest(plan.blocks, prepared.sources.values(), records),
        )
        if before is None or before.overview != record.overview or not (target / OVERVIEW).is_file():
            draw_overview(staging.folder / OVERVIEW, prepared, [source.image for source in sources])
        record.write(staging.folder)
        old = [] if before is None else [name for name in before.sources if name not in prepared.sources]
        changed = staging.commit()
    for name in old:
        (target / LABELS / f"{name}.tif").unlink(missing_ok=True)
        lines.append(f"labels of {name} were removed: it is no longer in sources")
    report(config, prepared, records, plan, lines)
    print_line("\n".join(_written(target, changed) or [f"{target}: nothing has changed"]))
    if chips is not None:
        count = write_chips(read_prepared(target), chips, overwrite)
        print_line(f"{chips}: {count:,} chips")


def _written(target: Path, changed: Sequence[str]) -> list[str]:
    """Return the paths of the files that were written; of many label files the folder, and how many."""
    labels = [name for name in changed if name.startswith(f"{LABELS}/")]
    if len(labels) <= _MOST_LABELS:
        return [str(target / name) for name in changed]
    names = join_some(Path(name).name for name in labels)
    others = [str(target / name) for name in changed if name not in labels]
    return [f"{target / LABELS}: {len(labels):,} files: {names}", *others]


def _check_target(target: Path, sources: Sequence[SourceFiles], before: Record | None, overwrite: bool) -> None:
    """Check that nothing is lost if the data set is written: neither inputs, nor edits, nor files of other origin.

    Raises:
        UserError: Something would be.
    """
    fix = "--overwrite replaces it; else choose another output_dir"
    inputs = [
        file for source in sources for file in (source.image_path, source.labels, source.areas) if file is not None
    ]
    places = [target / DATASET, target / STATISTICS, *(target / LABELS / f"{source.name}.tif" for source in sources)]
    for file in inputs:
        for place in places:
            if not is_address(str(file)) and place.exists() and Path(file).exists() and place.samefile(file):
                raise UserError(f"output_dir: {place} is read as an input (choose another output_dir)")
    dataset = target / DATASET
    if target.exists() and not target.is_dir():
        raise UserError(f"output_dir: {shown_path(target)}: is a file (give a folder)")
    wal = dataset.with_name(f"{DATASET}-wal")
    if wal.exists() and wal.stat().st_size:
        raise UserError(f"{dataset}: is open in another program, which holds changes back (save and close it there)")
    if overwrite:
        return
    if dataset.exists() and before is None:
        raise UserError(f"{dataset}: exists, and prepare.json beside it doesn't say that it was prepared here ({fix})")
    if dataset.exists() and before is not None:
        try:
            edited = blocks_digest(read_prepared(target).blocks) != before.blocks
        except UserError:
            edited = True
        if edited:
            raise UserError(f"{dataset}: its blocks were edited since they were prepared ({fix})")
    for source in sources:
        label = target / LABELS / f"{source.name}.tif"
        known = None if before is None else before.sources.get(source.name)
        if label.exists() and (known is None or file_digest(label) != known.label):
            raise UserError(f"{label}: was not written by the last preparation, or was changed since ({fix})")


def _read(
    loaded: Loaded, sources: Sequence[SourceFiles], digests: Sequence[str], before: Record | None, target: Path
) -> tuple[list[ImageLabels | None], dict[str, SourceRecord], list[str]]:
    """Read the labels of all images whose labels aren't up to date.

    Returns:
        Labels of each image, None where the label file is up to date; records of those that are; notices.

    Raises:
        UserError: Labels can't be used; a line for each problem.
    """
    config, layers = loaded.config, Layers()
    labels: list[ImageLabels | None] = []
    records: dict[str, SourceRecord] = {}
    problems: list[str] = []
    known_files: dict[str, str] = {}
    keys = []
    for source, digest in zip(sources, digests, strict=True):
        for file in (source.labels, source.areas):
            if file is not None and str(file) not in known_files:  # a survey has one file for all its images
                known_files[str(file)] = "" if is_address(str(file)) else file_digest(Path(file))
        used = [None if file is None else known_files[str(file)] for file in (source.labels, source.areas)]
        keys.append(key := source_key(digest, used, _options(config, source)))
        known = None if before is None else before.sources.get(source.name)
        place = target / LABELS / f"{source.name}.tif"
        fresh = known is not None and key and key == known.key and place.exists() and file_digest(place) == known.label
        if fresh and known is not None:
            records[source.name] = known
            if config.split.by != "column":
                labels.append(None)
                continue
        said = len(layers.notices)
        try:
            read = read_labels(source, config, layers)
            read.notices += tuple(layers.notices[said:])
            labels.append(read)
        except UserError as error:
            problems.append(loaded.line(("sources", source.entry, "labels"), str(error)))
            labels.append(None)
    new = [each for each in labels if each is not None]
    same = [source for source, found in zip(sources, labels, strict=True) if found is None and source.name in records]
    touching = {str(file) for source in same for file in (source.labels, source.areas) if file is not None}
    untouched, notices = touch_problems(new, touching)
    for each in new:
        each.notices += tuple(notices.get(each.source.name, ()))
    for each in new:
        each.label_layer = each.area_layer = None  # the polygons of a survey take hundreds of MiB
    problems += untouched
    if config.overlap == "error":
        problems += overlap_lines(config, [(each.source.image.path, each.overlaps) for each in new])
    if problems:
        raise UserError("\n".join(limited(dict.fromkeys(problems))))
    for source, key, found in zip(sources, keys, labels, strict=True):
        if found is not None and source.name not in records:
            records[source.name] = SourceRecord(
                key,
                "",
                [],
                0,
                {str(index): number for index, number in found.polygon_counts().items()},
                [
                    (*each.classes, each.area if each.area == each.area else None, each.pixels)
                    for each in found.overlaps
                ],
                list(found.notices),
            )
    return labels, records, list(dict.fromkeys(line for source in sources for line in records[source.name].notices))


def _options(config: PrepareConfig, source: SourceFiles) -> list[object]:
    """Return what the labels of an image follow from, beside its files."""
    overlap = config.overlap if isinstance(config.overlap, str) else config.priority
    return [
        source.layer,
        source.areas_layer,
        config.class_names,
        config.classes.column,
        config.values,
        overlap,
        str(config.border_ignore),
        config.all_touched,
    ]


def _burn_all(
    loaded: Loaded,
    sources: Sequence[SourceFiles],
    labels: Sequence[ImageLabels | None],
    records: dict[str, SourceRecord],
    target: Path,
    staging: Staging,
) -> None:
    """Write the label files that aren't up to date.

    Raises:
        UserError: Label rasters can't be used; a line for each.
    """
    (staging.folder / LABELS).mkdir()
    problems = []
    for source, found in zip(sources, labels, strict=True):
        place = Path(LABELS) / f"{source.name}.tif"
        if found is None or records[source.name].label:
            staging.keep(target / place, str(place))
            continue
        try:
            _burn(loaded.config, found, records[source.name], staging.folder / place)
            if found.raster is not None and not sum(records[source.name].classes):
                raise UserError(
                    f"{found.raster}: labels no pixel of {source.image.path} (check that both show one place)"
                )
        except UserError as error:
            problems.append(
                loaded.line(("sources", source.entry, "labels"), str(error)) if found.raster else str(error)
            )
    if problems:
        raise UserError("\n".join(limited(problems)))


def _burn(config: PrepareConfig, labels: ImageLabels, record: SourceRecord, target: Path) -> None:
    """Write a label file, and complete its record."""
    names = config.class_names
    with labels.burning(config.values, len(names)) as (rows, finish):
        found = write_labels(target, labels.source.image, rows, names, finish)
    record.label = file_digest(target)
    record.classes, record.unlabelled = [int(count) for count in found.classes], found.unlabelled


def _plan(
    config: PrepareConfig,
    sources: Sequence[SourceFiles],
    labels: Sequence[ImageLabels | None],
    records: dict[str, SourceRecord],
    folder: Path,
) -> BlockPlan:
    """Lay out the blocks and draw the splits."""
    images = [
        Image(source.name, source.image, source.site, source.date, source.split)
        if found is None
        else Image(
            source.name,
            source.image,
            source.site,
            source.date,
            source.split,
            found.column_areas,
            found.column_values,
        )
        for source, found in zip(sources, labels, strict=True)
    ]
    classes = len(config.class_names)
    used: dict[str, dict[Rectangle, list[int]]] = {source.name: {} for source in sources}

    def count(number: int, areas: Sequence[Rectangle]) -> NDArray[np.int64]:
        source, record = sources[number], records[sources[number].name]
        unknown = [area for area in areas if record.known(area) is None]
        if unknown:
            label = folder / f"{source.name}.tif"
            record.remember(unknown, count_pixels(source.image, label, classes, unknown))
        counts = [record.known(area) or [] for area in areas]
        used[source.name] |= zip(areas, counts, strict=True)
        return np.array(counts, np.int64).reshape(len(areas), classes + 2)

    plan = plan_blocks(images, config.split, config.select, config.tile_size, config.class_names, count)
    for name, found in used.items():
        records[name].keep(found)
    return plan

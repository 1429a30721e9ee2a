"""Report of a preparation: tables of the images and of the classes in each split, and notices."""

import math
import re
import sys
from collections.abc import Mapping, Sequence

from inference.common.text import limited, print_line
from train.data.pairs import join_some
from train.data.prepared import IGNORED, Block, PreparedSet
from train.data.prepared_scenes import resolution_notices
from train.preparation.config import PrepareConfig, distance
from train.preparation.label_sources import is_raster
from train.preparation.overlap_areas import Overlap
from train.preparation.record import SourceRecord
from train.preparation.sources import SourceFiles
from train.preparation.splits import BlockPlan

_MOST_IMAGES = 20


def overlap_lines(config: PrepareConfig, found: Sequence[tuple[str, Sequence[Overlap]]]) -> list[str]:
    """Return a line for each pair of classes whose polygons overlap, with the area and the images.

    Args:
        config: The config.
        found: Path and overlaps of each image.
    """
    pairs: dict[tuple[int, int], list[tuple[str, float, float]]] = {}
    for path, overlaps in found:
        for each in overlaps:
            pairs.setdefault(each.classes, []).append((path, each.area, each.pixels))
    return [
        f"polygons of {_pair(config, pair)} overlap on {_area(sum(a for _, a, _ in where), sum(p for *_, p in where))} "
        f"in {join_some(path for path, *_ in where)} (correct them, or say what counts there: overlap: ignore, or "
        f"overlap: {{priority: [{config.class_names[pair[0]]}, {config.class_names[pair[1]]}]}})"
        for pair, where in sorted(pairs.items())
    ]


def _pair(config: PrepareConfig, pair: tuple[int, int]) -> str:
    return f"{config.class_names[pair[0]]} and {config.class_names[pair[1]]}"


def _area(area: float, pixels: float) -> str:
    return f"{pixels:,.1f} pixels" if math.isnan(area) else f"{area:,.2f} m²"


def area_notices(
    config: PrepareConfig, records: Mapping[str, SourceRecord], sources: Sequence[SourceFiles]
) -> list[str]:
    """Return notices about what counts as labelled where no areas are given, and about overlaps that were settled."""
    lines = []
    whole = [source for source in sources if source.areas is None and records[source.name].polygons]
    if whole:
        counts = [records[source.name] for source in whole]
        total = sum(sum(record.classes) + record.unlabelled for record in counts)
        background = sum(record.classes[0] for record in counts)
        lines.append(
            f"no areas are given for {join_some(source.name for source in whole)}: all that lies outside polygons "
            f"counts as {config.class_names[0]}, {100 * background / total:.1f} % of the pixels (where not everything "
            "was labelled, draw polygons around what was, and give them as areas)"
        )
    empty = [source.name for source in sources if source.labels is None]
    if empty:
        lines.append(
            f"no labels are given for {join_some(empty)}: all that counts as labelled is {config.class_names[0]}"
        )
    pairs: dict[tuple[int, int], list[tuple[str, float, float]]] = {}
    for source in sources:
        for one, other, area, pixels in records[source.name].overlaps:
            metres = math.nan if area is None else area
            pairs.setdefault((one, other), []).append((source.name, metres, pixels))
    for pair, where in sorted(pairs.items()):
        effect = "pixels without a label" if config.overlap == "ignore" else _winner(config, pair)
        shared = _area(sum(a for _, a, _ in where), sum(p for *_, p in where))
        images = join_some(name for name, *_ in where)
        lines.append(f"polygons of {_pair(config, pair)} overlap on {shared} in {images}: {effect}")
    return lines


def split_notices(config: PrepareConfig, sources: Sequence[SourceFiles], plan: BlockPlan) -> list[str]:
    """Return notices about images without georeference, and about splits that have no block."""
    lines = []
    unplaced = [source.name for source in sources if not source.image.georeferenced]
    if unplaced:
        lines.append(
            f"not georeferenced: {join_some(unplaced)}: blocks are laid out and kept apart in pixels "
            f"({plan.guard_pixels} pixels), they have no outline in dataset.gpkg, and whether images show the same "
            "ground isn't known"
        )
    if config.split.folds is None:
        used = {block.split for block in plan.blocks if block.selected}
        lines += [
            f"no block is in {split}, which training needs (give it sources or a share)"
            for split in ("train", "val")
            if split not in used
        ]
    rasters = [source.name for source in sources if source.labels is not None and is_raster(source.labels)]
    if rasters and distance(config.border_ignore).value:
        lines.append(f"border_ignore: the outlines of classes in label rasters are kept: {join_some(rasters)}")
    return lines


def _winner(config: PrepareConfig, pair: tuple[int, int]) -> str:
    order = config.priority
    first = min(pair, key=lambda index: (order.index(index) if index in order else len(order), -index))
    return f"{config.class_names[first]} there"


def report(
    config: PrepareConfig,
    prepared: PreparedSet,
    records: Mapping[str, SourceRecord],
    plan: BlockPlan,
    notices: Sequence[str],
) -> None:
    """Print notices to stderr, and tables of images and splits to stdout."""
    for line in limited([*notices, *resolution_notices(prepared.sources.values())]):
        print_line(f"notice: {line}")
    print_line("\n".join([*_images(config, prepared, records), "", *_splits(config, prepared, plan)]), sys.stdout)


def _images(config: PrepareConfig, prepared: PreparedSet, records: Mapping[str, SourceRecord]) -> list[str]:
    """Return the table of the images."""
    names = config.class_names
    counted = [
        index for index in (*range(len(names)), IGNORED) if any(str(index) in r.polygons for r in records.values())
    ]
    header = ["image", "pixels", "m/pixel", "site", "date"]
    header += [f"{names[index] if index < len(names) else 'ignored'} polygons" for index in counted]
    header += [*names, "unlabelled"]
    rows = []
    for name, source in prepared.sources.items():
        record = records[name]
        total = sum(record.classes) + record.unlabelled
        rows.append(
            [
                name,
                f"{source.width:,} x {source.height:,}",
                "-" if source.gsd is None else f"{source.gsd:.3g}",
                source.site,
                source.date or "-",
                *(f"{record.polygons.get(str(index), 0):,}" for index in counted),
                *(_percent(count, total) for count in (*record.classes, record.unlabelled)),
            ]
        )
    return limited(_table(header, rows), _MOST_IMAGES + 2)


def _splits(config: PrepareConfig, prepared: PreparedSet, plan: BlockPlan) -> list[str]:
    """Return the table of the splits or folds: blocks, and the share of each class beside the wanted one."""
    names = config.class_names
    rows = []
    drawn = config.split.by != "given"
    for split, wanted in plan.wanted.items():
        blocks = [block for block in plan.blocks if block.selected and _name(block, prepared) == split]
        if not blocks and not drawn:
            continue
        pixels = sum(block.height * block.width for block in blocks)
        achieved = plan.achieved[split]
        rows.append(
            [
                split,
                f"{len(blocks):,}",
                f"{pixels / 1e6:,.1f}",
                f"{100 * wanted:.1f} %" if drawn else "given",
                *("-" if math.isnan(share) else f"{100 * share:.1f} %" for share in achieved),
            ]
        )
    header = [
        "fold" if prepared.settings.folds else "split",
        "blocks",
        "Mpx",
        "wanted",
        *(f"of {name}" for name in names),
    ]
    lines = _table(header, rows)
    reasons: dict[str, int] = {}
    for block in plan.blocks:
        if not block.selected:
            kind = re.sub(r" [\d.e-]+ %$", "", block.reason)  # nodata and labelled, without their shares
            reasons[kind] = reasons.get(kind, 0) + 1
    left = ", ".join(f"{kind}: {number:,}" for kind, number in sorted(reasons.items()))
    guard = f"{plan.guard:.3g} m" if plan.guard is not None else f"{plan.guard_pixels} pixels"
    lines.append(
        f"guard {guard}: {100 * plan.lost:.1f} % of the labelled pixels lie within it and are left out"
        + (f"; blocks not selected: {left}" if left else "")
    )
    return lines


def _name(block: Block, prepared: PreparedSet) -> str:
    return block.split if prepared.settings.folds is None or block.fold is None else f"fold {block.fold}"


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a table with aligned columns; the first column is aligned to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]

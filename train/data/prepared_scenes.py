"""Scenes of a prepared data set: its blocks with the headers of their images, which are checked for changes."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from inference.common.errors import UserError
from inference.common.paths import Address
from inference.common.raster import Header, read_header
from inference.common.text import limited
from train.data.image_digest import image_bytes, image_digest
from train.data.overlap import box
from train.data.pairs import Pair, Scene, join_some
from train.data.prepared import DATASET, Block, PreparedSet, Source

_AGAIN = "run python -m train.prepare again"
_LARGEST_DIFFERENCE = 0.25  # of a ground sample distance from the median
_MOST = 20  # lines about files
_THREADS = 8  # files on a network are opened faster side by side


@dataclass(frozen=True)
class _Files:
    """Files of a source: its headers, or its problems."""

    pair: Pair
    image: Header | None = None
    label: Header | None = None
    problem: str = ""


def prepared_scenes(
    prepared: PreparedSet, splits: Mapping[str, Sequence[Block]]
) -> tuple[dict[str, list[Scene]], list[str]]:
    """Return the scenes of blocks by split, after checking that their files are those that were prepared.

    Args:
        prepared: The data set.
        splits: Blocks by split.

    Returns:
        Scenes of the blocks whose files are sound; and problems, one line for each file that is missing or has changed.
    """
    used = {block.source for blocks in splits.values() for block in blocks}
    sources = [source for name, source in prepared.sources.items() if name in used]
    with ThreadPoolExecutor(min(_THREADS, max(1, len(sources)))) as pool:
        opened = list(pool.map(lambda source: _open(prepared, source), sources))
    files = {source.name: found for source, found in zip(sources, opened, strict=True)}
    scenes = {
        split: [
            Scene(found.pair, found.image, found.label, block, prepared.sources[block.source].site)
            for block in blocks
            if (found := files[block.source]).image is not None and found.label is not None
        ]
        for split, blocks in splits.items()
    }
    return scenes, limited([found.problem for found in opened if found.problem], _MOST)


def _open(prepared: PreparedSet, source: Source) -> _Files:
    """Read the headers of a source's files, and compare them with what was prepared."""
    label = prepared.label(source.name)
    table = f"{prepared.folder / DATASET}: sources"
    pair = Pair(Path(source.image), label)
    try:
        image = prepared.image(source.name)
        pair = Pair(Address(image) if isinstance(image, str) else image, label)
        header = read_header(image, "an image", f'image of "{source.name}" in {table}: put it back, or {_AGAIN}')
        if change := _change(image, header, source):
            return _Files(pair, problem=f"{image}: has changed since it was prepared: {change} ({_AGAIN})")
        found = read_header(str(label), "a label raster", _AGAIN)
    except UserError as error:
        return _Files(pair, problem=str(error))
    except ValueError as error:  # of Address.joined
        return _Files(pair, problem=f"{table}: {error} (upload the images to their place beside the data set)")
    if (found.height, found.width, found.count) != (header.height, header.width, 1):
        return _Files(
            pair,
            problem=f"{label}: is {found.width}x{found.height} pixels with {found.count} bands, its image is "
            f"{header.width}x{header.height} (a label has one band and a pixel for each of its image's: {_AGAIN})",
        )
    return _Files(pair, header, found)


def _change(image: Path | str, header: Header, source: Source) -> str:
    """Return what has changed of an image; empty if nothing has."""
    found, known = (f"{each.width}x{each.height} pixels" for each in (header, source))
    if found != known:
        return f"it was {known}, is {found}"
    if (header.count, header.dtype) != (source.bands, source.dtype):
        return f"it had {source.bands} bands of {source.dtype}, has {header.count} of {header.dtype}"
    size = image_bytes(image)
    if size is None and source.bytes is not None:
        return ""  # uploaded since; an address tells neither its size nor its content
    if size != source.bytes and source.bytes is not None:
        return f"it was {source.bytes:,} bytes, is {size:,}"
    if image_digest(image, header, content=source.bytes is not None) != source.sha256:
        return "its content (SHA-256 of size, header, first and last MiB)"
    return ""


def guard_problems(prepared: PreparedSet, scenes: Mapping[str, Sequence[Scene]]) -> list[str]:
    """Return a line for each block that lies nearer to blocks of other splits than the guard distance.

    Splits that `train.prepare` drew have no such block; an edit of `split`, `fold` or `selected` may make one.
    """
    from train.data.guard import too_close

    blocks = [
        replace(scene.block, split=split, fold=None)
        for split, found in scenes.items()
        for scene in found
        if scene.block is not None
    ]
    headers = {scene.block.source: scene.image for found in scenes.values() for scene in found if scene.block}
    settings = prepared.settings
    pairs = too_close(blocks, headers, settings.guard, settings.guard_pixels)
    near: dict[int, dict[int, float]] = {}
    for pair in pairs:
        near.setdefault(pair.first, {})[pair.second] = pair.distance
        near.setdefault(pair.second, {})[pair.first] = pair.distance
    lines = []
    while any(near.values()):
        # A block that was moved to another split is in more pairs than its neighbours.
        worst = max(near, key=lambda number: len(near[number]))
        block, others = blocks[worst], near.pop(worst)
        shown = join_some(
            f"{blocks[n].block} ({blocks[n].split}, {_far(d, headers, block)})" for n, d in others.items()
        )
        lines.append(
            f"{prepared.folder / DATASET}: blocks: {block.block} ({block.split}) lies nearer to blocks of other splits "
            f"than the guard of {_guard(prepared, headers[block.source])}: {shown} (give them one split, or set "
            f"`selected` to false; {_AGAIN} for new splits)"
        )
        for number in others:
            del near[number][worst]
    return limited(lines, _MOST)


def _guard(prepared: PreparedSet, header: Header) -> str:
    settings = prepared.settings
    placed = settings.guard is not None and box(header) is not None
    return f"{settings.guard:.3g} m" if placed else f"{settings.guard_pixels} pixels"


def _far(distance: float, headers: Mapping[str, Header], block: Block) -> str:
    if not distance:
        return "touches or overlaps it"
    return f"{distance:.3g} {'pixels' if box(headers[block.source]) is None else 'm'}"


def resolution_notices(sources: Iterable[Source]) -> list[str]:
    """Return a notice about images whose ground sample distance is far from that of the others."""
    known = [(source, source.gsd) for source in sources if source.gsd is not None]
    if not known:
        return []
    middle = median(gsd for _, gsd in known)
    off = [(source, gsd) for source, gsd in known if abs(gsd / middle - 1) > _LARGEST_DIFFERENCE]
    if not off:
        return []
    return [
        f"pixels of other sizes on the ground than most ({middle:.3g} m): "
        f"{join_some(f'{source.name} ({gsd:.3g} m)' for source, gsd in off)} (the network sees the same plant at "
        "several sizes; resample with gdalwarp -tr if that is not meant)"
    ]


def tile_notices(prepared: PreparedSet, scenes: Mapping[str, Sequence[Scene]], tile_size: int) -> list[str]:
    """Return notices about windows that are larger than the data set was prepared for."""
    settings, lines = prepared.settings, []
    if tile_size > settings.tile_size:
        guard = f"{settings.guard:g} m" if settings.guard is not None else f"{settings.guard_pixels} pixels"
        lines.append(
            f"tile_size is {tile_size}, but the data were prepared for {settings.tile_size} (blocks of two splits may "
            f"lie only {guard} apart; prepare the data with tile_size: {tile_size})"
        )
    every = [scene for found in scenes.values() for scene in found]
    small = sum(min(scene.height, scene.width) < tile_size for scene in every)
    if small:
        lines.append(
            f"{small} of {len(every)} blocks are smaller than tile_size {tile_size}: their windows are filled up by "
            "reflection, which is not labelled"
        )
    return lines

"""Nodata that the images of a data set don't declare: detection, notices, and the values to use instead."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rasterio.windows import Window

from inference.common.errors import UserError
from inference.common.progress import progress
from inference.common.undeclared import NodataDetector, Suspect, share_text
from train.data.pairs import Scene, join_some
from train.data.reader import Reader

_WHOLE = 1024  # pixels: a side up to this is read whole
_PARTS, _PART = 8, 128  # of a longer side
SAMPLE = 32
"""Images that are looked at before training."""

Suspects = list[tuple[Scene, Suspect]]


def detector_for(scene: Scene) -> NodataDetector:
    """Return a detector for an image all of whose pixels will be read."""
    header = scene.image
    return NodataDetector(header.height, header.width, header.dtype, header.block)


def sample_suspects(scene: Scene, bands: Sequence[int], reader: Reader) -> list[Suspect]:
    """Return an image's undeclared nodata, from the whole image if it is small, else from a grid of 8 x 8 windows.

    The windows are searched as if they were one image; the outermost ones touch its border, as they do in the file.
    """
    rows, cols = _parts(scene.height), _parts(scene.width)
    height, width = (sum(length for _, length in parts) for parts in (rows, cols))
    detector = NodataDetector(height, width, scene.image.dtype)
    top = 0
    for row, high in rows:
        left = 0
        for col, wide in cols:
            image, invalid = reader.image(scene, bands, Window(col, row, wide, high))
            detector.add(top, image.transpose(2, 0, 1), invalid, left)
            left += wide
        top += high
    return detector.suspects()


def _parts(length: int) -> list[tuple[int, int]]:
    """Return the parts of an axis to read, as (first pixel, number of pixels)."""
    if length <= _WHOLE:
        return [(0, length)]
    return [(place * (length - _PART) // (_PARTS - 1), _PART) for place in range(_PARTS)]


def search(scenes: Sequence[Scene], bands: Sequence[int], reader: Reader, most: int) -> Suspects:
    """Look for undeclared nodata in a sample of about `most` images.

    An image that can't be read is passed over: whoever reads it next reports it.
    """
    chosen = scenes[:: -(-len(scenes) // most) or 1] if scenes else []
    suspects: Suspects = []
    for scene in progress(chosen, len(chosen), "looking for undeclared nodata"):
        try:
            suspects += [(scene, suspect) for suspect in sample_suspects(scene, bands, reader)]
        except UserError:
            continue
    return suspects


def likewise(others: int) -> str:
    """Return how many other images something holds for, in brackets; nothing if there are none."""
    return f" ({others} more image{'' if others == 1 else 's'} likewise)" if others else ""


def suspect_notices(suspects: Suspects) -> list[str]:
    """Return a notice for each value that is probably undeclared nodata."""
    lines = []
    for value in sorted({suspect.value for _, suspect in suspects}):
        found = [(suspect.share, str(scene.pair.image)) for scene, suspect in suspects if suspect.value == value]
        share, path = max(found)
        lines.append(
            f"{path}: all bands are {value:.9g} in {share_text(share)} of the pixels{likewise(len(found) - 1)}, which "
            "is probably nodata that the file doesn't declare, and counts as image (data_module.nodata: "
            f"{value:.9g} makes these pixels invalid, auto decides for each file, none keeps them)"
        )
    return lines


def auto_notices(suspects: Suspects) -> list[str]:
    """Return notices about the values that data_module.nodata: auto has found."""
    lines = [f"data_module.nodata: auto: {value:.9g} is nodata in {shown}" for value, shown in _by_value(suspects)]
    return lines or ["data_module.nodata: auto: no image has nodata that it doesn't declare"]


def _by_value(suspects: Suspects) -> Iterable[tuple[float, str]]:
    for value in sorted({suspect.value for _, suspect in suspects}):
        found = sorted(((scene, each) for scene, each in suspects if each.value == value), key=lambda x: -x[1].share)
        yield value, join_some(f"{scene.pair.image} ({share_text(each.share)})" for scene, each in found)


def with_nodata(scene: Scene, value: float | None) -> Scene:
    """Return a scene whose image has this nodata value in all bands; None: no value."""
    return replace(scene, image=replace(scene.image, nodata=(value,) * scene.image.count))

"""Fingerprints of a data set: one digest for the card, and one for each file, to say what has changed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from inference.common.paths import is_address
from inference.common.raster import Header
from train.data.pairs import Scene, whole_images

_SAMPLE = 2**16  # of each of three places in an image file, bytes


def fingerprint(scenes: Sequence[Scene]) -> str:
    """Return a SHA-256 that identifies a data set: names, sizes, grids, label files, and parts of the image files.

    Label files are hashed completely, because a label that is corrected in place keeps its name and often its size.
    Images are large and seldom corrected: 64 KiB at the beginning, the middle and the end of each file are hashed.
    Of blocks, their rectangles are hashed, and each file once.
    """
    digest = hashlib.sha256()
    for scene in sorted(whole_images(scenes), key=lambda s: (s.pair.image.name, s.pair.label.name)):
        for path, header in ((scene.pair.image, scene.image), (scene.pair.label, scene.label)):
            size = _size(header)
            crs = None if header.gcps else header.crs
            digest.update(repr((path.name, size, header.height, header.width, header.count, header.dtype)).encode())
            digest.update(repr((crs and crs.to_wkt(), tuple(header.transform))).encode())
            for part in _parts(header, whole=path == scene.pair.label):
                digest.update(part)
    for line in sorted(_rectangle(scene) for scene in scenes if scene.block is not None):
        digest.update(line.encode())
    return digest.hexdigest()


def file_digests(splits: Mapping[str, Sequence[Scene]]) -> dict[str, str]:
    """Return a SHA-256 of each file, by its path within the data folder, such as train/x/a.tif.

    It covers the size and the same parts of the content as `fingerprint`, and nothing that a library read from it. Of a
    prepared data set there are a digest for each image and label, and one for the rectangle of each block.
    """
    digests = {}
    for split, scenes in splits.items():
        for scene in scenes:
            if scene.block is not None:
                digests[f"{split}/{scene.name}"] = hashlib.sha256(_rectangle(scene).encode()).hexdigest()
    for split, scenes in splits.items():
        for scene in whole_images(scenes):
            image, label = f"{split}/x/{scene.pair.image.name}", f"{split}/y/{scene.pair.label.name}"
            if any(each.block is not None for each in scenes):
                image, label = f"image of {scene.pair.label.stem}", f"labels/{scene.pair.label.name}"
            if image not in digests:
                digests[image] = _file_digest(scene.image, whole=False)
                digests[label] = _file_digest(scene.label, whole=True)
    return digests


def _file_digest(header: Header, whole: bool) -> str:
    digest = hashlib.sha256(str(_size(header)).encode())
    for part in _parts(header, whole):
        digest.update(part)
    return digest.hexdigest()


def _rectangle(scene: Scene) -> str:
    """Return the image and the rectangle of a block as text."""
    return repr((scene.pair.label.name, scene.row, scene.col, scene.height, scene.width))


def _size(header: Header) -> int | None:
    """Return the size of a file in bytes; None for an address."""
    return None if is_address(header.path) else Path(header.path).stat().st_size


def _parts(header: Header, whole: bool) -> Iterator[bytes]:
    """Yield the digest of a whole file, or three parts of its content; nothing of an address."""
    if is_address(header.path):
        return
    path = Path(header.path)
    with path.open("rb") as file:
        if whole:
            yield hashlib.file_digest(file, "sha256").digest()
            return
        size = path.stat().st_size
        for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE):
            file.seek(max(0, start))
            yield file.read(_SAMPLE)

"""Fingerprints of a data set: one digest for the card, and one for each file, to say what has changed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from train.data.pairs import Scene

_SAMPLE = 2**16  # of each of three places in an image file, bytes


def fingerprint(scenes: Sequence[Scene]) -> str:
    """Return a SHA-256 that identifies a data set: names, sizes, grids, label files, and parts of the image files.

    Label files are hashed completely, because a label that is corrected in place keeps its name and often its size.
    Images are large and seldom corrected: 64 KiB at the beginning, the middle and the end of each file are hashed.
    """
    digest = hashlib.sha256()
    for scene in sorted(scenes, key=lambda s: s.pair.image.name):
        for path, header in ((scene.pair.image, scene.image), (scene.pair.label, scene.label)):
            size = path.stat().st_size
            crs = None if header.gcps else header.crs
            digest.update(repr((path.name, size, header.height, header.width, header.count, header.dtype)).encode())
            digest.update(repr((crs and crs.to_wkt(), tuple(header.transform))).encode())
            for part in _parts(path, whole=path == scene.pair.label):
                digest.update(part)
    return digest.hexdigest()


def file_digests(splits: Mapping[str, Sequence[Scene]]) -> dict[str, str]:
    """Return a SHA-256 of each file, by its path within the data folder, such as train/x/a.tif.

    It covers the size and the same parts of the content as `fingerprint`, and nothing that a library read from it.
    """
    digests = {}
    for split, scenes in splits.items():
        for scene in scenes:
            for kind, path in (("x", scene.pair.image), ("y", scene.pair.label)):
                digest = hashlib.sha256(str(path.stat().st_size).encode())
                for part in _parts(path, whole=kind == "y"):
                    digest.update(part)
                digests[f"{split}/{kind}/{path.name}"] = digest.hexdigest()
    return digests


def _parts(path: Path, whole: bool) -> Iterator[bytes]:
    """Yield the digest of a whole file, or three parts of its content."""
    with path.open("rb") as file:
        if whole:
            yield hashlib.file_digest(file, "sha256").digest()
            return
        size = path.stat().st_size
        for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE):
            file.seek(max(0, start))
            yield file.read(_SAMPLE)

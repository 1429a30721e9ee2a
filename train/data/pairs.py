"""Files of a data set: images and labels paired by name, and their headers."""

import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rasterio import Affine

from inference.common.errors import UserError
from inference.common.paths import Address, is_address, user_path
from inference.common.raster import Header, read_header
from train.data.prepared import Block
from train.data.remote_folder import RemoteFolder, remote_folder

# Files that a user may take for images that are used; sidecars, notes and thumbnails are skipped without a notice.
_OTHER_IMAGES = {".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".webp", ".img", ".vrt", ".ecw", ".sid"}
_LOSSY = {".jpg", ".jpeg"}
_NAMED = 3


@dataclass(frozen=True)
class Pair:
    """Files of an image and its label."""

    image: Path | Address
    label: Path | Address

    @property
    def name(self) -> str:
        """Name of the image without its suffix."""
        return self.image.stem


@dataclass(frozen=True)
class Scene:
    """Image and label whose headers have been read and fit each other; or a block of them.

    Attributes:
        pair: Files.
        image: Header of the image file.
        label: Header of the label file.
        block: Part of image and label that the scene consists of; None for all of them.
        site: Name of the place; empty if unknown.
    """

    pair: Pair
    image: Header
    label: Header
    block: Block | None = None
    site: str = ""

    @property
    def name(self) -> str:
        """Name of the block, or of the image without its suffix."""
        return self.pair.name if self.block is None else self.block.block

    @property
    def row(self) -> int:
        """First row in the files, pixels."""
        return 0 if self.block is None else self.block.row

    @property
    def col(self) -> int:
        """First column in the files, pixels."""
        return 0 if self.block is None else self.block.col

    @property
    def height(self) -> int:
        """Rows of the scene, pixels."""
        return self.image.height if self.block is None else self.block.height

    @property
    def width(self) -> int:
        """Columns of the scene, pixels."""
        return self.image.width if self.block is None else self.block.width

    @property
    def transform(self) -> Any:
        """From (column, row) of the scene to the CRS of the image."""
        transform = self.image.transform
        if self.block is None or transform.is_identity:
            return transform
        return transform @ Affine.translation(self.col, self.row)


def whole_images(scenes: Iterable[Scene]) -> list[Scene]:
    """Return a scene for each image that scenes are parts of, in the order of their first parts."""
    images: dict[str, Scene] = {}
    for scene in scenes:
        if scene.image.path not in images:
            images[scene.image.path] = scene if scene.block is None else replace(scene, block=None)
    return list(images.values())


@dataclass(frozen=True)
class Found:
    """Contents of a split's folders.

    Attributes:
        pairs: Images with their labels, sorted by name.
        problems: Errors that the user must fix, a line each.
        notices: Notices for the user, a line each.
    """

    pairs: list[Pair]
    problems: list[str]
    notices: list[str]


@dataclass(frozen=True)
class _Folder:
    path: Path | Address
    tiffs: dict[str, Path | Address]  # by name without suffix
    others: dict[str, Path | Address]  # images of other formats, likewise
    problems: list[str]
    notices: list[str]


def data_dir(name: str) -> Path | RemoteFolder:
    """Return the folder that `data_dir` names; draw the demo data set if that is named, list a remote folder.

    Raises:
        UserError: There is no such folder, or it can't be listed.
    """
    if name.startswith("demo:"):
        from train.data.demo import demo_data_dir

        return demo_data_dir(name)
    if is_address(name):
        return remote_folder(name)
    wanted = "data_module.data_dir: a folder with train/, val/ and test/"
    folder = user_path(name, "data_module.data_dir")
    if folder.is_dir():
        return folder
    found = "is no folder" if folder.exists() else "no such folder"
    raise UserError(f"{folder}: {found} ({wanted})")


def has_folder(data_dir: Path | RemoteFolder, split: str) -> bool:
    """Return True if a data set has a folder for a split."""
    return data_dir.holds(split) if isinstance(data_dir, RemoteFolder) else (data_dir / split).exists()


def find_pairs(data_dir: Path | RemoteFolder, split: str) -> Found:
    """Find the images of a split and their labels, paired by name.

    Problems are a folder that is missing or has no GeoTIFF, an image without a label or with two, a label without an
    image or with two, and a name that occurs twice.
    """
    try:
        if isinstance(data_dir, RemoteFolder):
            if missing := next((f for f in (split, f"{split}/x", f"{split}/y") if not data_dir.holds(f)), None):
                return _missing(data_dir.address / missing, data_dir.folders(missing.rpartition("/")[0]))
            images, labels = (_tiffs(data_dir.address / split / each, _remote(data_dir, split, each)) for each in "xy")
        else:
            for folder in (data_dir / split, data_dir / split / "x", data_dir / split / "y"):
                if not folder.is_dir():
                    return _missing(folder, [p.name for p in sorted(folder.parent.iterdir()) if p.is_dir()])
            images, labels = (_tiffs(data_dir / split / each, _local(data_dir / split / each)) for each in "xy")
    except OSError as error:
        return Found([], [f"{error.filename}: can't be read: {error.strerror} (give yourself access to it)"], [])
    problems, notices = images.problems + labels.problems, images.notices + labels.notices
    if not images.tiffs or not labels.tiffs:
        return Found([], problems, notices)
    pairs, unpaired = _paired(images, labels)
    return Found(pairs, problems + unpaired, notices)


def _missing(folder: Path | Address, found: Sequence[str]) -> Found:
    has = join_some(found) or "no folders"
    return Found([], [f"{folder}: no such folder (a split has images in x/ and labels in y/; found {has})"], [])


def _local(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.is_dir()]


def _remote(data_dir: RemoteFolder, split: str, part: str) -> list[Address]:
    return [data_dir.address / split / part / name for name in data_dir.names(f"{split}/{part}")]


def _paired(images: _Folder, labels: _Folder) -> tuple[list[Pair], list[str]]:
    pairs, problems = [], []
    owner: dict[str, Path | Address] = {}
    for name, image in images.tiffs.items():
        found = [key for key in (f"{name}_label", name) if key in labels.tiffs]
        if not found:
            expected = f"expected {labels.path / image.stem}_label.tif or {image.stem}.tif"
            other = next((labels.others[key] for key in (f"{name}_label", name) if key in labels.others), None)
            convert = "" if other is None else f"; found {other.name}; {_conversion(other, labels=True)}"
            problems.append(f"{image}: has no label ({expected}{convert})")
            continue
        label = labels.tiffs[found[0]]
        if len(found) == 2:
            problems.append(f"{image}: has two labels, {label.name} and {labels.tiffs[found[1]].name} (keep one)")
        elif found[0] in owner:
            problems.append(
                f"{label}: is the label of two images, {owner[found[0]].name} and {image.name} (rename one of them)"
            )
        else:
            pairs.append(Pair(image, label))
        owner |= dict.fromkeys(found, image)
    if not owner and len(images.tiffs) > _NAMED:
        x, y = (join_some(path.name for path in folder.tiffs.values()) for folder in (images, labels))
        return [], [
            f"{labels.path}: no label has the name of an image (NAME.tif needs NAME_label.tif: x/ has {x}; y/ has {y})"
        ]
    problems += [
        f"{path}: has no image in {images.path} (add it, or take the label out)"
        for name, path in labels.tiffs.items()
        if name not in owner
    ]
    return pairs, problems


def _tiffs(folder: Path | Address, files: Sequence[Path | Address]) -> _Folder:
    """Find the GeoTIFFs among the files of a folder, sorted; files whose names begin with a dot are the system's."""
    found = _Folder(folder, {}, {}, [], [])
    others = []
    for path in files:
        # A letter may be encoded as one code point or two: macOS writes é as two.
        name = unicodedata.normalize("NFC", path.stem)
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in {".tif", ".tiff"}:
            others.append(path)
        elif name in found.tiffs:
            found.problems.append(f"{path}: the name stands twice, also as {found.tiffs[name].name} (keep one)")
        else:
            found.tiffs[name] = path
    for path in others:
        if path.suffix.lower() in _OTHER_IMAGES and path.stem not in found.tiffs:  # else it has been converted
            found.others.setdefault(unicodedata.normalize("NFC", path.stem), path)
    images = list(found.others.values())
    if not found.tiffs:
        endings = join_some(sorted({path.suffix or path.name for path in others}))
        has = f"found {endings} files" if others else "the folder is empty"
        convert = f"; {_conversion(images[0], labels=folder.name == 'y')}" if images else ""
        found.problems.append(f"{folder}: no GeoTIFF in it ({has}; expected NAME.tif{convert})")
    elif images:
        found.notices.append(
            f"{folder}: images that are no GeoTIFFs are left out: {join_some(path.name for path in images)} "
            f"({_conversion(images[0], labels=folder.name == 'y')})"
        )
    return found


def _conversion(image: Path | Address, labels: bool) -> str:
    """Return how to convert the images of a folder that have the format of this one, as a command for a shell."""
    if labels and image.suffix.lower() in _LOSSY:
        return f"{image.suffix} files don't keep the values of labels: write the labels anew, as GeoTIFFs or PNGs"
    pattern = f"{shlex.quote(str(image.parent))}/*{image.suffix}"
    return f'convert them with: for f in {pattern}; do gdal_translate "$f" "${{f%.*}}.tif"; done'


def join_some(names: Iterable[str], shown: int = _NAMED) -> str:
    """Join the first few names, and say how many more there are."""
    names = list(names)
    return ", ".join([*names[:shown], *([f"{len(names) - shown} more"] if len(names) > shown else [])])


def read_scenes(pairs: Sequence[Pair]) -> tuple[list[Scene], list[str]]:
    """Read the headers of all pairs.

    Returns:
        The pairs that can be used; and problems, a line each: files that can't be read, and labels whose size or number
        of bands is wrong.
    """
    scenes, problems = [], []
    for pair in pairs:
        headers = []
        for path in (pair.image, pair.label):
            try:
                headers.append(read_header(str(path), "a GeoTIFF", "replace it, or take the pair out"))
            except UserError as error:
                problems.append(str(error))
        if len(headers) < 2:
            continue
        image, label = headers
        if (image.height, image.width) != (label.height, label.width):
            problems.append(
                f"{pair.label}: is {label.width}x{label.height} pixels, its image is {image.width}x{image.height} "
                "(a label has a pixel for each of its image's)"
            )
        elif label.count - len(label.alpha) != 1:
            problems.append(f"{pair.label}: has {label.count} bands (a label has one: the class of each pixel)")
        else:
            scenes.append(Scene(pair, image, label))
    return scenes, problems


def misplaced(scene: Scene) -> float:
    """Return how far a label lies off its image, in the image's pixels; 0 if either has no georeference."""
    image, label = scene.image.transform, scene.label.transform
    if image.is_identity or label.is_identity or image.is_degenerate:
        return 0.0
    corners = [(c, r) for c in (0, scene.width) for r in (0, scene.height)]
    moved = [~image @ (label @ corner) for corner in corners]
    return float(np.abs(np.subtract(moved, corners)).max())


def choose_bands(scene: Scene, bands: Sequence[int] | None, num_bands: int) -> tuple[int, ...]:
    """Return the bands to read, counted from 1: those asked for, or all but an alpha band.

    Raises:
        UserError: The file's bands do not fit the network's.
    """
    header, path = scene.image, scene.pair.image
    if header.palette and bands is None:
        raise UserError(
            f"{path}: its values are indices into a colour table, not colours (expand it with gdal_translate -expand "
            "rgb; to train on the indices themselves: data_module.bands: [1])"
        )
    if bands is not None:
        if max(bands) > header.count:
            raise UserError(
                f"{path}: has {header.count} bands, data_module.bands asks for band {max(bands)} "
                f"(allowed: 1 to {header.count})"
            )
        return tuple(bands)
    chosen = tuple(i for i in range(1, header.count + 1) if i not in header.alpha)
    if len(chosen) == num_bands:
        return chosen
    if header.alpha and header.count == num_bands:
        # GDAL marks the fourth of four uint8 bands as alpha by default, whatever it holds.
        every = ", ".join(map(str, range(1, header.count + 1)))
        raise UserError(
            f"{path}: band {header.alpha[0]} is marked as alpha (transparency), and num_bands is {num_bands} (if it is "
            f"a band like the others, say so with data_module.bands: [{every}]; else set num_bands: {len(chosen)})"
        )
    alpha = " besides alpha" if header.alpha else ""
    choose = "choose with data_module.bands: [1, 2, ...], or " if len(chosen) > num_bands else ""
    raise UserError(
        f"{path}: has {len(chosen)} bands{alpha}, num_bands is {num_bands} ({choose}set num_bands: {len(chosen)})"
    )

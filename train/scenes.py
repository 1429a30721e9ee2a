"""The files of a data set: images and labels paired by name, and what their headers say."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from train.errors import UserError

SPLITS = ("train", "val", "test")

# GDAL takes 5 % of the machine's memory for its block cache by default, and does so in every worker.
# Not EMPTY_DIR: that would hide .msk and .aux.xml files, which say what is valid.
GDAL_OPTIONS = {"GDAL_CACHEMAX": 64 * 2**20, "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}


@dataclass(frozen=True)
class Pair:
    """An image and its label."""

    image: Path
    label: Path

    @property
    def name(self) -> str:
        """The image's name without its ending."""
        return self.image.stem


@dataclass(frozen=True)
class Header:
    """What a GeoTIFF says of itself; height, width and the (height, width) of its blocks in pixels."""

    height: int
    width: int
    block: tuple[int, int]
    count: int
    dtype: str
    nodata: float | None
    alpha: tuple[int, ...]
    crs: Any
    transform: Any


@dataclass(frozen=True)
class Scene:
    """A pair whose headers have been read and fit each other."""

    pair: Pair
    image: Header
    label: Header

    @property
    def height(self) -> int:
        """Of image and label, pixels."""
        return self.image.height

    @property
    def width(self) -> int:
        """Of image and label, pixels."""
        return self.image.width


def find_pairs(data_dir: Path, split: str) -> list[Pair]:
    """Images of a split with their labels, paired by name and sorted by it.

    Raises:
        UserError: A folder is missing or has no GeoTIFF, an image has no label, a label no image, a name stands twice.
    """
    root = data_dir / split
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such folder (data_module.data_dir: a folder with train/, val/ and test/)")
    for folder in (root, root / "x", root / "y"):
        if not folder.is_dir():
            has = ", ".join(sorted(p.name for p in folder.parent.iterdir() if p.is_dir())) or "no folders"
            raise UserError(f"{folder}: no such folder (a split has images in x/ and labels in y/; found {has})")
    images, labels = _by_name(root / "x"), _by_name(root / "y")
    problems, pairs, used = [], [], set()
    for name, image in images.items():
        found = [key for key in (f"{name}_label", name) if key in labels]
        if len(found) == 2:
            problems.append(f"{image}: has two labels, {labels[found[0]].name} and {labels[found[1]].name} (keep one)")
        elif not found:
            problems.append(f"{image}: has no label (expected {root / 'y' / name}_label.tif or {name}.tif)")
        used.update(found)
        pairs += [Pair(image, labels[found[0]])] if found else []
    problems += [f"{labels[name]}: has no image in {root / 'x'}" for name in labels if name not in used]
    if problems:
        raise UserError(_at_most(problems))
    return pairs


def _by_name(folder: Path) -> dict[str, Path]:
    """GeoTIFFs of a folder by their name without ending."""
    found: dict[str, Path] = {}
    others = set()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in {".tif", ".tiff"}:
            others.add(path.suffix)
        elif path.stem in found:
            raise UserError(f"{path}: the name stands twice, also as {found[path.stem].name} (keep one)")
        else:
            found[path.stem] = path
    if not found:
        has = f"found {', '.join(sorted(others))} files" if others else "the folder is empty"
        raise UserError(f"{folder}: no GeoTIFF in it ({has}; expected NAME.tif)")
    return found


def _at_most(problems: Sequence[str], limit: int = 20) -> str:
    more = [f"... and {len(problems) - limit} more"] if len(problems) > limit else []
    return "\n".join([*problems[:limit], *more])


def open_raster(path: Path, **options: str) -> Any:
    """An open rasterio dataset; chips without a CRS are common and no reason for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **options)


def read_header(path: Path) -> Header:
    """What a file says of itself; raises `UserError` where it can't be read as an image of real numbers."""
    try:
        with rasterio.Env(**GDAL_OPTIONS), open_raster(path) as src:
            alpha = tuple(i for i, c in enumerate(src.colorinterp, 1) if c == ColorInterp.alpha)
            dtypes = set(src.dtypes)
            if len(dtypes) > 1 or any("complex" in d for d in dtypes):
                raise UserError(f"{path}: bands of type {', '.join(sorted(dtypes))} (all must be of one real type)")
            return Header(
                height=src.height,
                width=src.width,
                block=src.block_shapes[0],
                count=src.count,
                dtype=src.dtypes[0],
                nodata=src.nodata,
                alpha=alpha,
                crs=src.crs,
                transform=src.transform,
            )
    except RasterioError as error:
        raise UserError(f"{path}: can't be read as a GeoTIFF: {first_line(error)}") from None


def read_scenes(pairs: Sequence[Pair]) -> list[Scene]:
    """Headers of all pairs.

    Raises:
        UserError: Files that can't be read, or labels that don't lie on their image's grid: a line for each.
    """
    scenes, problems = [], []
    for pair in pairs:
        try:
            scene = Scene(pair, read_header(pair.image), read_header(pair.label))
        except UserError as error:
            problems.append(str(error))
            continue
        image, label = scene.image, scene.label
        if (image.height, image.width) != (label.height, label.width):
            problems.append(
                f"{pair.label}: is {label.width}x{label.height} pixels, its image is {image.width}x{image.height}"
            )
        elif label.count - len(label.alpha) != 1:
            problems.append(f"{pair.label}: has {label.count} bands (a label has one)")
        scenes.append(scene)
    if problems:
        raise UserError(_at_most(problems))
    return scenes


def choose_bands(scene: Scene, bands: Sequence[int] | None, num_bands: int) -> tuple[int, ...]:
    """Which bands to read, counted from 1: those asked for, or all but an alpha band.

    Raises:
        UserError: The file has other bands than the network.
    """
    header, path = scene.image, scene.pair.image
    if bands is not None:
        if max(bands) > header.count:
            raise UserError(f"{path}: has {header.count} bands, data_module.bands asks for band {max(bands)}")
        return tuple(bands)
    chosen = tuple(i for i in range(1, header.count + 1) if i not in header.alpha)
    if len(chosen) != num_bands:
        alpha = " besides alpha" if header.alpha else ""
        raise UserError(
            f"{path}: has {len(chosen)} bands{alpha}, num_bands is {num_bands} "
            f"(choose with data_module.bands: [1, 2, ...], or set num_bands: {len(chosen)})"
        )
    return chosen


def first_line(error: Exception) -> str:
    """What went wrong at the bottom of a chain of errors, in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__

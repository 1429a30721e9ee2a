"""The built-in demo data set: small georeferenced tiles of a kelp coast, drawn once and cached.

`data_dir: demo://kelp` lets anybody train a model before they have labelled anything. The tiles come from sixteen made-up
sites (`demo_scene` draws them). A site belongs to one split, so no test pixel was seen in training, and some sites lie
at the edge of their mosaic, where pixels are missing.
"""

import os
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import platformdirs
import rasterio
from rasterio.transform import from_origin
from tqdm import tqdm

from train.demo_scene import IGNORE, PIXEL_SIZE, Bytes, Site, draw_scene, fractal_noise
from train.errors import UserError

# Raise it when the drawing changes: the version is part of the cached folder's name, so that old drawings aren't reused.
VERSION = 1
# An hour is far more than a drawing takes: a temporary folder of that age belongs to a process that was killed.
STALE_AFTER = 3600.0  # seconds
SEED = 2026

CRS = "EPSG:32609"  # UTM 9N, British Columbia's central coast
ORIGIN = (562_000.0, 5_722_000.0)  # easting and northing of the first site, metres
SITE_SPACING = 200.0  # metres from one site to the next, eastwards

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """One site's mosaic and how it is cut.

    Attributes:
        split: Where its tiles go.
        site: The coast to draw.
        missing: How pixels outside the mosaic's slanted outline are marked, if it has one inside the tiles: by the
            nodata value 0 or by a mask band in the file.
        odd: Whether it is cut into tiles of uneven sizes.
    """

    split: Split
    site: Site
    missing: Literal["nodata", "mask"] | None = None
    odd: bool = False


# Column, row, width and height of each tile. The uneven ones are larger and smaller than the usual 256.
EVEN_TILES = ((0, 0, 256, 256), (256, 0, 256, 256), (0, 256, 256, 256), (256, 256, 256, 256))
ODD_TILES = ((0, 0, 256, 256), (256, 0, 384, 256), (0, 256, 300, 270), (300, 256, 200, 240))

SURVEYS = (
    Survey(split="train", site=Site(shore="rock", waterline=0.25, kelp=0.22)),
    Survey(split="train", site=Site(shore="rock", waterline=-0.15, kelp=0.22, islets=5)),
    Survey(split="train", site=Site(shore="sand", waterline=0.2, kelp=0.22), odd=True),
    Survey(split="train", site=Site(shore="rock", waterline=-0.1, kelp=0.25), missing="nodata"),
    Survey(split="train", site=Site(shore="rock", waterline=0.4, kelp=0.22), odd=True),
    Survey(split="train", site=Site(shore="rock", waterline=0.45, kelp=0.0)),
    Survey(split="train", site=Site(shore="rock", waterline=0.1, kelp=0.22, islets=4), missing="mask"),
    Survey(split="train", site=Site(shore="sand", waterline=-0.1, kelp=0.19)),
    Survey(split="train", site=Site(shore="rock", waterline=0.3, kelp=0.28, islets=3)),
    Survey(split="train", site=Site(shore="rock", waterline=-0.3, kelp=0.31)),
    Survey(split="val", site=Site(shore="rock", waterline=0.3, kelp=0.25)),
    Survey(split="val", site=Site(shore="sand", waterline=0.1, kelp=0.22), missing="nodata", odd=True),
    Survey(split="val", site=Site(shore="rock", waterline=-0.1, kelp=0.22, islets=5)),
    Survey(split="test", site=Site(shore="rock", waterline=0.25, kelp=0.25), odd=True),
    Survey(split="test", site=Site(shore="sand", waterline=0.15, kelp=0.22)),
    Survey(split="test", site=Site(shore="rock", waterline=-0.1, kelp=0.22, islets=4), missing="mask"),
)


def demo_data_dir(name: str, cache_dir: Path | None = None, progress: bool = True) -> Path:
    """Give the folder of a demo data set, drawing it on first use.

    The drawing is seeded and cached: the same tiles on every machine, save that another kind of processor may round
    single pixels otherwise. Several processes may ask at once, and an interrupted drawing leaves nothing behind that
    passes for whole.

    Args:
        name: `demo://kelp`.
        cache_dir: Base folder of the cache; by default `HAKAI_CACHE_DIR`, else the user's cache folder.
        progress: Whether to tell of the drawing on stderr.

    Returns:
        The folder with `{train,val,test}/x/NAME.tif` and `{train,val,test}/y/NAME_label.tif`.

    Raises:
        UserError: No such demo data set, or the cache can't be written.
    """
    if name != "demo://kelp":
        raise UserError(f"{name!r}: no such demo data set (allowed: 'demo://kelp')")
    folder = (cache_dir or _default_cache_dir()) / "demo" / f"kelp-v{VERSION}"
    try:
        _clear_stale(folder)
        if not folder.is_dir():
            _draw_whole(folder, progress)
    except OSError as error:
        raise UserError(
            f"{folder}: can't write the demo data set ({error}); "
            "set the environment variable HAKAI_CACHE_DIR to a folder that you may write to"
        ) from error
    return folder


def _default_cache_dir() -> Path:
    chosen = os.environ.get("HAKAI_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hakai-ml-train", appauthor=False))


def _clear_stale(folder: Path) -> None:
    """Remove what killed processes left beside `folder`."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        if time.time() - leftover.stat().st_mtime > STALE_AFTER:
            shutil.rmtree(leftover, ignore_errors=True)


def _draw_whole(folder: Path, progress: bool) -> None:
    """Draw into a temporary sibling and rename it, so that `folder` is there whole or not at all."""
    # No mkdtemp: its private mode would shut colleagues out of a shared cache.
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    if progress:
        tqdm.write(f"Drawing the demo data set into {folder} (once, some ten seconds)", file=sys.stderr)
    try:
        temporary.mkdir(parents=True)
        # disable=None: no bar where stderr is not a terminal.
        for index in tqdm(range(len(SURVEYS)), desc="demo://kelp", unit="site", disable=None if progress else True):
            _draw_survey(temporary, index)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process was first: its drawing is the same, this one goes.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw_survey(folder: Path, index: int) -> None:
    """Draw one site and write its tiles below `folder`."""
    survey = SURVEYS[index]
    rng = np.random.default_rng((SEED, index))
    tiles = ODD_TILES if survey.odd else EVEN_TILES
    height = max(row + rows for _, row, _, rows in tiles)
    width = max(col + cols for col, _, cols, _ in tiles)
    image, label = draw_scene(rng, survey.site, height, width)
    valid = np.ones((height, width), np.bool_)
    if survey.missing:
        valid = _outline(rng, height, width)
        label[~valid] = IGNORE
        # Black is what marks missing pixels by nodata, so no true pixel may be black. Mosaics with masks are white there.
        image = np.maximum(image, 1)
        image[~valid] = 0 if survey.missing == "nodata" else 255

    images, labels = folder / survey.split / "x", folder / survey.split / "y"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number, (col, row, cols, rows) in enumerate(tiles):
        name = f"site{index:02d}_{number}"
        east, north = ORIGIN[0] + index * SITE_SPACING + col * PIXEL_SIZE, ORIGIN[1] - row * PIXEL_SIZE
        cut = np.s_[row : row + rows, col : col + cols]
        _write(
            images / f"{name}.tif",
            image[cut].transpose(2, 0, 1),
            (east, north),
            nodata=0 if survey.missing == "nodata" else None,
            mask=valid[cut] if survey.missing == "mask" else None,
        )
        _write(labels / f"{name}_label.tif", label[cut][None], (east, north))


def _outline(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Which pixels lie inside the mosaic: all but a slanted, ragged strip along one side."""
    near, far = rng.uniform(10, 40), rng.uniform(110, 160)
    edge = np.linspace(near, far, width) + 5 * fractal_noise(rng, (8, width), 40, 4)[0]
    valid = np.arange(height)[:, None] >= edge[None, :]
    return valid[::-1] if rng.uniform() < 0.5 else valid


def _write(
    path: Path,
    bands: Bytes,
    corner: tuple[float, float],
    nodata: int | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write `(bands, H, W)` as a tiled GeoTIFF whose upper left corner lies at `corner` (easting, northing)."""
    count, height, width = bands.shape
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": count, "height": height, "width": width, "nodata": nodata,
        "crs": CRS, "transform": from_origin(*corner, PIXEL_SIZE, PIXEL_SIZE),
        "tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "interleave": "pixel",
        "photometric": "RGB" if count == 3 else "MINISBLACK", "predictor": 2 if count == 3 else 1,
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as raster:
        raster.write(bands)
        if mask is not None:
            raster.write_mask(mask)

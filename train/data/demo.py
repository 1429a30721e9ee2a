"""Built-in demo data sets of a synthetic kelp coast, drawn once and cached.

`data_dir: demo://kelp` allows training a model without labelled data. Its small georeferenced tiles are cut from 36
synthetic sites, which `demo_scene` draws. Each site belongs to one split, so that the splits share no pixels. Some
sites lie at the edge of their mosaic, where pixels are invalid.

`demo://kelp-survey` are whole mosaics with polygons, which `demo_mosaics` draws, for `python -m train.prepare`.
"""

import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import platformdirs
import rasterio
from rasterio import Affine

from inference.common.errors import UserError
from inference.common.paths import user_path
from inference.common.progress import progress as show_progress
from train.data.demo_scene import IGNORE, PIXEL_SIZE, Site, draw_scene, fractal_noise

# Increase it when the drawing changes: it is part of the cache folder's name, so that old drawings are not reused.
VERSION = 1
SEED = 2026
# A drawing takes far less than an hour: a temporary folder of this age belongs to a process that was killed.
STALE_AFTER = 3600.0  # seconds

CRS = "EPSG:32609"  # UTM 9N, British Columbia's central coast
ORIGIN = (562_000.0, 5_722_000.0)  # easting and northing of the first site's upper left corner, metres
SITE_SPACING = 200.0  # metres from one site to the next, eastwards

# Column, row, width and height of each tile in a site's image. Uneven sizes exercise padding, cropping and tiling.
Tiles = tuple[tuple[int, int, int, int], ...]
EVEN: Tiles = ((0, 0, 256, 256), (256, 0, 256, 256))
LARGE: Tiles = ((0, 0, 384, 256), (0, 256, 300, 270))
SMALL: Tiles = ((0, 0, 256, 256), (256, 0, 200, 240))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mosaic:
    """Kind of coast, and storage of its mosaic.

    Attributes:
        site: Coast to draw.
        tiles: Tiles of the mosaic.
        missing: Marking of pixels beyond the mosaic's slanted edge: the nodata value 0, or a mask band inside the file;
            None for a mosaic that covers all tiles.
    """

    site: Site
    tiles: Tiles = EVEN
    missing: Literal["nodata", "mask"] | None = None


MOSAICS = (
    Mosaic(site=Site(shore="rock", waterline=0.3, kelp=0.3)),
    Mosaic(site=Site(shore="rock", waterline=-0.1, kelp=0.3, islets=5), tiles=SMALL),
    Mosaic(site=Site(shore="sand", waterline=0.2, kelp=0.3), tiles=LARGE),
    Mosaic(site=Site(shore="rock", waterline=-0.3, kelp=0.35), missing="nodata"),
    Mosaic(site=Site(shore="rock", waterline=0.5, kelp=0.0)),
    Mosaic(site=Site(shore="rock", waterline=0.1, kelp=0.3, islets=3), missing="mask"),
)
# Each round draws every mosaic once, at new sites: all splits show the same kinds of coast, but different places.
ROUNDS: tuple[Literal["train", "val", "test"], ...] = ("train", "train", "train", "train", "val", "test")


KELP, SURVEY = "demo://kelp", "demo://kelp-survey"
"""Names of the demo data sets."""


def demo_data_dir(name: str, cache_dir: Path | None = None, progress: bool = True) -> Path:
    """Return the folder of the demo data set that training reads, drawing it on first use.

    Args:
        name: Name of the data set, `demo://kelp`.
        cache_dir: Base folder of the cache; `None` for `HAKAI_CACHE_DIR` or else the user's cache folder.
        progress: True to show progress on stderr.

    Returns:
        The folder with `{train,val,test}/x/NAME.tif` and `{train,val,test}/y/NAME_label.tif`.

    Raises:
        UserError: There is no such demo data set, or the cache can't be written.
    """
    if name != KELP:
        raise UserError(f"{name!r}: no such demo data set (allowed: {KELP!r})")
    return _drawn(f"kelp-v{VERSION}", len(ROUNDS) * len(MOSAICS), _draw_site, "sites", cache_dir, progress)


def demo_file(address: str, cache_dir: Path | None = None, progress: bool = True) -> Path:
    """Return the path of a file of the demo survey, drawing it on first use.

    Args:
        address: Address such as `demo://kelp-survey/kelp.gpkg`; the file's name may hold `*`.
        cache_dir: Base folder of the cache; `None` for `HAKAI_CACHE_DIR` or else the user's cache folder.
        progress: True to show progress on stderr.

    Raises:
        UserError: There is no such demo data set, or the cache can't be written.
    """
    name, slash, file = address.removeprefix(SURVEY).partition("/")
    if not address.startswith(SURVEY) or name or not slash or not file or "/" in file or file.startswith("."):
        raise UserError(
            f"{address!r}: no such demo file (allowed: '{SURVEY}/FILE', as in train/configs/demo/prepare.yml)"
        )
    from train.data import demo_mosaics

    folder = _drawn(
        f"kelp-survey-v{VERSION}", len(demo_mosaics.MOSAICS), demo_mosaics.draw_mosaics, "mosaics", cache_dir, progress
    )
    return folder / file


def _drawn(
    name: str, count: int, draw: Callable[[Path, int], None], what: str, cache_dir: Path | None, progress: bool
) -> Path:
    """Return the folder of a demo data set in the cache, drawing it on first use.

    The drawing is seeded: with the same versions of NumPy and OpenCV it has the same pixels on every x86-64 processor.
    On others OpenCV rounds differently, so that a kelp blade may shift (under 1 % of the pixels). The data set is
    cached. Several processes may call this at once, and an interrupted drawing leaves no incomplete data set.

    Args:
        name: Name of the folder.
        count: Number of drawings.
        draw: Draws one of them, by its number, into a folder; they are drawn in order.
        what: Noun for the progress, such as "sites".
        cache_dir: Base folder of the cache; `None` for `HAKAI_CACHE_DIR` or else the user's cache folder.
        progress: True to show progress on stderr.

    Raises:
        UserError: The cache can't be written.
    """
    folder = (cache_dir or _default_cache_dir()) / "demo" / name
    try:
        _clear_stale(folder)
        if not folder.is_dir():
            _draw_whole(folder, count, draw, what, progress)
    except OSError as error:
        raise UserError(
            f"{folder}: can't write the demo data set ({error}); "
            "set the environment variable HAKAI_CACHE_DIR to a folder that you may write to"
        ) from error
    return folder


def _default_cache_dir() -> Path:
    chosen = os.environ.get("HAKAI_CACHE_DIR")
    return (
        user_path(chosen, "HAKAI_CACHE_DIR")
        if chosen
        else Path(platformdirs.user_cache_dir("hakai-ml-train", appauthor=False))
    )


def _clear_stale(folder: Path) -> None:
    """Remove the temporary folders that killed processes left beside `folder`."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        # Another process may have finished with its folder since we saw it.
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(leftover, ignore_errors=True)


def _draw_whole(folder: Path, count: int, draw: Callable[[Path, int], None], what: str, progress: bool) -> None:
    """Draw into a temporary folder beside `folder` and rename it, so that `folder` is never incomplete."""
    # No mkdtemp: its private mode would shut colleagues out of a shared cache.
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    numbers = range(count)
    if progress:
        sys.stderr.write(f"drawing the demo data set into {folder} (once, takes some seconds)\n")
    try:
        temporary.mkdir(parents=True)
        for index in show_progress(numbers, count, f"{what} drawn") if progress else numbers:
            draw(temporary, index)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process was faster: its drawing is the same, and this one is dropped.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw_site(folder: Path, index: int) -> None:
    """Draw one site and write its tiles below `folder`."""
    split, mosaic = ROUNDS[index // len(MOSAICS)], MOSAICS[index % len(MOSAICS)]
    rng = np.random.default_rng((SEED, index))
    height = max(row + rows for _, row, _, rows in mosaic.tiles)
    width = max(col + cols for col, _, cols, _ in mosaic.tiles)
    image, label = draw_scene(rng, mosaic.site, height, width)
    valid = np.ones((height, width), np.bool_)
    if mosaic.missing:
        valid = outline(rng, height, width)
        label[~valid] = IGNORE
        # Black marks nodata, so no valid pixel may be black. Under a mask band the fill value is white.
        image = np.maximum(image, 1)
        image[~valid] = 0 if mosaic.missing == "nodata" else 255

    images, labels = folder / split / "x", folder / split / "y"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number, (col, row, cols, rows) in enumerate(mosaic.tiles):
        name = f"site{index:02d}_{number}"
        corner = (ORIGIN[0] + index * SITE_SPACING + col * PIXEL_SIZE, ORIGIN[1] - row * PIXEL_SIZE)
        cut = np.s_[row : row + rows, col : col + cols]
        write_geotiff(
            images / f"{name}.tif",
            image[cut].transpose(2, 0, 1),
            corner,
            nodata=0 if mosaic.missing == "nodata" else None,
            mask=valid[cut] if mosaic.missing == "mask" else None,
        )
        write_geotiff(labels / f"{name}_label.tif", label[cut][None], corner)


def outline(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask (H, W) of pixels inside the mosaic: all but a slanted, ragged strip along its top or bottom."""
    near, far = rng.uniform(5, 30), rng.uniform(50, 90)
    edge = np.linspace(near, far, width) + 5 * fractal_noise(rng, (8, width), 40, 4)[0]
    inside = np.asarray(np.arange(height)[:, None] >= edge[None, :])
    return inside[::-1] if rng.uniform() < 0.5 else inside


def write_geotiff(
    path: Path,
    bands: npt.NDArray[np.uint8],
    corner: tuple[float, float],
    nodata: int | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write `(bands, H, W)` uint8 as a tiled GeoTIFF with its upper left corner at `corner` (easting, northing)."""
    count, height, width = bands.shape
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": count,
        "height": height,
        "width": width,
        "nodata": nodata,
        "crs": CRS,
        "transform": Affine(PIXEL_SIZE, 0, corner[0], 0, -PIXEL_SIZE, corner[1]),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "interleave": "pixel",
        "photometric": "RGB" if count == 3 else "MINISBLACK",
        "compress": "deflate",
        "predictor": 2 if count == 3 else 1,  # horizontal differences compress images, but not class maps
    }
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as raster:
        raster.write(bands)
        if mask is not None:
            raster.write_mask(mask)

"""Files of a block: a GeoTIFF with the pixels, mask and georeference of its rectangle, which every tool reads."""

from pathlib import Path
from typing import Any

from rasterio.windows import Window

from inference.common.errors import UserError, first_line
from inference.common.files import write_atomically
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster
from train.data.pairs import Scene

CHIP = "CHIP_OF"
"""Metadata item of a chip with the name of its block."""
_ROWS = 1024  # are copied at a time
_TILE = 256  # pixels


def write_chip(scene: Scene, image: Path, label: Path | None = None) -> None:
    """Write the image of a scene as a GeoTIFF, and its label.

    Pixels, nodata values, mask, alpha, colours and descriptions of the bands are those of the files, so that reading
    the chip is the same as reading the block.

    Args:
        scene: Block of an image, or a whole one.
        image: File to write; replaced if it exists.
        label: File of the label to write; None for none.

    Raises:
        UserError: The files can't be read, or the disk is full.
    """
    _copy(scene, scene.image, image)
    if label is not None:
        _copy(scene, scene.label, label)


def _copy(scene: Scene, header: Header, target: Path) -> None:
    try:
        with environment(source=header), open_raster(header.path) as source:
            write_atomically(target, lambda temporary: _write(scene, header, source, temporary))
    except GDAL_ERRORS as error:
        raise UserError(f"{target}: can't be written from {header.path}: {first_line(error)}") from None


def _write(scene: Scene, header: Header, source: Any, path: Path) -> None:
    """Copy the rectangle of a scene, some rows at a time."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": scene.height,
        "width": scene.width,
        "count": header.count,
        "dtype": header.dtype,
        "nodata": header.nodata[0],
        "compress": "deflate",
        "predictor": 3 if header.dtype.startswith("float") else 2,
        "BIGTIFF": "IF_SAFER",
    }
    if min(scene.height, scene.width) > _TILE:
        profile |= {"tiled": True, "blockxsize": _TILE, "blockysize": _TILE}
    if header.crs is not None and not header.transform.is_identity:
        profile |= {"crs": header.crs, "transform": scene.transform}
    with open_raster(path, "w", **profile) as target:
        target.update_tags(**{CHIP: scene.name})
        target.colorinterp = source.colorinterp
        for band, description in enumerate(source.descriptions, 1):
            if description:
                target.set_band_description(band, description)
        if header.palette:
            target.write_colormap(1, source.colormap(1))
        for row in range(0, scene.height, _ROWS):
            high = min(_ROWS, scene.height - row)
            part, place = Window(scene.col, scene.row + row, scene.width, high), Window(0, row, scene.width, high)
            target.write(source.read(window=part), window=place)
            if header.masked:
                target.write_mask(source.read_masks(1, window=part), window=place)

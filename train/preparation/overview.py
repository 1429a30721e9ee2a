"""Overview of a prepared data set: each mosaic small, with its labels, blocks and splits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from rasterio.enums import Resampling

from inference.common.areas import pixel_sides
from inference.common.errors import UserError, first_line
from inference.common.palette import OVERLAY_COLOURS, class_colours
from inference.common.raster import GDAL_ERRORS, Header, environment, open_raster
from inference.common.validity import invalid_pixels
from train.configs.data import SPLITS
from train.data.prepared import IGNORED, Block, PreparedSet
from train.preparation.geopackage import SPLIT_COLOURS, UNUSED_COLOUR
from train.run.figures import figure_style, figure_text, save_figure, scale_bar
from train.run.panels import display_rgb

MOST = 24
"""Images that are drawn; of more, as many are chosen evenly."""
_SIDE = 480  # pixels of a small image
_LABEL_OPACITY = 0.55
_UNLABELLED = 0.45  # brightness of pixels without a label


@dataclass(frozen=True)
class _Small:
    """Small image.

    Attributes:
        rgb: (h, w, 3) float from 0 to 1, labels over it.
        scale: Its size over the image's.
    """

    rgb: NDArray[np.float64]
    scale: float


def draw_overview(path: Path, prepared: PreparedSet, headers: Sequence[Header]) -> None:
    """Draw the overview of a data set as PNG.

    Args:
        path: Path of the PNG.
        prepared: The data set; its label files exist.
        headers: Header of each source, in the order of the sources.

    Raises:
        UserError: A file can't be read.
    """
    names = list(prepared.sources)
    chosen = sorted({round(at) for at in np.linspace(0, len(names) - 1, min(MOST, len(names)))})
    across = min(len(chosen), 3 if len(chosen) < 7 else 4)
    down = math.ceil(len(chosen) / across)
    shapes = [headers[at] for at in chosen]
    ratio = float(np.clip(np.median([h.height / h.width for h in shapes]), 0.4, 2.0))
    with figure_style():
        figure = Figure(figsize=(3.6 * across, down * (3.6 * ratio + 0.45) + 0.4))
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis, at in zip(axes, chosen, strict=False):
            _draw_image(axis, prepared, names[at], headers[at])
        for axis in axes:
            axis.set_axis_off()
        _legend(figure, prepared, len(chosen), len(names))
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_size_inches()[1]))
        save_figure(figure, path)


def _draw_image(axis: Axes, prepared: PreparedSet, name: str, header: Header) -> None:
    small = _read_small(header, Path(prepared.label(name)), len(prepared.settings.class_names))
    axis.imshow(small.rgb, interpolation="nearest")
    for block in prepared.blocks:
        if block.source == name:
            _draw_block(axis, block, small.scale)
    axis.set_title(figure_text(name), fontsize=8)
    sides = pixel_sides(header.crs, header.transform, header.height, header.width)
    if sides is not None:
        scale_bar(axis, small.rgb.shape[1], sides[1] / small.scale)


def _draw_block(axis: Axes, block: Block, scale: float) -> None:
    colour = SPLIT_COLOURS[block.split] if block.selected else UNUSED_COLOUR
    # Drawn inside its edge, so that neighbours don't cover each other.
    at, size = (block.col * scale + 0.5, block.row * scale + 0.5), (block.width * scale - 2, block.height * scale - 2)
    if block.selected:
        axis.add_patch(Rectangle(at, *size, fill=False, edgecolor=colour, linewidth=1.8))
    else:
        axis.add_patch(Rectangle(at, *size, fill=False, edgecolor=colour, linewidth=0.6, hatch="////"))
    if block.selected and block.fold is not None:
        axis.text(at[0] + 4, at[1] + 4, str(block.fold), color="white", fontsize=7, va="top", backgroundcolor=colour)


def _read_small(header: Header, label: Path, classes: int) -> _Small:
    """Read an image and its labels at a small size."""
    scale = min(1.0, _SIDE / max(header.height, header.width))
    shape = max(1, round(header.height * scale)), max(1, round(header.width * scale))
    bands = [band for band in range(1, header.count + 1) if band not in header.alpha][:3]
    try:
        with environment(source=header), open_raster(header.path) as file, open_raster(label) as labels:
            image = file.read(bands, out_shape=(len(bands), *shape), resampling=Resampling.nearest)
            masked = _masks(file, header, shape)
            classes_ = labels.read(1, out_shape=shape, resampling=Resampling.nearest)
    except GDAL_ERRORS as error:
        raise UserError(
            f"{header.path}: can't be read: {first_line(error)} (the file is damaged: replace it)"
        ) from None
    found = invalid_pixels(image, header.dtype, header.nodata[bands[0] - 1], masked)
    invalid = np.zeros(shape, np.bool_) if found is None else found
    rgb = display_rgb(image.transpose(1, 2, 0), invalid) / 255
    for index, colour in class_colours(classes, 0, OVERLAY_COLOURS).items():
        inside = classes_ == index
        rgb[inside] = (1 - _LABEL_OPACITY) * rgb[inside] + _LABEL_OPACITY * np.array(to_rgb(colour))
    rgb[classes_ == IGNORED] *= _UNLABELLED
    rgb[invalid] = 1
    return _Small(rgb, scale)


def _masks(file: Any, header: Header, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Return True at pixels that the file's mask or alpha band makes invalid, at a small size; None for none."""
    if not header.masked and not header.alpha:
        return None
    return np.asarray(file.dataset_mask(out_shape=shape) == 0)


def _legend(figure: Figure, prepared: PreparedSet, drawn: int, images: int) -> None:
    used = {block.split for block in prepared.blocks if block.selected}
    entries = [
        Patch(fill=False, edgecolor=SPLIT_COLOURS[split], linewidth=2, label=split) for split in SPLITS if split in used
    ]
    if not all(block.selected for block in prepared.blocks):
        entries.append(Patch(fill=False, edgecolor=UNUSED_COLOUR, hatch="////", label="not selected"))
    names = prepared.settings.class_names
    for index, colour in class_colours(len(names), 0, OVERLAY_COLOURS).items():
        entries.append(Patch(color=colour, label=figure_text(names[index])))
    entries.append(Patch(color="0.35", label="dark: no label"))
    figure.legend(handles=entries, loc="upper center", ncols=min(8, len(entries)), frameon=False, fontsize=8)
    if drawn < images:
        figure.text(0.01, 0.005, f"{drawn} of {images} images", fontsize=8, color="0.4")

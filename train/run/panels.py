"""Image panels: windows as image, label, prediction and errors, drawn for inspection by eye."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from inference.common.areas import pixel_sides
from inference.common.palette import BLUE, OVERLAY_COLOURS, VERMILION, class_colours
from inference.common.raster import Header
from inference.common.text import clean_line
from train.run.figures import figure_style, figure_text, save_figure, scale_bar

_LONGEST_FILE_NAME = 200  # bytes, without the suffix and that of a temporary file


@dataclass(frozen=True)
class Panel:
    """Window with its label and prediction.

    Attributes:
        title: Title of the window.
        image: Image, (H, W, bands), in units of the file.
        label: Class indices or ignore_index, (H, W).
        prediction: Class indices, (H, W).
        pixel_width: Width of a pixel on the ground, metres; None if it isn't known.
    """

    title: str
    image: NDArray[Any]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    pixel_width: float | None = None


def pixel_width(image: Header) -> float | None:
    """Return the width on the ground of a pixel in an image's middle, metres; None if it isn't known."""
    sides = pixel_sides(image.crs, image.transform, image.height, image.width)
    return None if sides is None else sides[1]


def display_rgb(image: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return an image for display: its first three bands (or its only one), stretched to percentiles unless uint8.

    Args:
        image: Image, (H, W, bands), in units of the file.
        missing: Pixels to leave out of the stretch, (H, W).

    Returns:
        RGB image, (H, W, 3), uint8.
    """
    bands = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if bands.dtype == np.uint8:
        return bands
    shown = bands.astype(np.float64)
    for band in range(3):
        values = shown[..., band][~missing]
        low, high = np.percentile(values, (2, 98)) if values.size else (0.0, 1.0)
        shown[..., band] = (shown[..., band] - low) / max(high - low, 1e-9)
    return (np.nan_to_num(shown).clip(0, 1) * 255).astype(np.uint8)


def _tinted(rgb: NDArray[np.uint8], classes: NDArray[np.uint8], colours: Mapping[int, str]) -> NDArray[np.float64]:
    """Return the image in grey with classes coloured over it, (H, W, 3), from 0 to 1."""
    grey = rgb.mean(axis=-1, keepdims=True) / 255
    out = np.repeat(0.35 + 0.65 * grey, 3, axis=-1)
    for index, colour in colours.items():
        chosen = classes == index
        out[chosen] = 0.35 * out[chosen] + 0.65 * np.array(to_rgb(colour))
    return out


def draw_panels(
    panels: Sequence[Panel],
    class_names: Sequence[str],
    background: int | None,
    ignore_index: int,
    folder: Path,
    title: str = "",
) -> list[Path]:
    """Draw each window as image, label, prediction and errors, and all of them on one sheet.

    Args:
        panels: Windows to draw.
        class_names: Names of the classes.
        background: Index of the class that stays uncoloured.
        ignore_index: Label value of ignored pixels; drawn black.
        folder: Folder of the PNGs.
        title: Title of each sheet.

    Returns:
        Paths of the PNGs, `overview.png` first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    colours = class_colours(len(class_names), background, OVERLAY_COLOURS)
    files = []
    for number, panel in enumerate(panels):
        path = folder / _file_name(number, panel.title)
        _sheet([panel], class_names, colours, ignore_index, path, title)
        files.append(path)
    if panels:
        _sheet(panels, class_names, colours, ignore_index, folder / "overview.png", title)
        files.insert(0, folder / "overview.png")
    return files


def _file_name(number: int, title: str) -> str:
    """Return the name of a panel's file; a long title is shortened, for a name has at most 255 bytes."""
    name = f"{number:02d} {clean_line(title)}"
    if len(os.fsencode(name)) > _LONGEST_FILE_NAME:
        name = clean_line(name, _LONGEST_FILE_NAME // 8)
    return name.replace(" ", "-") + ".png"


def draw_labels(
    images: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[np.uint8]],
    class_names: Sequence[str],
    background: int | None,
    ignore_index: int,
    path: Path,
) -> None:
    """Draw windows as image and label on one sheet.

    Args:
        images: Images, (H, W, bands) each, in units of the file.
        labels: Class indices or ignore_index, (H, W) each.
        class_names: Names of the classes.
        background: Index of the class that stays uncoloured.
        ignore_index: Label value of ignored pixels; drawn black.
        path: Path of the PNG.
    """
    colours = class_colours(len(class_names), background, OVERLAY_COLOURS)
    columns = 3
    rows = -(-len(images) // columns)
    with figure_style():
        figure = Figure(figsize=(3.2 * columns, 1.7 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for at, (image, label) in enumerate(zip(images, labels, strict=True)):
            ignored = label == ignore_index
            rgb = display_rgb(image, ignored)
            tinted = _tinted(rgb, label, colours)
            tinted[ignored] = 0
            axes[2 * at].imshow(rgb, interpolation="nearest")
            axes[2 * at + 1].imshow(tinted, interpolation="nearest")
        keys = [Patch(color=colour, label=figure_text(class_names[i])) for i, colour in colours.items()]
        keys.append(Patch(color="black", label="ignored"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
        save_figure(figure, path)


def _sheet(
    panels: Sequence[Panel],
    class_names: Sequence[str],
    colours: Mapping[int, str],
    ignore_index: int,
    path: Path,
    title: str,
) -> None:
    binary = len(class_names) == 2 and len(colours) == 1
    with figure_style():
        figure = Figure(figsize=(10.4, 2.72 * len(panels) + 0.5), layout="constrained")
        figure.suptitle(figure_text(title), fontsize=9)
        axes = figure.subplots(len(panels), 4, squeeze=False)
        for row, panel in zip(axes, panels, strict=True):
            ignored = panel.label == ignore_index
            rgb = display_rgb(panel.image, ignored)
            wrong, errors = _errors(rgb, panel, ignored, next(iter(colours)) if binary else None)
            label, prediction = (_tinted(rgb, c, colours) for c in (panel.label, panel.prediction))
            label[ignored] = 0
            prediction[ignored] *= 0.5
            for axis, picture in zip(row, (rgb, label, prediction, errors), strict=True):
                axis.imshow(picture, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                for side in axis.spines.values():
                    side.set_visible(False)
            row[0].set_ylabel(figure_text(panel.title), fontsize=7)
            if panel.pixel_width is not None:
                scale_bar(row[0], panel.label.shape[1], panel.pixel_width)
            counted = int((~ignored).sum())
            row[3].set_xlabel(f"{wrong / max(1, counted):.1%} of labelled pixels wrong", fontsize=7)
        for axis, column in zip(axes[0], ("image", "label", "prediction", "errors"), strict=True):
            axis.set_title(column)
        keys = [Patch(color=colour, label=figure_text(class_names[i])) for i, colour in colours.items()]
        keys.append(Patch(color="black", label="ignored"))
        if binary:
            keys += [Patch(color=BLUE, label="missed"), Patch(color=VERMILION, label="false alarm")]
        else:
            keys.append(Patch(color=VERMILION, label="wrong class"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
        save_figure(figure, path)


def _errors(
    rgb: NDArray[np.uint8], panel: Panel, ignored: NDArray[np.bool_], target: int | None
) -> tuple[int, NDArray[np.float64]]:
    """Return the number of wrong pixels, and a picture of them; with one target, misses and false alarms differ."""
    wrong = (panel.label != panel.prediction) & ~ignored
    missed = wrong & (panel.label == target) if target is not None else np.zeros_like(wrong)
    kinds = np.zeros(panel.label.shape, np.uint8)
    kinds[wrong] = 1
    kinds[missed] = 2
    picture = _tinted(rgb, kinds, {1: VERMILION, 2: BLUE})
    picture[ignored] = 0
    return int(wrong.sum()), picture

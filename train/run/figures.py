"""Pictures of a run, made for looking at: learning curves, and predictions beside their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from inference.common.files import write_atomically

# Okabe and Ito (2008): told apart by people with any kind of colour vision.
_BLUE, _ORANGE, _GREEN, _VERMILION, _SKY, _YELLOW, _PURPLE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#F0E442", "#CC79A7",
)  # fmt: skip
CLASS_COLOURS = (_YELLOW, _SKY, _VERMILION, _GREEN, _PURPLE, _ORANGE, _BLUE)
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold"}


@dataclass(frozen=True)
class Panel:
    """A window with its label and prediction.

    Attributes:
        title: What it is called.
        image: (H, W, bands), units of the file.
        label: (H, W) class indices, or ignore_index.
        prediction: (H, W) class indices.
    """

    title: str
    image: NDArray[Any]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight"))


def curves(rows: Sequence[Mapping[str, float]], monitor: str, best_step: int | None, path: Path) -> None:
    """Draws loss and scores over epochs.

    Args:
        rows: One mapping for each time that something was measured: `epoch` (fractional where validation comes within
            an epoch), `step`, and scores such as `val/dice`.
        monitor: The score that decides.
        best_step: Optimiser step of the best checkpoint.
        path: Where the PNG goes.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.8))
        left, right = figure.subplots(1, 2)
        for phase, colour in (("train", _BLUE), ("val", _ORANGE)):
            _line(left, rows, f"{phase}/loss", colour, phase)
        left.set(title="Loss", xlabel="epoch")
        phase = monitor.partition("/")[0]
        names = ["dice", "iou", "precision", "recall"]
        if monitor.partition("/")[2] not in {*names, "loss", "f1"}:
            names.append(monitor.partition("/")[2])
        for name, colour in zip(names, (_ORANGE, _GREEN, _SKY, _PURPLE, _BLUE), strict=False):
            _line(right, rows, f"{phase}/{name}", colour, name)
        right.set(title=f"Scores ({phase})", xlabel="epoch", ylim=(0, 1.02))
        best = next((row for row in rows if row["step"] == best_step and monitor in row), None)
        if best is not None:
            for axis in (left, right):
                axis.axvline(best["epoch"], color="0.6", linewidth=1, linestyle=":", zorder=0)
            on = left if monitor.endswith("/loss") else right
            on.plot(best["epoch"], best[monitor], "o", color=_VERMILION, zorder=5)
            late = best["epoch"] > (rows[0]["epoch"] + rows[-1]["epoch"]) / 2
            # Half way up the line: the curves themselves end in a corner.
            on.text(
                best["epoch"],
                0.55,
                f" best {best[monitor]:.4f} ",
                transform=on.get_xaxis_transform(),
                ha="right" if late else "left",
                color=_VERMILION,
            )
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(axis="y", color="0.92")
            axis.set_axisbelow(True)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(frameon=False)
        figure.tight_layout()
        _save(figure, path)


def rate_curve(
    rates: NDArray[np.float64],
    losses: NDArray[np.float64],
    smooth: NDArray[np.float64],
    suggested: float | None,
    configured: float,
    path: Path,
) -> None:
    """Draws the loss over the learning rate.

    Args:
        rates: (n,), on a logarithmic axis.
        losses: (n,), drawn as points.
        smooth: (n,), drawn as a line.
        suggested: The rate to mark.
        configured: That of the config, marked too.
        path: Where the PNG goes.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 3.8))
        axis = figure.subplots()
        axis.plot(rates, losses, ".", color="0.7", markersize=4, label="each step")
        axis.plot(rates, smooth, color=_BLUE, linewidth=1.8, label="smoothed")
        axis.axvline(configured, color="0.5", linewidth=1.2, linestyle=":", label=f"config: {configured:g}")
        if suggested is not None:
            at = float(np.interp(np.log(suggested), np.log(rates), smooth))
            axis.plot(suggested, at, "o", color=_VERMILION, label=f"steepest fall: {suggested:.1e}", zorder=5)
        axis.set(title="Loss over the learning rate", xlabel="learning rate", xscale="log")
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
        axis.legend(frameon=False)
        figure.tight_layout()
        _save(figure, path)


def _line(axis: Axes, rows: Sequence[Mapping[str, float]], key: str, colour: str, label: str) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    if points:
        x, y = zip(*points, strict=True)
        axis.plot(x, y, "-o" if len(points) < 30 else "-", color=colour, label=label, markersize=3, linewidth=1.6)


def display_rgb(image: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An image as a person would look at it: its first three bands (or its one), stretched unless uint8.

    Args:
        image: (H, W, bands), units of the file.
        missing: (H, W) pixels to leave out of the stretch.

    Returns:
        (H, W, 3) uint8.
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
    """The image in grey with some classes coloured over it."""
    grey = rgb.mean(axis=-1, keepdims=True) / 255
    out = np.repeat(0.35 + 0.65 * grey, 3, axis=-1)
    for index, colour in colours.items():
        chosen = classes == index
        out[chosen] = 0.35 * out[chosen] + 0.65 * np.array(to_rgb(colour))
    return out


def previews(
    panels: Sequence[Panel], class_names: Sequence[str], background: int | None, ignore_index: int, folder: Path
) -> list[Path]:
    """Draws each window as image, label, prediction and errors, and all of them on one sheet.

    Args:
        panels: What to draw.
        class_names: A name for each class.
        background: The class that is left uncoloured.
        ignore_index: Label value that counts nowhere; drawn black.
        folder: Where the PNGs go.

    Returns:
        The files: `overview.png` first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    colours = _colours(class_names, background)
    files = []
    for number, panel in enumerate(panels):
        path = folder / f"{number:02d}-{panel.title.replace(' ', '-')}.png"
        _sheet([panel], class_names, colours, ignore_index, path)
        files.append(path)
    if panels:
        _sheet(panels, class_names, colours, ignore_index, folder / "overview.png")
        files.insert(0, folder / "overview.png")
    return files


def _colours(class_names: Sequence[str], background: int | None) -> dict[int, str]:
    shown = [i for i in range(len(class_names)) if i != background]
    return {i: CLASS_COLOURS[n % len(CLASS_COLOURS)] for n, i in enumerate(shown)}


def windows(
    images: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[np.uint8]],
    class_names: Sequence[str],
    background: int | None,
    ignore_index: int,
    path: Path,
) -> None:
    """Draws training windows, each as image and as label.

    Args:
        images: (H, W, bands) each, units of the file.
        labels: (H, W) class indices, or ignore_index.
        class_names: A name for each class.
        background: The class that is left uncoloured.
        ignore_index: Label value that counts nowhere; drawn black.
        path: Where the PNG goes.
    """
    colours = _colours(class_names, background)
    columns = 3
    rows = -(-len(images) // columns)
    with mpl.rc_context(_STYLE):
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
        keys = [Patch(color=colour, label=class_names[i]) for i, colour in colours.items()]
        keys.append(Patch(color="black", label="ignored"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
        _save(figure, path)


def _sheet(
    panels: Sequence[Panel], class_names: Sequence[str], colours: Mapping[int, str], ignore_index: int, path: Path
) -> None:
    binary = len(class_names) == 2 and len(colours) == 1
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 2.72 * len(panels) + 0.5), layout="constrained")
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
            row[0].set_ylabel(panel.title, fontsize=7)
            counted = int((~ignored).sum())
            row[3].set_xlabel(f"{wrong / max(1, counted):.1%} of labelled pixels wrong", fontsize=7)
        for axis, title in zip(axes[0], ("image", "label", "prediction", "errors"), strict=True):
            axis.set_title(title)
        keys = [Patch(color=colour, label=class_names[i]) for i, colour in colours.items()]
        keys.append(Patch(color="black", label="ignored"))
        if binary:
            keys += [Patch(color=_BLUE, label="missed"), Patch(color=_VERMILION, label="false alarm")]
        else:
            keys.append(Patch(color=_VERMILION, label="wrong class"))
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
        _save(figure, path)


def _errors(
    rgb: NDArray[np.uint8], panel: Panel, ignored: NDArray[np.bool_], target: int | None
) -> tuple[int, NDArray[np.float64]]:
    """How many labelled pixels are wrong, and where: with one target, misses and false alarms are told apart."""
    wrong = (panel.label != panel.prediction) & ~ignored
    missed = wrong & (panel.label == target) if target is not None else np.zeros_like(wrong)
    kinds = np.zeros(panel.label.shape, np.uint8)
    kinds[wrong] = 1
    kinds[missed] = 2
    picture = _tinted(rgb, kinds, {1: _VERMILION, 2: _BLUE})
    picture[ignored] = 0
    return int(wrong.sum()), picture

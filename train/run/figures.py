"""Figures of a run: style, learning curves, and the curve of a learning rate range test."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from inference.common.files import write_atomically
from inference.common.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from inference.common.text import LONGEST_NAME, clean_line

STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold"}


@contextmanager
def figure_style(style: Any = STYLE) -> Iterator[None]:
    """Draw in a style, by default that of a run's figures; a glyph that the font lacks, such as an emoji, is a box."""
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        yield


def figure_text(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name from a file as Matplotlib draws it: cleaned, shortened, and with its dollar signs and underscore.

    Text between two dollar signs would be mathematics, and a label that begins with an underscore is left out.
    """
    text = clean_line(text, longest).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight"))


def scale_bar(axis: Axes, width: float, pixel: float) -> None:
    """Draw a scale bar into a picture: a round length, about a quarter of the picture's width.

    Args:
        axis: Axes of the picture, in pixels.
        width: Width of the picture, pixels.
        pixel: Width of a pixel on the ground, metres.
    """
    about = width * pixel / 4
    power = 10.0 ** np.floor(np.log10(about))
    length = float(power * max(step for step in (1, 2, 5) if step * power <= about * (1 + 1e-9)))
    unit = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m" if length >= 1 else f"{100 * length:g} cm"
    left, right = 0.04, 0.04 + length / pixel / width
    line = axis.plot([left, right], [0.05, 0.05], transform=axis.transAxes, color="white", linewidth=3, zorder=6)
    text = axis.text(left, 0.07, unit, transform=axis.transAxes, color="white", fontsize=7, va="bottom", zorder=6)
    for artist in (*line, text):
        artist.set_path_effects([withStroke(linewidth=5 if artist is not text else 2, foreground="black")])


def learning_curves(
    rows: Sequence[Mapping[str, float]], monitor: str, best_step: int | None, path: Path, title: str = ""
) -> None:
    """Draw loss and scores over epochs.

    Args:
        rows: Rows of `metrics.csv`: `epoch` (fractional where validation runs within an epoch), `step`, and scores such
            as `val/dice`.
        monitor: Name of the score that selects the best checkpoint.
        best_step: Optimiser step of the best checkpoint.
        path: Path of the PNG.
        title: Title of the figure.
    """
    with figure_style():
        figure = Figure(figsize=(10, 3.8))
        figure.suptitle(figure_text(title), fontsize=9)
        left, right = figure.subplots(1, 2)
        for phase, colour in (("train", BLUE), ("val", ORANGE)):
            _line(left, rows, f"{phase}/loss", colour, phase)
        left.set(title="Loss", xlabel="epoch")
        phase = monitor.partition("/")[0]
        names = ["dice", "iou", "precision", "recall"]
        if monitor.partition("/")[2] not in {*names, "loss", "f1"}:
            names.append(monitor.partition("/")[2])
        for name, colour in zip(names, (ORANGE, GREEN, SKY, PURPLE, BLUE), strict=False):
            _line(right, rows, f"{phase}/{name}", colour, name)
        right.set(title=f"Scores ({phase})", xlabel="epoch", ylim=(0, 1.02))
        best = next((row for row in rows if row["step"] == best_step and monitor in row), None)
        if best is not None:
            for axis in (left, right):
                axis.axvline(best["epoch"], color="0.6", linewidth=1, linestyle=":", zorder=0)
            on = left if monitor.endswith("/loss") else right
            on.plot(best["epoch"], best[monitor], "o", color=VERMILION, zorder=5)
            late = best["epoch"] > (rows[0]["epoch"] + rows[-1]["epoch"]) / 2
            # Half way up, because the curves end in a corner.
            on.text(
                best["epoch"],
                0.55,
                f" best {best[monitor]:.4f} ",
                transform=on.get_xaxis_transform(),
                ha="right" if late else "left",
                color=VERMILION,
            )
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(axis="y", color="0.92")
            axis.set_axisbelow(True)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(frameon=False)
        figure.tight_layout()
        save_figure(figure, path)


def lr_curve(
    rates: NDArray[np.float64],
    losses: NDArray[np.float64],
    smooth: NDArray[np.float64],
    suggested: float | None,
    configured: float,
    path: Path,
) -> None:
    """Draw the loss over the learning rate.

    Args:
        rates: Learning rates, (n,); the axis is logarithmic.
        losses: Loss of each step, (n,), drawn as points.
        smooth: Smoothed loss, (n,), drawn as a line.
        suggested: Suggested learning rate, marked; None: no mark.
        configured: Learning rate of the config, marked.
        path: Path of the PNG.
    """
    with figure_style():
        figure = Figure(figsize=(7, 3.8))
        axis = figure.subplots()
        axis.plot(rates, losses, ".", color="0.7", markersize=4, label="each step")
        axis.plot(rates, smooth, color=BLUE, linewidth=1.8, label="smoothed")
        axis.axvline(configured, color="0.5", linewidth=1.2, linestyle=":", label=f"config: {configured:g}")
        if suggested is not None:
            at = float(np.interp(np.log(suggested), np.log(rates), smooth))
            axis.plot(suggested, at, "o", color=VERMILION, label=f"steepest fall: {suggested:.1e}", zorder=5)
        axis.set(title="Loss over the learning rate", xlabel="learning rate", xscale="log")
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
        axis.legend(frameon=False)
        figure.tight_layout()
        save_figure(figure, path)


def _line(axis: Axes, rows: Sequence[Mapping[str, float]], key: str, colour: str, label: str) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    if points:
        x, y = zip(*points, strict=True)
        axis.plot(x, y, "-o" if len(points) < 30 else "-", color=colour, label=label, markersize=3, linewidth=1.6)

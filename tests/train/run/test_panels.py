"""Pictures of windows: names, file names and scale bars."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from train.run.figures import figure_text, scale_bar
from train.run.panels import Panel, draw_panels


def panel(title: str, pixel_width: float | None = None) -> Panel:
    nothing = np.zeros((40, 60), np.uint8)
    red = np.stack([nothing + 255, nothing, nothing], axis=-1)
    return Panel(title, red, nothing, nothing, pixel_width)


def test_a_name_is_drawn_as_it_is() -> None:
    figure = Figure()
    for name, shown in (("a $x$ $", "a $x$ $"), ("_kelp", " _kelp"), ("a\x1bb\n", r"a\x1bb\n"), (r"\$", r"\$")):
        text = figure.text(0, 0, figure_text(name))
        assert text._preprocess_math(text.get_text()) == (shown, False)
    assert len(figure_text("a" * 500)) < 120


def test_file_names_of_panels_fit_into_a_folder(tmp_path: Path) -> None:
    titles = ["s0 r0 c64", "worst " + "a" * 240 + " dice 0.123", "é" * 120, "a\x1b[31m"]
    files = draw_panels([panel(title) for title in titles], ["background", "kelp"], 0, 2, tmp_path)
    assert [path.name for path in files[:2]] == ["overview.png", "00-s0-r0-c64.png"]
    assert files[4].name == r"03-a\x1b[31m.png"
    assert len(files) == len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(("pixel_width", "said"), [(0.1, "1 m"), (0.013, "10 cm"), (30, "200 m"), (90, "1 km")])
def test_a_scale_bar_is_a_round_length(pixel_width: float, said: str) -> None:
    axis = Figure().subplots()
    axis.imshow(np.zeros((40, 60)))
    limits = axis.get_xlim(), axis.get_ylim()
    scale_bar(axis, 60, pixel_width)
    (text,), (line,) = axis.texts, axis.lines
    assert text.get_text() == said
    number, unit = said.split()
    start, stop = line.get_xdata()
    metres = float(number) * {"cm": 0.01, "m": 1, "km": 1000}[unit]
    assert (stop - start) * 60 * pixel_width == pytest.approx(metres)
    assert (axis.get_xlim(), axis.get_ylim()) == limits


def test_only_an_image_with_a_known_scale_has_a_bar(tmp_path: Path) -> None:
    white = []
    for name, width in (("with", 0.1), ("without", None)):
        _, path = draw_panels([panel("s0", width)], ["background", "kelp"], 0, 2, tmp_path / name)
        picture = matplotlib.image.imread(path)[..., :3]
        rows, cols = np.nonzero((picture == (1, 0, 0)).all(axis=-1))
        inside = picture[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
        white.append(int((inside == 1).all(axis=-1).sum()))
    assert white[0] > 100
    assert white[1] == 0

"""Blending windows: how much a tile's prediction counts at each place along one of its sides.

A network knows nothing of what lies outside its tile, so it is worst at the tile's edge. Neighbouring tiles overlap,
and where they do, their predictions are averaged with weights that fall from 1 at a tile's centre towards its edge. The
weight of a tile at a pixel is the product of one window along the rows and one along the columns.

Windows are in their periodic form: a shift by half their length continues them, so that at 50 % overlap they sum to
one. For other overlaps the sum is divided out (see `inference.tiles.blending`). At the image's border no neighbour
follows, and the window is held at 1 from the tile's centre on.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

WindowName = Literal["bartlett-hann", "hann", "none"]
WINDOW_NAMES: tuple[str, ...] = get_args(WindowName)

LEAST = 1e-6
"""The smallest weight: where one tile alone covers a pixel, its weight is divided by itself and must not be zero."""


def _bartlett_hann(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ha and Pearce, A new window and comparison to standard windows, IEEE TASSP 37(2), 1989, doi:10.1109/29.21693."""
    return 0.62 - 0.48 * np.abs(x) + 0.38 * np.cos(2 * np.pi * x)


def _hann(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.cos(2 * np.pi * x)


_WINDOWS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "bartlett-hann": _bartlett_hann,
    "hann": _hann,
    "none": np.ones_like,
}


def _places(size: int) -> NDArray[np.float64]:
    """Places along a side of `size` pixels, -1/2 at the first, 0 at the centre; 1/2 would be the next tile's first."""
    return np.arange(size) / size - 0.5


def window(name: WindowName, size: int) -> NDArray[np.float64]:
    """A window in its periodic form, shape (size,), from 0 (or 1, for `none`) at its first place to 1 at its centre."""
    return _WINDOWS[name](_places(size))


def border_window(name: WindowName, size: int, first: bool, last: bool) -> NDArray[np.float64]:
    """The weights of a tile along one axis, shape (size,), all in [1e-6, 1].

    Args:
        name: Which window.
        size: Side of the tile, pixels.
        first: Whether no tile comes before it: the window is then held at 1 from the image's border to its centre.
        last: Whether none comes after it: held at 1 from its centre to the border.
    """
    weights, places = window(name, size), _places(size)
    if first:
        weights[places <= 0] = 1
    if last:
        weights[places >= 0] = 1
    return np.clip(weights, LEAST, 1)

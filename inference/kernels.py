"""Blending windows: the weight of a tile's prediction along one of its sides.

A network has no context beyond its tile, so its predictions are worst near the tile's edge. Where neighbouring tiles
overlap, their predictions are averaged with weights that fall from 1 at the tile's centre towards its edge. The weight
of a tile at a pixel is the product of one window along the rows and one along the columns.

Windows are periodic (DFT-even): at 50 % overlap they sum to one. For other overlaps the weights are normalised (see
`inference.tiles.blending`). At the image's border there is no neighbour, and the window stays at 1 from the tile's
centre to the border.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from inference.options import WindowName

MIN_WEIGHT = 1e-6
"""Smallest weight. Where a single tile covers a pixel, its weight is divided by itself, so it must not be zero."""


def _bartlett_hann(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Bartlett-Hann window at x in [-1/2, 1/2].

    Source: Ha and Pearce, A new window and comparison to standard windows, IEEE TASSP 37(2), 1989,
    doi:10.1109/29.21693.
    """
    return 0.62 - 0.48 * np.abs(x) + 0.38 * np.cos(2 * np.pi * x)


def _hann(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Hann window at x in [-1/2, 1/2]."""
    return 0.5 + 0.5 * np.cos(2 * np.pi * x)


_WINDOWS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "bartlett-hann": _bartlett_hann,
    "hann": _hann,
    "none": np.ones_like,
}


def _positions(size: int) -> NDArray[np.float64]:
    """Return the pixel positions along a side, (size,) in [-1/2, 1/2): -1/2 at the first pixel, 0 at the centre."""
    return np.arange(size) / size - 0.5


def window(name: WindowName, size: int) -> NDArray[np.float64]:
    """Return a periodic blending window.

    Args:
        name: Name of the window.
        size: Length of the window, pixels.

    Returns:
        (size,) float64, rising from 0 at the first pixel to 1 at the centre; 1 everywhere for `none`.
    """
    return _WINDOWS[name](_positions(size))


def border_window(name: WindowName, size: int, first: bool, last: bool) -> NDArray[np.float64]:
    """Return the weights of a tile along one axis, with borders of the image taken into account.

    Args:
        name: Name of the window.
        size: Side of the tile, pixels.
        first: Whether this is the first tile of the axis, whose window is 1 from the image's border to its centre.
        last: Whether this is the last tile of the axis, whose window is 1 from its centre to the image's border.

    Returns:
        (size,) float64 in [MIN_WEIGHT, 1].
    """
    weights, positions = window(name, size), _positions(size)
    if first:
        weights[positions <= 0] = 1
    if last:
        weights[positions >= 0] = 1
    return np.clip(weights, MIN_WEIGHT, 1)

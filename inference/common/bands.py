"""Information that a file gives about its bands: colours, colour tables, and alpha bands that hold data."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.raster import Header

ALPHA_STEP = 16
"""Every which row and column of an alpha band is looked at."""
_MANY_VALUES, _TWO_VALUES = 16, 0.5  # a mask has two values, and a few others along a smoothed edge


def contradictions(header: Header, bands: Sequence[int], expected: Sequence[str | None] | None) -> bool:
    """Return True if a band states another colour than expected; a band that states none contradicts nothing.

    Args:
        header: Header of the image.
        bands: Bands to read, counted from 1.
        expected: Colour of each of them; None where it is unknown.
    """
    return any(
        wanted is not None and (found := header.colours[band - 1]) is not None and found != wanted
        for band, wanted in zip(bands, expected or (), strict=False)
    )


def bands_in_order(header: Header, bands: Sequence[int], expected: Sequence[str | None]) -> tuple[int, ...] | None:
    """Return the bands of an image that state the expected colours, in their order; None if it doesn't have them all.

    Args:
        header: Header of the image.
        bands: Bands to read where no colour is expected, counted from 1.
        expected: Colour of each band; None where it is unknown.
    """
    colours = list(header.colours)
    if any(colour is not None and colour not in colours for colour in expected):
        return None
    return tuple(
        band if colour is None else colours.index(colour) + 1 for band, colour in zip(bands, expected, strict=True)
    )


def colours_text(colours: Sequence[str | None]) -> str:
    """Return colours as text; bands without a colour appear as ?."""
    return ", ".join(colour or "?" for colour in colours)


class AlphaSurvey:
    """Values of an alpha band, which tell whether it is a mask: near-infrared is often marked as alpha."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def add(self, values: NDArray[Any]) -> None:
        """Add a part of the band, or a sample of it."""
        if len(self._counts) < 2**16:
            found, counts = np.unique(values, return_counts=True)
            self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    @property
    def values(self) -> int:
        """Number of different values."""
        return len(self._counts)

    @property
    def holds_data(self) -> bool:
        """True if the band has many values, and the two most frequent ones make up less than half of its pixels."""
        most = sum(count for _, count in self._counts.most_common(2))
        return self.values > _MANY_VALUES and most < _TWO_VALUES * self._counts.total()

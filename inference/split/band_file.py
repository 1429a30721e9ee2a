"""File of the probabilities of a row band: float32, one row of tiles after another, in the order of their image rows.

It holds the rows that `Blend.finish` returns, before they are resampled to the mosaic's grid, each as (channels, n,
width). It is read by the same version of this code, on another machine perhaps, and then removed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from inference.common.errors import UserError
from inference.common.files import replace, temporary_path, write_errors
from inference.common.paths import shown_path
from inference.model.probabilities import probability_channels
from inference.output.map import Validity
from inference.plan import Plan
from inference.tiles.row_bands import RowBand

_TYPE = np.dtype("<f4")


class BandLost(UserError):
    """File of a band can't be read, though it was written: a disk or a network failed, and another attempt may pass."""


def bands_place(target: Path) -> Path:
    """Return the name of which `temporary_path` makes the folder of the bands of a map.

    Args:
        target: Path of the map.
    """
    return target.with_name(f"{target.name}.bands")


def band_bytes(plan: Plan) -> int:
    """Return the size of the files of all bands of a mosaic together, bytes."""
    return probability_channels(plan.card) * plan.rows.length * plan.cols.length * _TYPE.itemsize


class BandWriter:
    """Destination of the rows of a band; a context manager that removes the file unless it is complete.

    Args:
        path: The file, in a folder that exists.

    Raises:
        UserError: It can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._temporary = path, temporary_path(path)
        with write_errors(path):
            self._file: BinaryIO = self._temporary.open("wb")

    def add_validity(self, validity: Validity) -> None:
        """Leave the validity to the join, which reads the mosaic too."""

    def add(self, rows: NDArray[np.float32]) -> None:
        """Write the next rows, (channels, n, width)."""
        with write_errors(self._path):
            self._file.write(np.ascontiguousarray(rows, _TYPE).data)

    def complete(self) -> None:
        """Give the file its name."""
        with write_errors(self._path):
            self._file.close()
            replace(self._temporary, self._path)

    def __enter__(self) -> "BandWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def read_band(plan: Plan, band: RowBand, path: Path) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the rows of tiles of a band from top to bottom, each with its finished image rows, (channels, n, width).

    Args:
        plan: Plan of the run.
        band: The band.
        path: Its file.

    Raises:
        BandLost: The file can't be read, or is cut short.
    """
    channels, width = probability_channels(plan.card), plan.cols.length
    try:
        with path.open("rb") as file:
            for row in range(band.first, band.stop):
                count = plan.rows.final_stop(row) - plan.rows.starts[row]
                rows = np.empty((channels, count, width), _TYPE)
                if file.readinto(rows.data.cast("B")) != rows.nbytes:
                    raise BandLost(f"{shown_path(path)}: is cut short (the disk or the network failed)")
                yield row, rows
    except OSError as error:
        raise BandLost(
            f"{shown_path(path)}: can't be read: {error.strerror} (the disk or the network failed)"
        ) from None

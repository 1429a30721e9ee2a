"""Writing a GeoTIFF on a mosaic's grid: whole blocks, once and in order, and its name only when it is whole.

It is written beside the target under a temporary name, then, unless that isn't wanted, copied once into the layout of a
cloud-optimised GeoTIFF (COG) with overviews, and renamed. Whatever happens, the target is the old file or the new one.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from inference.common.errors import UserError, first_line
from inference.common.files import TEMPORARY, replace, temporary_path
from inference.common.raster import GDAL_ERRORS, Header, open_raster

BLOCK = 512
"""Side of the blocks of what is written, pixels."""
_SIDECARS = (".ovr", ".msk", ".aux.xml")


class Output:
    """A GeoTIFF that is being written.

    Args:
        path: Where it will lie.
        header: The mosaic whose grid it has.
        bands: How many.
        dtype: uint8 or float32.
        nodata: Value of invalid pixels, where they are marked by one.
        masked: Whether invalid pixels are marked by a mask band inside the file.
        cog: Whether it becomes a COG.
        threads: Threads with which GDAL compresses.
        tags: Metadata of the file.
        names: A description for each band.
        colours: Colour of each value, as red, green, blue in 0 to 255.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        *,
        bands: int,
        dtype: str,
        nodata: float | None = None,
        masked: bool = False,
        cog: bool = True,
        threads: int = 1,
        tags: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
        colours: Mapping[int, tuple[int, int, int]] | None = None,
    ) -> None:
        self.path = path
        self.masked, self._cog, self._threads = masked, cog, threads
        self._temporary = temporary_path(path)
        self._width = header.width
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": header.height,
            "width": header.width,
            "count": bands,
            "dtype": dtype,
            "nodata": nodata,
            "crs": header.crs,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "interleave": "band",
            "compress": "deflate",
            # The least effort: with --no-cog what is wanted is speed, and a COG is compressed again.
            "zlevel": 1,
            "predictor": 1 if dtype == "uint8" else 3,
            "bigtiff": "if_safer",
            "num_threads": str(threads),
        }
        if header.gcps:
            profile["gcps"] = list(header.gcps)
        elif not header.transform.is_identity:
            profile["transform"] = header.transform
        with self._failing():
            self._temporary.unlink(missing_ok=True)  # GDAL would try to open what a killed process left there
            self._file: Any = open_raster(self._temporary, "w", **profile)
            self._file.update_tags(**(tags or {}))
            for number, name in enumerate(names, 1):
                self._file.set_band_description(number, name)
            if colours is not None:
                self._file.write_colormap(1, dict(colours))

    def write(self, row: int, values: NDArray[Any], invalid: NDArray[np.bool_] | None) -> None:
        """Writes some rows.

        Args:
            row: The first of them, a multiple of BLOCK.
            values: (bands, n, width); n is BLOCK, or less at the end.
            invalid: (n, width), where a mask band is kept; None where all is valid.
        """
        window = Window(0, row, self._width, values.shape[1])
        with self._failing():
            self._file.write(values, window=window)
            if self.masked:
                valid = np.full(values.shape[1:], 255, np.uint8)
                if invalid is not None:
                    valid[invalid] = 0
                self._file.write_mask(valid, window=window)

    def finish(self) -> None:
        """Closes the file, lays it out as a COG if wanted, and gives it its name."""
        with self._failing():
            self._file.close()
            whole = self._temporary
            _check_whole(whole)
            if self._cog:
                whole = self._temporary.with_name(self._temporary.name.removesuffix(TEMPORARY) + f".cog{TEMPORARY}")
                rasterio.shutil.copy(
                    self._temporary,
                    whole,
                    driver="COG",
                    compress="deflate",
                    blocksize=BLOCK,
                    overview_resampling="nearest",
                    overviews="ignore_existing",
                    bigtiff="if_safer",
                    num_threads=str(self._threads),
                )
                _check_whole(whole)
            for ending in _SIDECARS:  # of the file that is replaced: they would be taken for this one's
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            replace(whole, self.path)
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Takes away what has been written, if the file hasn't got its name."""
        with suppress(*GDAL_ERRORS):
            self._file.close()
        for path in self.path.parent.glob(_escaped(self._temporary.name.removesuffix(TEMPORARY)) + ".*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turns what GDAL and the system say of a failed write into an error for the user."""
        try:
            yield
        except (*GDAL_ERRORS, OSError) as error:
            free = shutil.disk_usage(self.path.parent).free if self.path.parent.is_dir() else 0
            raise UserError(
                f"{self.path}: can't be written: {first_line(error)} ({free / 2**20:.0f} MiB are free in its folder)"
            ) from None


def _check_whole(path: Path) -> None:
    """Whether all blocks of a TIFF, of its mask and of its overviews lie inside the file.

    GDAL compresses in threads of its own, and where a disk is full, what these could not write is told of by nobody.
    """
    size = path.stat().st_size
    with open_raster(path) as file:
        directories = 1 + len(file.overviews(1))
        directories *= 2 if MaskFlags.per_dataset in file.mask_flag_enums[0] else 1
    for directory in range(1, directories + 1):
        with open_raster(f"GTIFF_DIR:{directory}:{path}") as file:
            together = file.interleaving is not None and file.interleaving.name == "pixel"
            for band in (1,) if together else file.indexes:
                for (row, col), _ in file.block_windows(band):
                    place = file.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", band)
                    length = file.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", band)
                    if not place or not length or int(place) + int(length) > size:
                        raise OSError(f"a block is missing, row {row}, column {col} of blocks (is the disk full?)")


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)

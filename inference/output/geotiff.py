"""GeoTIFF on a mosaic's grid, written block by block from top to bottom.

The file is written beside its target under a temporary name, copied once into the layout of a cloud-optimised GeoTIFF
(COG) with overviews if that is wanted, and renamed. Whatever happens, the target is the old file or the new one.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from inference.common.files import TEMPORARY, publish, temporary_path, write_errors
from inference.common.raster import GDAL_ERRORS, Header, open_raster

BLOCK = 512
"""Side of the blocks of the file, pixels."""
SIDECARS = (".ovr", ".msk", ".aux.xml")


class Output:
    """GeoTIFF that is being written.

    Args:
        path: Target.
        header: Header of the mosaic, whose grid the file has.
        overwrite: True if the file may replace another one.
        bands: Number of bands.
        dtype: uint8 or float32.
        nodata: Nodata value; None for no value.
        masked: True to mark invalid pixels by a mask band inside the file.
        cog: True to write a COG.
        threads: Threads that GDAL compresses with.
        tags: Metadata of the file.
        names: Description of each band.
        colours: Colour of each value, as red, green, blue in 0 to 255.
        compress: False to compress nothing.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        *,
        overwrite: bool,
        bands: int,
        dtype: str,
        nodata: float | None = None,
        masked: bool = False,
        cog: bool = True,
        threads: int = 1,
        tags: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
        colours: Mapping[int, tuple[int, int, int]] | None = None,
        compress: bool = True,
    ) -> None:
        self.path = path
        self.masked, self._cog, self._threads, self._overwrite = masked, cog, threads, overwrite
        self._temporary = self._whole = temporary_path(path)
        self._claimed = False
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
            "bigtiff": "if_safer",
            "num_threads": str(threads),
        }
        if compress:
            # Lowest level: --no-cog is for speed, and a COG is compressed again.
            profile |= {"compress": "deflate", "zlevel": 1, "predictor": 1 if dtype == "uint8" else 3}
        if header.gcps:
            profile["gcps"] = list(header.gcps)
            profile["crs"] = header.crs or CRS()  # rasterio fails to write points with None
        elif not header.transform.is_identity:
            profile["transform"] = header.transform
        with self._failing():
            self._temporary.unlink(missing_ok=True)  # GDAL would try to open a file that a killed process left
            self._file: Any = open_raster(self._temporary, "w", **profile)
            if header.rpcs is not None:
                self._file.rpcs = header.rpcs
            self._file.update_tags(**(tags or {}))
            for number, name in enumerate(names, 1):
                self._file.set_band_description(number, name)
            if colours is not None:
                self._file.write_colormap(1, dict(colours))

    def write(self, row: int, values: NDArray[Any], invalid: NDArray[np.bool_] | None) -> None:
        """Write rows.

        Args:
            row: First row, a multiple of BLOCK.
            values: (bands, n, width); n is BLOCK, or less at the end.
            invalid: (n, width) bool, for the mask band; None if all pixels are valid.
        """
        window = Window(0, row, self._width, values.shape[1])
        with self._failing():
            # Twice, because GDAL's threads may still be writing the rows before. Classes compress to half at least.
            self._check_room(2 * values.nbytes / (2 if values.dtype == np.uint8 else 1))
            self._file.write(values, window=window)
            if self.masked:
                valid = np.full(values.shape[1:], 255, np.uint8)
                if invalid is not None:
                    valid[invalid] = 0
                self._file.write_mask(valid, window=window)

    def complete(self) -> None:
        """Close the file and convert it to a COG if wanted; it keeps its temporary name."""
        with self._failing():
            self._file.close()
            _check_whole(self._temporary)
            if not self._cog:
                return
            self._check_room(4 / 3 * self._temporary.stat().st_size)  # a copy and its overviews
            name = self._temporary.name.removesuffix(TEMPORARY) + f".cog{TEMPORARY}"
            self._whole = self._temporary.with_name(name)
            rasterio.shutil.copy(
                self._temporary,
                self._whole,
                driver="COG",
                compress="deflate",
                # Half the time of GDAL's 6 and of the whole copy, for a map that is larger by a sixth.
                level=3,
                blocksize=BLOCK,
                overview_resampling="nearest",
                overviews="ignore_existing",
                bigtiff="if_safer",
                num_threads=str(self._threads),
            )
            _check_whole(self._whole)

    def publish(self) -> None:
        """Give the completed file its name; an existing file is replaced only if that is allowed.

        Raises:
            UserError: It can't be renamed, or another command has written a file of this name in the meantime.
        """
        with self._failing():
            if self._overwrite:
                self._remove_sidecars()
            self._claimed = publish(self._whole, self.path, self._overwrite)
            if self._claimed:
                self._remove_sidecars()
            self._temporary.unlink(missing_ok=True)

    def _remove_sidecars(self) -> None:
        """Remove files beside an earlier file of this name; GDAL would take them for this one's."""
        for ending in SIDECARS:
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def _check_room(self, needed: float) -> None:
        """Raise OSError if the disk has no room for so many bytes.

        On a full disk libtiff prints lines of its own to stderr, which no setting of GDAL's turns off.
        """
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError("the disk is almost full")

    def discard(self) -> None:
        """Remove the temporary files, and the file itself if it was published under a name that was free."""
        if self._claimed:
            self.path.unlink(missing_ok=True)
        with suppress(*GDAL_ERRORS):
            self._file.close()
        for path in self.path.parent.glob(_escaped(self._temporary.name.removesuffix(TEMPORARY)) + ".*"):
            path.unlink(missing_ok=True)

    def _failing(self) -> AbstractContextManager[None]:
        """Convert errors of GDAL and the system into a `UserError`."""
        return write_errors(self.path, *GDAL_ERRORS)


def _check_whole(path: Path) -> None:
    """Check that all blocks of a TIFF, of its mask and of its overviews lie inside the file; raise OSError if not.

    GDAL compresses in its own threads, and does not report blocks that these could not write to a full disk.
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

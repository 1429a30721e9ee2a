"""Digest of an image that takes milliseconds at any size, to tell that an image of a prepared data set has changed."""

import hashlib
from pathlib import Path

from inference.common.errors import UserError
from inference.common.paths import is_address
from inference.common.raster import Header

_END = 2**20  # bytes at either end of the file


def image_digest(path: str | Path, header: Header, content: bool = True) -> str:
    """Return the SHA-256 of a file's size, its header as GDAL reads it, and its first and last MiB.

    Of a VRT the sizes of the files that it refers to count, too; of an address only the header.

    Args:
        path: File or address.
        header: Its header.
        content: False for the header alone, as of an address that was downloaded since.

    Raises:
        UserError: The file can't be read.
    """
    # Not the CRS: its text changes with the version of PROJ.
    stated = (header.height, header.width, header.count, header.dtype, tuple(header.transform)[:6])
    digest = hashlib.sha256(repr(stated).encode())
    if not content or is_address(str(path)):
        return digest.hexdigest()
    try:
        with Path(path).open("rb") as file:
            size = Path(path).stat().st_size
            digest.update(str(size).encode())
            digest.update(file.read(_END))
            file.seek(max(0, size - _END))
            digest.update(file.read(_END))
        if Path(path).suffix.lower() == ".vrt":
            parts = [Path(part) for part in header.files if not is_address(part) and Path(part).is_file()]
            digest.update(repr(sorted((part.name, part.stat().st_size) for part in parts)).encode())
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror} (give yourself access to it)") from None
    return digest.hexdigest()


def image_bytes(path: str | Path) -> int | None:
    """Return the size of a file in bytes; None for an address."""
    return None if is_address(str(path)) else Path(path).stat().st_size

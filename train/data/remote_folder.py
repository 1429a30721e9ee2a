"""Folder of a data set that isn't a folder of this machine: in an object store, in an archive, or on a web server.

Objects and archives are listed by GDAL. A web server doesn't list its files: `files.txt` in the folder does, one path a
line relative to the folder.
"""

import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from inference.common.errors import UserError, first_line
from inference.common.paths import Address, leaves_folder, shown_path
from inference.common.remote import ATTEMPTS, check_reachable, list_files, web_address
from inference.common.text import quoted

MANIFEST = "files.txt"
"""File on a web server that lists the files of a data set."""
_KEY = "data_module.data_dir"
_LARGEST = 64 * 2**20  # bytes of a manifest
_SECONDS = 20.0
_PAUSE = 0.25  # seconds; doubled before each attempt
_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|7z|rar)/)(/.*?\.(?:zip|tar|tgz|tar\.gz|7z|rar))(?=/|$)", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteFolder:
    """Folder with its files.

    Attributes:
        address: Address of the folder.
        files: Paths of all files in it, at any depth, relative to it.
    """

    address: Address
    files: frozenset[str]

    def __str__(self) -> str:
        return str(self.address)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder such as train/x, sorted."""
        start = f"{folder}/"
        return sorted(n for file in self.files if file.startswith(start) and "/" not in (n := file[len(start) :]))

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders in a folder, sorted; "" is the folder itself."""
        start = f"{folder}/" if folder else ""
        return sorted({n[0] for f in self.files if f.startswith(start) and len(n := f[len(start) :].split("/")) > 1})

    def holds(self, folder: str) -> bool:
        """Return True if there is a folder of this name with files in it."""
        return any(file.startswith(f"{folder}/") for file in self.files)


def remote_folder(address: str) -> RemoteFolder:
    """List the files of a data set.

    Args:
        address: s3://BUCKET/FOLDER, https://..., or a path of GDAL's that begins with /vsi.

    Raises:
        UserError: The folder can't be listed, or is empty.
    """
    # In an Address two slashes are one. GDAL reads /vsizip/{/a.zip} as /vsizip//a.zip.
    address = _ARCHIVE.sub(r"\1{\2}", address.strip()).rstrip("/")
    if address.endswith(":"):
        raise UserError(f"{_KEY}: {shown_path(address)}//: names no bucket and no host (s3://BUCKET/FOLDER)")
    check_reachable(address)
    files = _manifest(address) if web_address(address) else _listing(address)
    return RemoteFolder(Address(address), files)


def _listing(address: str) -> frozenset[str]:
    """Return the files of a folder that GDAL can list."""
    try:
        files, why = frozenset(list_files(address)), "no files"
    except OSError as error:
        files, why = frozenset(), first_line(error)
    if files:
        return files
    raise UserError(
        f"{_KEY}: {shown_path(address)}: can't be listed: {why} (a folder with train/, val/ and test/; check the name, "
        "and the credentials: docs/how-to/remote-data.md)"
    )


def _manifest(address: str) -> frozenset[str]:
    """Return the files that the manifest of a folder on a web server lists."""
    web = web_address(address)
    assert web is not None
    place = f"{web}/{MANIFEST}"
    try:
        text = download(place)
    except OSError as error:
        raise UserError(
            f"{_KEY}: {shown_path(place)}: {first_line(error)} (a web server doesn't list its files: put {MANIFEST} "
            "there with one path a line, such as train/x/a.tif; or use s3://)"
        ) from None
    files: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip().removeprefix("./")
        if not name or name.startswith("#"):
            continue
        if leaves_folder(name) or "\\" in name:
            raise UserError(
                f"{place}:{number}: {quoted(name)} is no path below the folder (one a line, such as train/x/a.tif)"
            )
        files.add(name)
    if not files:
        raise UserError(f"{place}: names no files (one path a line, such as train/x/a.tif)")
    return frozenset(files)


def download(place: str) -> str:
    """Return a text file of a web server, which is asked several times.

    Raises:
        OSError: It can't be read.
    """
    why = ""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt and _PAUSE * 2**attempt)
        try:
            with urllib.request.urlopen(place, timeout=_SECONDS) as answer:
                content: bytes = answer.read(_LARGEST)
            return content.decode("utf-8-sig")
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                break
        except (OSError, ValueError) as error:  # also a body that is cut short, and what isn't UTF-8
            why = first_line(error)
    raise OSError(why)

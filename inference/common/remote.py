"""Images in object stores and on web servers: GDAL's settings, reading again after a failure, and unreachable hosts.

GDAL repeats requests that a server refuses for the moment (429, 500, 502, 503, 504) or that are reset. It doesn't
repeat an answer that is cut short, and remembers a file that it failed to open as missing; `read_again` covers these.
"""

import os
import re
import socket
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rasterio.env
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""Errors that rasterio raises: most of GDAL's wrapped in its own, some as they are."""

HTTP_SETTINGS = {
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_TCP_KEEPALIVE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}
"""GDAL's settings for HTTP; an environment variable or an outer `rasterio.Env` overrides each.

A request is repeated up to five times, after 0.5, 1, 2, 4 and 8 s; it fails when a connection takes 10 s or nothing
arrives for 20 s. Neighbouring blocks are one request.
"""
_HEADER = {"GDAL_INGESTED_BYTES_AT_OPEN": "65536"}  # the index of a large mosaic in one request
_VECTOR = {"CPL_VSIL_CURL_CHUNK_SIZE": str(2**20)}  # tables are read as a whole: fewer requests than of 16 KiB
ATTEMPTS = 4
"""Times that a part of a remote image is read before it counts as unreadable."""
_DELAY = 0.5  # seconds before the second attempt; doubled for each further one
_CONNECT = 5.0  # seconds
# Suffixes of files that GDAL may read beside an image.
_SIDECARS = (".msk", ".ovr", ".aux", ".xml", ".tfw", ".tifw", ".tiffw", ".wld", ".tab", ".rpb", ".imd", ".pvl", ".txt")
_bare: dict[str, bool] = {}  # folders of stores that were listed, each with whether it holds no sidecars
_reached: set[tuple[str, int]] = set()  # hosts and ports that have answered this process

_STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "oss": "/vsioss/", "swift": "/vsiswift/"}
# Files beside a GeoTIFF that say something about its pixels. Without a list of the folder GDAL asks for 32 others.
_BESIDE = ".tif,.tiff,.msk,.ovr,.aux.xml,.tfw,.rpb,_rpc.txt"
# No attempt later the same minute changes these.
_FINAL = re.compile(
    r"response code:? (?:on \S+ )?40[0134]|resolve host|connect to server|Failed to connect|AccessDenied"
    r"|NoSuchKey|NoSuchBucket|InvalidCredentials|InvalidAccessKey|SignatureDoesNotMatch|too slow|certificate",
    re.IGNORECASE,
)
_Read = TypeVar("_Read")


def store_path(address: str) -> str | None:
    """Return GDAL's path of an object in a store that lists its objects, such as /vsis3/BUCKET/KEY; None for others."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme.lower() in _STORES:
        return _STORES[scheme.lower()] + rest
    return address if address.startswith(tuple(_STORES.values())) else None


def web_address(address: str) -> str | None:
    """Return the http or https address that GDAL requests for an address; None for others."""
    address = address.removeprefix("/vsicurl/")
    return address if re.match(r"https?://", address, re.IGNORECASE) else None


def remote_settings(source: str, again: bool = False, alone: bool = False) -> dict[str, str]:
    """Return GDAL's settings for reading a file, or an address.

    Args:
        source: File or address.
        again: True to ignore what GDAL remembers of the file.
        alone: True if it is known that nothing is read beside it, so that GDAL need neither list nor ask.
    """
    outer: dict[str, Any] = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    stored, web = store_path(source), web_address(source)
    wanted = HTTP_SETTINGS | (_HEADER if stored or web else {})
    settings = {name: value for name, value in wanted.items() if name not in os.environ and name not in outer}
    if stored is not None:
        # One request in place of 70 for files that may lie beside it; a damaged list would hide the file. The list is
        # of the whole folder, a request for each 1,000 objects, and GDAL keeps it for the images that follow.
        alone = alone or _bare.get(stored.rpartition("/")[0], False)
        settings["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR" if alone else "TRUE" if again else "FALSE"
    elif web is not None and alone:
        settings["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    elif web is not None and web.partition("?")[0].lower().endswith((".tif", ".tiff")):
        settings["CPL_VSIL_CURL_ALLOWED_EXTENSIONS"] = _BESIDE
    if again and (stored or web):
        settings["CPL_VSIL_CURL_NON_CACHED"] = stored or f"/vsicurl/{web}"
    return settings


def decoding_threads(source: str, threads: int) -> int:
    """Return the number of threads that GDAL decodes a file with.

    Of a remote file it is one: several fetch the blocks of each band by themselves, one after the other.
    """
    return 1 if is_address(source) else threads


def read_again(source: str, read: Callable[[bool], _Read]) -> _Read:
    """Read from a file; from an address up to `ATTEMPTS` times.

    Args:
        source: File or address.
        read: Function that reads. Its argument is False for the first attempt; for the others it is True: the file must
            be opened anew.

    Raises:
        GDAL_ERRORS: The last error.
    """
    delay = _DELAY
    for attempt in range(ATTEMPTS):
        try:
            return read(attempt > 0)
        except GDAL_ERRORS as error:
            if attempt == ATTEMPTS - 1 or not is_address(source) or _FINAL.search(_text(error)):
                raise
        time.sleep(delay)
        delay *= 2
    raise AssertionError("unreachable")


def read_vector_again(source: str, read: Callable[[], _Read], errors: tuple[type[Exception], ...]) -> _Read:
    """Read a vector file with pyogrio; at an address up to `ATTEMPTS` times.

    Args:
        source: File or address.
        read: Function that reads.
        errors: Errors of pyogrio.

    Raises:
        Exception: The last of these errors.
    """
    if not is_address(source):
        return read()
    import pyogrio

    check_reachable(source)
    use_http_settings()
    delay = _DELAY
    for attempt in range(ATTEMPTS):
        # A file that can't be opened is remembered as missing, and a part that is cut short as the end of the file.
        pyogrio.vsi_curl_clear_cache()
        try:
            return read()
        except errors as error:
            if attempt == ATTEMPTS - 1 or _FINAL.search(_text(error)):
                raise
        time.sleep(delay)
        delay *= 2
    raise AssertionError("unreachable")


def list_files(address: str) -> list[str]:
    """List the files of a folder in an object store or an archive, at any depth; needs pyogrio.

    Returns:
        Paths relative to the folder; none if it is empty.

    Raises:
        OSError: The folder doesn't exist, or wasn't listed as a whole in `ATTEMPTS` attempts.
        ImportError: pyogrio is not installed.
    """
    import pyogrio

    path = store_path(address) or address
    use_http_settings()
    why: Exception = OSError("no files")
    delay = _DELAY
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(delay)
            delay *= 2
        pyogrio.vsi_curl_clear_cache()  # a list that failed is remembered as an empty one
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                found = [name for name in map(str, pyogrio.vsi_listtree(path)) if not name.endswith("/")]
        except (OSError, RuntimeError, ValueError) as error:
            why = error
        else:
            # Requests that were repeated are warned of, too.
            failed = [str(each.message) for each in warned if "Retrying" not in str(each.message)]
            if found and not failed:
                _remember(found)
                return [name.removeprefix(path).lstrip("/") for name in found]
            why = OSError(failed[-1] if failed else "no files")
        if store_path(address) is None:
            break
    if str(why) == "no files":
        return []
    raise OSError(str(why).removesuffix(".")) from why


def _remember(paths: Iterable[str]) -> None:
    """Remember of each folder of stores whether it holds files that belong to images."""
    found: dict[str, bool] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        suffix = name[name.rfind(".") :].lower()
        found[folder] = found.get(folder, True) and suffix not in _SIDECARS
    _bare.update({folder: bare for folder, bare in found.items() if store_path(folder)})


def use_http_settings() -> None:
    """Give `HTTP_SETTINGS` to pyogrio, which has a GDAL of its own: it lists folders and reads vector files."""
    import pyogrio

    wanted = HTTP_SETTINGS | _VECTOR
    pyogrio.set_gdal_config_options({name: value for name, value in wanted.items() if name not in os.environ})


def _text(error: BaseException) -> str:
    """Return the messages of an error and of those that caused it."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(lines) < 10:
        lines.append(str(cause))
        cause = cause.__cause__
    return "\n".join(lines)


def check_reachable(source: str, fix: str = "or download the file") -> None:
    """Check that the host of an address answers, so that without a network a command ends at once.

    GDAL would try several times, each for the time of `GDAL_HTTP_CONNECTTIMEOUT`. Nothing is checked behind a proxy.

    Args:
        source: The address; nothing is checked for a file.
        fix: What else the user can do, for the error message.

    Raises:
        UserError: The host is unknown, refuses connections or doesn't answer.
    """
    place = _host(source)
    if place is None or place in _reached:
        return
    host, port = place
    proxies = urllib.request.getproxies()
    if (set(proxies) & {"http", "https", "all"} and not urllib.request.proxy_bypass(host)) or any(
        name in os.environ for name in ("GDAL_HTTP_PROXY", "GDAL_HTTPS_PROXY")
    ):
        return
    try:
        socket.create_connection((host, port), _CONNECT).close()
        _reached.add(place)
    except (OSError, UnicodeError) as error:
        what = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{shown_path(source)}: {host} can't be reached: {what} (check the address, the network"
            f"{' and AWS_S3_ENDPOINT' if 'AWS_S3_ENDPOINT' in os.environ else ''}, {fix})"
        ) from None


def _host(source: str) -> tuple[str, int] | None:
    """Return the host and port that GDAL connects to for an address; None if that isn't known."""
    web, stored = web_address(source), store_path(source)
    if web is None and stored is not None and stored.startswith("/vsis3/"):
        bucket = stored.removeprefix("/vsis3/").partition("/")[0]
        endpoint = os.environ.get("AWS_S3_ENDPOINT")
        if not endpoint:
            return None if "AWS_PROFILE" in os.environ else ("s3.amazonaws.com", 443)
        scheme = "http" if os.environ.get("AWS_HTTPS", "YES").upper() in {"NO", "FALSE", "OFF", "0"} else "https"
        web = endpoint if "://" in endpoint else f"{scheme}://{endpoint}/{bucket}"
    if web is None:
        return None
    try:
        parts = urlsplit(web)
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError:  # GDAL's message says what is wrong with it
        return None
    return (parts.hostname, port) if parts.hostname else None

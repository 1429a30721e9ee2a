"""Client of S3 with the settings that GDAL reads with, so that reading and writing use one server and the same keys."""

import os
from collections.abc import Mapping
from typing import Any

from inference.common.errors import UserError, first_line

INSTALL = "needs boto3 (pip install 'boto3>=1.36')"
"""End of the message where boto3 isn't installed; the extra `s3` names the same versions."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
REPEATS = 7
"""Repeats of a request that may succeed later, after up to 1, 2, 4, ... 20 s."""
_OFF = {"NO", "FALSE", "OFF", "0"}


def client_arguments(bucket: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a client of S3, for GDAL's settings in environment variables.

    Args:
        bucket: Name of the bucket.
        environment: Environment variables.

    Returns:
        `endpoint_url`, `region_name` and `verify`, where they differ from the client's defaults, and `config`, a dict
        of the arguments of botocore's `Config`.

    Raises:
        UserError: A variable names a server to which GDAL wouldn't go.
    """
    arguments: dict[str, Any] = {}
    endpoint = environment.get("AWS_S3_ENDPOINT", "")
    if endpoint:
        scheme = "http" if _is_off(environment.get("AWS_HTTPS", "YES")) else "https"
        arguments["endpoint_url"] = (endpoint if "://" in endpoint else f"{scheme}://{endpoint}").rstrip("/")
    else:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
            if environment.get(name):
                raise UserError(
                    f"{name}: is set, but images are read without it (set AWS_S3_ENDPOINT=HOST:PORT in its place, with "
                    "AWS_HTTPS=NO for http and AWS_VIRTUAL_HOSTING=FALSE where the bucket is part of the path)"
                )
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region:
        arguments["region_name"] = region
    bundle = environment.get("GDAL_CURL_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if environment.get("GDAL_HTTP_UNSAFESSL", "NO").upper() not in {"", *_OFF}:
        arguments["verify"] = False
    elif bundle:
        arguments["verify"] = bundle
    virtual = not _is_off(environment.get("AWS_VIRTUAL_HOSTING", "TRUE")) and "." not in bucket
    config: dict[str, Any] = {
        "s3": {"addressing_style": "virtual" if virtual else "path"},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": _repeats(environment) + 1},
        "tcp_keepalive": True,
        "ignore_configured_endpoint_urls": True,
        # Each object and each part is sent with its MD5, which every store checks; some don't know newer checksums.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if "AWS_NO_SIGN_REQUEST" in environment and not _is_off(environment["AWS_NO_SIGN_REQUEST"]):
        config["signature_version"] = "unsigned"
    proxies = {
        scheme: environment[name]
        for scheme, name in (("http", "GDAL_HTTP_PROXY"), ("https", "GDAL_HTTPS_PROXY"))
        if environment.get(name)
    }
    if proxies:
        config["proxies"] = proxies
    arguments["config"] = config
    return arguments


def new_client(bucket: str) -> Any:
    """Return a client of S3 for a bucket.

    Raises:
        UserError: boto3 isn't installed, or a setting or a profile is invalid.
    """
    try:
        import boto3
        import botocore
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError(f"s3://{bucket}: writing to it {INSTALL}") from None
    arguments = client_arguments(bucket, os.environ)
    config = arguments.pop("config")
    if config.get("signature_version") == "unsigned":
        config["signature_version"] = botocore.UNSIGNED
    try:
        return boto3.session.Session().client("s3", config=Config(**config), **arguments)
    except (BotoCoreError, ValueError) as error:
        raise UserError(
            f"s3://{bucket}: can't be written to: {first_line(error)} (correct the AWS_ variables and ~/.aws)"
        ) from None


def request_arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments that all requests have."""
    payer = environment.get("AWS_REQUEST_PAYER", "")
    return {"RequestPayer": payer} if payer else {}


def _is_off(text: str) -> bool:
    return text.upper() in _OFF


def _repeats(environment: Mapping[str, str]) -> int:
    """Return the number of repeats that GDAL_HTTP_MAX_RETRY asks for, or ours."""
    text = environment.get("GDAL_HTTP_MAX_RETRY", "")
    return min(int(text), 100) if text.isascii() and text.isdigit() else REPEATS

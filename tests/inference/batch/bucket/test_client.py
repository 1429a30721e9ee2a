"""Arguments of the client of S3 for GDAL's settings, against requests that the client really makes."""

import io
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from rasterio.errors import RasterioIOError

from inference.batch.bucket.client import INSTALL, REPEATS, client_arguments, new_client, request_arguments
from inference.common.errors import UserError
from inference.common.raster import environment, open_raster

ROOT = Path(__file__).parents[4]

SETTINGS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "none": ({}, {}),
    "another server": (
        {"AWS_S3_ENDPOINT": "store:9000", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"},
        {"endpoint_url": "http://store:9000", "addressing_style": "path"},
    ),
    "a server with TLS": ({"AWS_S3_ENDPOINT": "store"}, {"endpoint_url": "https://store"}),
    "a web address": ({"AWS_S3_ENDPOINT": "http://store:1/"}, {"endpoint_url": "http://store:1"}),
    "region": ({"AWS_REGION": "ca-central-1", "AWS_DEFAULT_REGION": "x"}, {"region_name": "ca-central-1"}),
    "default region": ({"AWS_DEFAULT_REGION": "eu-west-1"}, {"region_name": "eu-west-1"}),
    "unsigned": ({"AWS_NO_SIGN_REQUEST": "YES"}, {"signature_version": "unsigned"}),
    "signed": ({"AWS_NO_SIGN_REQUEST": "NO"}, {}),
    "any certificate": ({"GDAL_HTTP_UNSAFESSL": "YES"}, {"verify": False}),
    "own certificates": ({"CURL_CA_BUNDLE": "/ca.pem"}, {"verify": "/ca.pem"}),
    "proxy": ({"GDAL_HTTPS_PROXY": "http://p:1"}, {"proxies": {"https": "http://p:1"}}),
    "repeats": ({"GDAL_HTTP_MAX_RETRY": "20"}, {"total_max_attempts": 21}),
    "no number": ({"GDAL_HTTP_MAX_RETRY": "many"}, {}),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case: str) -> None:
    environment, wanted = SETTINGS[case]
    found = client_arguments("bucket", environment)
    config = found.pop("config")
    flat = {**found, **config, **config["s3"], **config["retries"]}
    fixed = {"addressing_style": "virtual", "total_max_attempts": REPEATS + 1}
    names = {"endpoint_url", "region_name", "verify", "signature_version", "proxies", *fixed}
    assert {name: flat[name] for name in names & flat.keys()} == {**fixed, **wanted}
    assert (config["connect_timeout"], config["read_timeout"]) == (10, 60), "nothing waits for ever"


def test_a_bucket_with_dots_is_part_of_the_path() -> None:
    assert client_arguments("a.b", {})["config"]["s3"] == {"addressing_style": "path"}


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_server_that_gdal_does_not_know(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: is set, but images are read without it"):
        client_arguments("bucket", {name: "http://store"})
    assert (
        client_arguments("bucket", {name: "http://store", "AWS_S3_ENDPOINT": "other"})["endpoint_url"]
        == "https://other"
    )


def test_requester_pays() -> None:
    assert request_arguments({"AWS_REQUEST_PAYER": "requester"}) == {"RequestPayer": "requester"}
    assert request_arguments({}) == {}


@pytest.mark.parametrize(
    ("settings", "address", "signed"),
    [
        ({"AWS_REGION": "ca-central-1"}, "https://bucket.s3.ca-central-1.amazonaws.com/k", True),
        ({"AWS_VIRTUAL_HOSTING": "FALSE"}, "https://s3.amazonaws.com/bucket/k", True),
        ({"AWS_S3_ENDPOINT": "store:9", "AWS_HTTPS": "NO"}, "http://bucket.store:9/k", True),
        ({"AWS_S3_ENDPOINT": "store:9", "AWS_NO_SIGN_REQUEST": "YES"}, "https://bucket.store:9/k", False),
    ],
)
def test_requests(settings: dict[str, str], address: str, signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.awsrequest import AWSResponse
    from urllib3 import HTTPResponse

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    client, seen = new_client("bucket"), []

    def answer(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, {}, HTTPResponse(io.BytesIO()))

    client.meta.events.register("before-send.s3", answer)
    client.delete_object(Bucket="bucket", Key="k")
    assert seen[0].url == address
    assert ("Authorization" in seen[0].headers) == signed


def test_bad_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", "a b c")
    with pytest.raises(UserError, match="s3://bucket: can't be written to: Invalid endpoint"):
        new_client("bucket")


def test_images_are_read_with_the_keys_of_gdal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rasterio asks boto3 for keys where it is installed, which a profile that isn't there would make fail."""
    monkeypatch.delenv("AWS_NO_SIGN_REQUEST", raising=False)
    for name, value in {"AWS_PROFILE": "absent", "AWS_S3_ENDPOINT": "127.0.0.1:9", "GDAL_HTTP_MAX_RETRY": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RasterioIOError), environment(source="s3://bucket/a.tif"):
        open_raster("s3://bucket/a.tif")


def test_the_extra_is_what_the_message_names() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["s3"]
    assert re.findall(r"'(\S+)'", INSTALL) == [requirement.partition(",")[0] for requirement in declared]

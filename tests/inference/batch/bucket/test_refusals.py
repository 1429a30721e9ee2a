"""What is refused at the start of a batch into a bucket, in one line and before anything is mapped."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from inference.common import remote
from tests.inference.batch.survey import refused, run

from .stores import MODEL, make_world, store

INSTALL = "needs boto3 (pip install 'boto3>=1.36')"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_world(tmp_path, monkeypatch, 2)


def check_nothing_mapped(world: Path) -> None:
    for name in ("bucket", "readonly", "secret"):
        assert list((world / "store" / name).iterdir()) == []
    assert list((world / "work").iterdir()) == []


BAD = {
    "s3://none/maps": "s3://none/maps: can't be listed: NoSuchBucket: NoSuchBucket of the test (make the ",
    "s3://secret/maps": "s3://secret/maps: can't be listed: AccessDenied: AccessDenied of the test (needed: ",
    "s3://readonly/maps": "s3://readonly/maps/batch.lock: can't be written: AccessDenied: ",
    "gs://bucket/maps": "OUT_DIR: gs://bucket/maps is an address that can't be written to (allowed: s3://",
    "https://host/maps": "OUT_DIR: https://host/maps is an address that can't be written to",
    "s3:///maps": "OUT_DIR: s3:///maps names no folder in a bucket (write s3://BUCKET/FOLDER)",
    "s3://bucket/a/../b": "OUT_DIR: s3://bucket/a/../b names no folder in a bucket",
    "s3://bucket/a//b": "OUT_DIR: s3://bucket/a//b names no folder in a bucket",
}


def test_addresses(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with store(world, monkeypatch):
        for address, says in BAD.items():
            assert refused(capsys, "in", address, *MODEL).startswith(says)
    check_nothing_mapped(world)


def test_names_of_files(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "in", "in/cove0/m0.tif", "s3://bucket/map.tif", *MODEL)
    assert said.startswith("OUT_DIR: s3://bucket/map.tif is the name of a file")
    said = refused(capsys, "in/cove0/m0.tif", "s3://bucket/map.tif", *MODEL)
    assert said.startswith("s3://bucket/map.tif: is an address, not a file of this machine")
    assert refused(capsys, "in", "out", *MODEL, "--work-dir", "x").startswith(
        "--work-dir: is for maps that go to a bucket"
    )
    (world / "long.csv").write_text(f"image,output\nin/cove0/m0.tif,{'x/' * 600}a.tif\n")
    assert "can't be an object in a bucket (allowed: Unicode of at most 1024" in refused(
        capsys, "long.csv", "s3://bucket/maps", *MODEL
    )
    (world / "file").write_text("x")
    with store(world, monkeypatch):
        assert "can't be written to" in refused(capsys, "in", "s3://bucket/maps", *MODEL, "--work-dir", "file")


def test_no_server(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with store(world, monkeypatch):
        pass
    monkeypatch.setattr(remote, "_reached", set())
    said = refused(capsys, "in", "s3://bucket/maps", *MODEL)
    assert said.startswith("s3://bucket/maps: 127.0.0.1 can't be reached: Connection refused")
    assert said.endswith("AWS_S3_ENDPOINT, or choose a folder of this machine)")


def test_no_keys(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(world))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with store(world, monkeypatch):
        monkeypatch.delenv("AWS_NO_SIGN_REQUEST")
        assert "Unable to locate credentials (correct the AWS_ variables and ~/.aws)" in refused(
            capsys, "in", "s3://bucket/maps", *MODEL
        )
        monkeypatch.setenv("AWS_PROFILE", "absent")
        assert "The config profile (absent) could not be found" in refused(capsys, "in", "s3://bucket/maps", *MODEL)
    check_nothing_mapped(world)


def test_without_boto3(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "boto3" else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert refused(capsys, "in", "s3://bucket/maps", *MODEL) == f"OUT_DIR: s3://bucket/maps: {INSTALL}"
    assert run("in", "out", *MODEL) == 0


def test_a_server_that_images_are_not_read_from(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        assert run("in", "s3://bucket/maps", *MODEL) == 0, "AWS_S3_ENDPOINT wins"
        monkeypatch.delenv("AWS_S3_ENDPOINT")
        monkeypatch.setattr("inference.batch.bucket.session.check_reachable", lambda *_: None)
        said = refused(capsys, "in", "s3://bucket/other", *MODEL)
        assert said.startswith(
            "AWS_ENDPOINT_URL: is set, but images are read without it (set AWS_S3_ENDPOINT=HOST:PORT"
        )

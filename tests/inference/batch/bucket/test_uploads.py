"""Uploads that fail: of one object, of all, and of the journal; rights that are lost in the middle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.batch.bucket import journal as stored
from inference.batch.worker import Worker
from tests.inference.batch.survey import contents, refused, run, write_survey
from tests.object_store import Store

from .stores import MODEL, OUT, make_world, states, store, to_bucket, written


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    return make_world(tmp_path, monkeypatch)


def before_image(number: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a function before the image of this number, from 1, is mapped."""
    done, run_one = [0], Worker.run

    def running(self: Worker, *arguments: Any) -> Any:
        done[0] += 1
        if done[0] == number:
            act()
        return run_one(self, *arguments)

    monkeypatch.setattr(Worker, "run", running)


def check_whole(world: Path) -> None:
    """Check that the bucket has the files of a local batch."""
    assert run("in", "local", *MODEL) == 0
    assert contents(written(world)) == contents(world / "local")
    assert list((world / "work").iterdir()) == []


@pytest.mark.slow
def test_an_upload_that_fails_for_a_while(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch) as server:
        server.refuse("m2.tif")
        before_image(5, lambda: server.refuse(""), monkeypatch)
        assert to_bucket() == 0
    assert "s3://bucket/2026/maps/cove0/m2.tif: can't be written: InternalError" in capsys.readouterr().err
    assert [state for name, state in states(world) if name == "cove0/m2.tif"] == [
        "started",
        "failed",
        "started",
        "done",
    ]
    check_whole(world)


def test_an_upload_that_fails_for_ever(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch) as server:
        server.refuse("m2.qml")
        assert to_bucket("--qgis-style", "--retries", "1") == 4
        assert "images: 3 done, 1 failed" in capsys.readouterr().out
        assert not (written(world) / "cove0" / "m2.tif").exists(), "a map is the last of its files"
        server.refuse("")
        assert to_bucket("--qgis-style") == 0
    assert run("in", "local", *MODEL, "--qgis-style") == 0
    assert contents(written(world)) == contents(world / "local")


def test_uploads_that_all_fail_stop_the_batch(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_survey(world / "in", 8)
    with store(world, monkeypatch) as server:
        before_image(3, lambda: server.refuse("cove"), monkeypatch)
        assert to_bucket() == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert "stopped, as the files of 3 images in a row could not be uploaded" in said
        assert [state for _, state in states(world)] == ["started", "done"] * 2 + ["started", "failed"] * 3
        server.refuse("")
        assert to_bucket() == 0
    check_whole(world)


def deny(world: Path) -> None:
    """Have the server refuse all writes for lack of rights."""
    from botocore.exceptions import ClientError

    raise ClientError({"Error": {"Code": "ExpiredToken"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutObject")


def test_keys_that_expire_stop_the_batch(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch):
        from inference.batch.bucket.upload import store_of

        client = store_of("bucket", "2026/maps")._client
        put = client.put_object

        def expire() -> None:
            monkeypatch.setattr(client, "put_object", lambda **_: deny(world))

        before_image(3, expire, monkeypatch)
        assert to_bucket() == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("s3://bucket/2026/maps/batch.jsonl: can't be written: ExpiredToken")
        assert lines[0].endswith("(images that were mapped since its last upload will be mapped again)")
        assert lines[1].startswith("s3://bucket/2026/maps/cove1/m1.tif: can't be written: ExpiredToken (needed: ")
        assert states(world) == [], "the journal could not be uploaded"
        monkeypatch.setattr(client, "put_object", put)
        assert to_bucket() == 0
        assert "images: 4 done" in capsys.readouterr().out, "those without a line are known as the batch's own"
    check_whole(world)


def test_the_journal_is_uploaded_now_and_then(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(server: Store) -> int:
        return sum("PUT" in line and "batch.jsonl" in line for line in server.requests())

    with store(world, monkeypatch) as server:
        assert to_bucket() == 0
        assert sent(server) == 2, "at the start and at the end"
        for path in written(world).rglob("*.*"):
            path.unlink()
        monkeypatch.setattr(stored, "UPLOAD_SECONDS", 0.0)
        monkeypatch.setattr(stored, "_SHARE", 1e9)
        server.clear()
        assert to_bucket() == 0
        assert sent(server) == 9, "with each line"


def test_a_journal_that_cannot_be_uploaded_for_a_while(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch) as server:
        monkeypatch.setattr(stored, "UPLOAD_SECONDS", 0.0)
        before_image(1, lambda: server.refuse("batch.jsonl"), monkeypatch)
        before_image(4, lambda: server.refuse(""), monkeypatch)
        assert to_bucket() == 0
    assert [state for _, state in states(world)] == ["started", "done"] * 4
    said = capsys.readouterr().err
    assert said.count("batch.jsonl: can't be written: InternalError") == 1, "said once"
    check_whole(world)


def test_a_damaged_journal(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with store(world, monkeypatch):
        assert to_bucket() == 0
        path = written(world) / "batch.jsonl"
        before = path.read_bytes()
        path.write_bytes(before + b"{]\n")
        for more in ([], ["--dry-run"]):
            said = refused(capsys, "in", OUT, *MODEL, *more)
            assert said.startswith("s3://bucket/2026/maps/batch.jsonl:9: isn't valid JSON")
        path.write_bytes(before + b'{"image": "x", "out')  # cut short
        assert to_bucket() == 0

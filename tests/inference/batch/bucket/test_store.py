"""Folder in a bucket: objects in one request and in parts, conditions, lost answers, lists, and what errors say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.batch.bucket import store as module
from inference.batch.bucket.store import Store, StoreError, Taken
from tests.object_store import Store as Server
from tests.object_store import serve


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("bucket", "readonly"):
        (tmp_path / "store" / name).mkdir(parents=True)
    with serve(tmp_path / "store") as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def use(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def test_objects(server: Server, tmp_path: Path) -> None:
    store = Store("bucket", "a/b")
    assert store.address == "s3://bucket/a/b"
    assert store.find("x") is None
    etag = store.put("x/y z+é.tif", b"content", {"batch": "7"})
    found = store.read("x/y z+é.tif")
    assert found is not None
    assert (found.content, found.size, found.etag, found.metadata["batch"]) == (b"content", 7, etag, "7")
    assert -2 < found.age < 30
    head = store.find("x/y z+é.tif")
    assert head is not None
    assert (head.content, head.size) == (b"", 7)
    assert (tmp_path / "store" / "bucket" / "a" / "b" / "x" / "y z+é.tif").read_bytes() == b"content"
    store.put("empty", b"", {})
    assert store.list_names() == {"empty": 0, "x/y z+é.tif": 7}
    store.delete("empty")
    store.delete("empty")
    assert store.list_names() == {"x/y z+é.tif": 7}


def test_parts(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 1000)
    path = tmp_path / "big"
    store = Store("bucket", "")
    for size in (1000, 3001):
        path.write_bytes(bytes(at % 251 for at in range(size)))
        server.clear()
        etag = store.put("big", path, {"batch": "7"})
        parts = sum("partNumber" in line for line in server.requests())
        assert parts == (0 if size == 1000 else -(-size // 1000))
        found = store.read("big")
        assert found is not None
        assert (found.content, found.etag, found.metadata["batch"]) == (path.read_bytes(), etag, "7")
    with pytest.raises(Taken):
        Store("bucket", "").put("big", path, {}, only="")
    server.refuse("other")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    with pytest.raises(StoreError, match="s3://bucket/other: can't be written: InternalError"):
        Store("bucket", "").put("other", path, {})
    server.refuse("")
    assert "UploadId" not in _uploads(server), "none is left"


def _uploads(server: Server) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://{server.place}/bucket?uploads", timeout=10) as answer:
        return str(answer.read().decode())


def test_parts_of_killed_processes_are_removed(server: Server) -> None:
    store = Store("bucket", "a")
    for name in ("a/ours", "a/theirs", "b/ours"):
        store._client.create_multipart_upload(Bucket="bucket", Key=name)
    store.abandon_uploads({"ours"})
    assert "a/ours" not in _uploads(server)
    assert all(name in _uploads(server) for name in ("a/theirs", "b/ours"))


def test_conditions(server: Server) -> None:
    one, two = Store("bucket", "a"), Store("bucket", "a")
    first = one.put("x", b"1", {}, only="")
    with pytest.raises(Taken, match="s3://bucket/a/x: was written by another command in the meantime and is kept"):
        two.put("x", b"2", {}, only="")
    one.put("x", b"3", {}, only=""), "its own objects may be replaced"
    with pytest.raises(Taken):
        two.put("x", b"4", {}, only=first)
    found = two.find("x")
    assert found is not None
    two.put("x", b"5", {}, only=found.etag)
    with pytest.raises(Taken):
        one.put("x", b"6", {}, only=found.etag)
    one.put("x", b"7", {})
    again = two.read("x")
    assert again is not None
    assert again.content == b"7"


@pytest.mark.parametrize("parts", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_lost_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool) -> None:
    """Half of the requests fail, some after they are done: each write succeeds, and its tag is that of the object."""
    from botocore import retryhandler  # noqa: F401 - the standard mode waits elsewhere
    from botocore.retries import standard

    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.0)
    monkeypatch.setattr(module, "_CONFLICT_SECONDS", 0.0)
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "30")
    monkeypatch.setattr(module, "PART_BYTES", 10 if parts else 1000)
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"0123456789" * 4)
    with serve(tmp_path / "store", failures=0.4, seed=3) as server:
        use(server, monkeypatch)
        store = Store("bucket", "a")
        for at in range(4):
            etag = store.put(f"x{at}", tmp_path / "file", {}, only="")
            found = store.read(f"x{at}")
            assert found is not None
            assert (found.etag, found.content) == (etag, (tmp_path / "file").read_bytes())
            with pytest.raises(Taken):
                Store("bucket", "a").put(f"x{at}", b"other", {}, only="")
        assert any("503" in line for line in server.requests())


def test_lists_of_more_than_a_page(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "bucket" / "a"
    folder.mkdir()
    for at in range(1500):
        (folder / f"{at:05}.tif").touch()
    server.clear()
    assert Store("bucket", "a").list_names().keys() == {f"{at:05}.tif" for at in range(1500)}
    assert len(server.requests()) == 2


def test_errors(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"s3://readonly/x: can't be written: AccessDenied") as denied:
        Store("readonly", "").put("x", b"", {})
    assert (denied.value.for_all, denied.value.may_pass) == (True, False)
    with pytest.raises(StoreError, match=r"NoSuchBucket.*\(make the bucket first") as absent:
        Store("absent", "").put("x", b"", {})
    assert absent.value.for_all
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    server.refuse("x")
    with pytest.raises(StoreError, match="InternalError") as failed:
        Store("bucket", "").put("x", b"", {})
    assert (failed.value.for_all, failed.value.may_pass) == (False, True)
    monkeypatch.setattr(module, "_md5", lambda _: "AAAAAAAAAAAAAAAAAAAAAA==")
    with pytest.raises(StoreError, match="BadDigest") as damaged:
        Store("bucket", "").put("y", b"content", {})
    assert (damaged.value.for_all, damaged.value.may_pass) == (False, True)
    monkeypatch.setenv("AWS_S3_ENDPOINT", "127.0.0.1:9")
    with pytest.raises(StoreError, match="Could not connect") as gone:
        Store("bucket", "").list_names()
    assert (gone.value.for_all, gone.value.may_pass) == (False, True)


def test_a_server_without_conditions(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("bucket", "")
    put = store._client.put_object

    def refuse(**given: object) -> object:
        if {"IfMatch", "IfNoneMatch"} & given.keys():
            from botocore.exceptions import ClientError

            raise ClientError(
                {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}, "PutObject"
            )
        return put(**given)

    monkeypatch.setattr(store._client, "put_object", refuse)
    store.put("x", b"1", {}, only="")
    assert not store.conditional
    store.put("x", b"2", {}, only="other")

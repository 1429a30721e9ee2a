"""Remote mosaics: read by range requests from a loopback server, over HTTP and as S3."""

import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

from inference.batch.items import find_items
from inference.common import remote
from inference.common.raster import environment, open_image, read_header
from inference.common.remote import list_files
from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.commands import refused
from tests.inference.networks import card, write_onnx
from tests.object_store import Store, serve
from train.data.remote_folder import remote_folder

_SIZE = (3, 300, 260)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """A folder with `bucket/in.tif`."""
    pixels = np.random.default_rng(4).integers(1, 256, _SIZE).astype(np.uint8)
    write_raster(tmp_path / "bucket" / "in.tif", pixels, tiled=True, blockxsize=128, blockysize=128)
    return tmp_path


@pytest.fixture
def served(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Store]]:
    """The folder, and the server that serves it without failures."""
    with serve(bucket) as store:
        _use(store, monkeypatch)
        yield bucket, store


def _use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "_DELAY", 0.01)


def test_a_served_mosaic_gives_the_same_map(served: tuple[Path, Store]) -> None:
    folder, store = served
    model = write_onnx(folder / "m.onnx", card(tile_size=64))
    address = f"http://{store.place}/bucket/in.tif"
    sources = (folder / "bucket" / "in.tif", f"/vsicurl/{address}", address, "s3://bucket/in.tif")
    maps = []
    for source in sources:
        predict(source, folder / "map.tif", model=model, overwrite=True)
        maps.append((folder / "map.tif").read_bytes())
    assert maps[0] == maps[1] == maps[2] == maps[3]


def test_a_server_that_fails_at_random_costs_retries_only(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(4).integers(1, 256, (3, 4096, 128)).astype(np.uint8)
    write_raster(bucket / "bucket" / "in.tif", pixels, tiled=True, blockxsize=128, blockysize=128)
    model = write_onnx(bucket / "m.onnx", card(tile_size=64))
    predict(bucket / "bucket" / "in.tif", bucket / "local.tif", model=model)
    kinds: set[str] = set()
    for seed in range(4):
        with serve(bucket, failures=0.25, seed=seed) as store:
            _use(store, monkeypatch)
            for source in ("s3://bucket/in.tif", f"http://{store.place}/bucket/in.tif"):
                predict(source, bucket / "map.tif", model=model, overwrite=True)
                assert (bucket / "map.tif").read_bytes() == (bucket / "local.tif").read_bytes()
            kinds |= {line.split()[0] for line in store.requests()}
    assert {"503", "reset", "short"} <= kinds


def test_a_mask_beside_a_remote_mosaic_counts(served: tuple[Path, Store]) -> None:
    folder, store = served
    # GDAL remembers the list of a bucket.
    path = write_raster(folder / "masked" / "in.tif", np.ones(_SIZE, np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(300)[:, None].repeat(260, axis=1) > 99)
    assert path.with_name("in.tif.msk").exists()
    for source in ("s3://masked/in.tif", f"http://{store.place}/masked/in.tif"):
        header = read_header(source)
        assert header.masked
        with environment(source=source), open_image(header, 1) as src:
            assert (src.read_masks(1)[:, 0] == np.where(np.arange(300) > 99, 255, 0)).all()


def test_a_mask_that_is_lost_is_an_error(served: tuple[Path, Store]) -> None:
    """An image whose mask can't be opened must not pass as one without invalid pixels."""
    header = read_header("s3://bucket/in.tif")
    with pytest.raises(remote.GDAL_ERRORS, match="mask"), environment(source=header.path):
        open_image(replace(header, masked=True), 1)


_WINDOWS = """
import sys
from rasterio.windows import Window
from inference.common.raster import WINDOW_CACHE, environment, open_image, read_header
from tests.object_store import Store
place, source = sys.argv[1:]
store = Store(place)
header = read_header(source)
print(len(store.requests()))
with environment(WINDOW_CACHE, source):
    src = open_image(header, 4)
    for row, col in ((700, 300), (100, 1900), (1500, 900)):
        store.clear()
        src.read(window=Window(col, row, 1024, 1024))
        print(len(store.requests()))
"""


def test_a_window_of_a_cog_takes_three_requests(served: tuple[Path, Store]) -> None:
    folder, store = served
    pixels = np.random.default_rng(4).integers(1, 256, (3, 3072, 3072)).astype(np.uint8)
    write_raster(folder / "plain.tif", pixels, tiled=True, blockxsize=512, blockysize=512)
    (folder / "bucket" / "sub").mkdir()
    copy(str(folder / "plain.tif"), str(folder / "bucket" / "sub" / "cog.tif"), driver="COG", blocksize=512)
    for source, most in (("s3://bucket/sub/cog.tif", 2), (f"http://{store.place}/bucket/sub/cog.tif", 11)):
        store.clear()
        # A process of its own has nothing in its cache.
        command = [sys.executable, "-c", _WINDOWS, store.place, source]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        opening, *windows = map(int, found)
        assert opening <= most, source
        assert len(windows) == 3, source
        assert max(windows) <= 3, source
        assert sum(windows) >= 6, source


def _requests_to_open(store: Store, source: str) -> int:
    store.clear()
    read_header(source)
    return len(store.requests())


def test_a_folder_of_thousands_of_objects_is_listed_once(served: tuple[Path, Store]) -> None:
    """A store lists at most 1,000 objects at a time."""
    folder, store = served
    many = folder / "many" / "sub"
    many.mkdir(parents=True)
    pixels = (folder / "bucket" / "in.tif").read_bytes()
    for number in range(2300):
        (many / f"i{number:04}.tif").write_bytes(pixels if number % 1100 == 7 else b"")
    assert _requests_to_open(store, "s3://many/sub/i0007.tif") >= 4, "three lists, as nothing is known of the folder"
    store.clear()
    found = list_files("s3://many/")
    assert sorted(found) == [f"sub/i{number:04}.tif" for number in range(2300)]
    assert len(store.requests()) <= 5
    assert [_requests_to_open(store, f"s3://many/sub/i{number:04}.tif") for number in (1107, 2207)] == [1, 1]
    assert len(remote_folder("s3://many").names("sub")) == 2300
    assert len(find_items(["s3://many/sub/"], folder / "out")) == 2300


def test_the_images_of_a_manifest_are_listed_once(served: tuple[Path, Store]) -> None:
    """Nothing has listed their folder before; GDAL keeps the list that it makes for the first one."""
    folder, store = served
    for number in range(3):
        write_raster(folder / "kept" / f"i{number}.tif", np.ones(_SIZE, np.uint8))
    assert [_requests_to_open(store, f"s3://kept/i{number}.tif") for number in range(3)] == [2, 1, 1]


def test_an_image_that_was_alone_is_opened_again_with_one_request(served: tuple[Path, Store]) -> None:
    """Also in another process, which knows of no list."""
    folder, store = served
    shutil.copytree(folder / "bucket", folder / "reopened")
    header = read_header("s3://reopened/in.tif")
    code = (
        "import pickle, sys\nfrom inference.common.raster import environment, open_image\n"
        "header = pickle.load(sys.stdin.buffer)\nwith environment(source=header):\n    open_image(header, 1).close()"
    )
    for source, most in ((header, 1), (read_header(f"http://{store.place}/reopened/in.tif"), 2)):
        store.clear()
        subprocess.run([sys.executable, "-c", code], input=pickle.dumps(source), check=True)
        assert len(store.requests()) <= most


def test_a_mask_in_a_listed_folder_counts(served: tuple[Path, Store]) -> None:
    folder, _ = served
    path = write_raster(folder / "listed" / "in.tif", np.ones(_SIZE, np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(300)[:, None].repeat(260, axis=1) > 99)
    assert sorted(list_files("s3://listed/")) == ["in.tif", "in.tif.msk"]
    header = read_header("s3://listed/in.tif")
    assert header.masked
    with environment(source=header), open_image(header, 1) as src:
        assert (src.read_masks(1)[:, 0] == np.where(np.arange(300) > 99, 255, 0)).all()


def test_an_object_that_is_missing_is_one_line(served: tuple[Path, Store], capsys: pytest.CaptureFixture[str]) -> None:
    folder, store = served
    model = write_onnx(folder / "m.onnx", card(tile_size=64))
    for source in ("s3://bucket/other.tif", f"http://{store.place}/bucket/other.tif", "s3://none/in.tif"):
        line = refused(capsys, source, folder / "map.tif", "--model", model)
        assert source in line
        assert "\n" not in line.strip()


def test_an_absent_network_is_one_line_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "_CONNECT", 0.3)
    model = write_onnx(tmp_path / "m.onnx", card(tile_size=64))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = f"127.0.0.1:{closed.getsockname()[1]}"
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    place = silent.getsockname()
    waiting = [socket.socket() for _ in range(3)]  # fill its queue, so that the next one gets no answer
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(place)
    monkeypatch.setenv("AWS_S3_ENDPOINT", refusing)
    monkeypatch.setenv("AWS_HTTPS", "NO")
    sources = (
        f"http://{refusing}/a.tif",
        f"/vsicurl/http://{refusing}/a.tif",
        "s3://bucket/a.tif",
        f"http://127.0.0.1:{place[1]}/a.tif",
        "https://no-such-host.invalid/a.tif",
    )
    for source in sources:
        began = time.monotonic()
        line = refused(capsys, source, tmp_path / "map.tif", "--model", model)
        assert source in line
        assert "can't be reached" in line
        assert "\n" not in line.strip()
        assert time.monotonic() - began < 5
    for each in [silent, *waiting]:
        each.close()


def test_a_proxy_is_asked_in_place_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    remote.check_reachable("https://no-such-host.invalid/a.tif")


def test_settings_of_the_user_win(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote.remote_settings("a.tif") == remote.HTTP_SETTINGS
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    with rasterio.Env(GDAL_HTTP_CONNECTTIMEOUT="77"):
        settings = remote.remote_settings("a.tif")
        with environment():
            assert rasterio.env.getenv()["GDAL_HTTP_CONNECTTIMEOUT"] == "77"
            assert "GDAL_HTTP_MAX_RETRY" not in rasterio.env.getenv()
    assert not {"GDAL_HTTP_MAX_RETRY", "GDAL_HTTP_CONNECTTIMEOUT"} & set(settings)


def test_only_what_may_pass_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_DELAY", 0.0)
    attempts: list[bool] = []

    def fail(text: str) -> None:
        def read(again: bool) -> None:
            attempts.append(again)
            raise rasterio.errors.RasterioIOError(text)

        attempts.clear()
        with pytest.raises(rasterio.errors.RasterioIOError):
            remote.read_again(source, read)

    source = "s3://bucket/a.tif"
    fail("Read failed")
    assert attempts == [False, True, True, True]
    for final in ("HTTP response code: 404", "HTTP response code: 403", "CURL error: Could not resolve host: x"):
        fail(final)
        assert attempts == [False], final
    source = "a.tif"
    fail("Read failed")
    assert attempts == [False]

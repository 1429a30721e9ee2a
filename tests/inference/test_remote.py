"""Remote mosaics, read by range requests from a loopback server over HTTP and as S3."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

# Serves files with range requests, as GDAL's /vsicurl/ asks for them. In its own process: GDAL is opened
# under Python's lock, so that a thread of this process couldn't answer.
_SERVER = """
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Ranges(SimpleHTTPRequestHandler):
    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content, asked = path.read_bytes(), self.headers.get("Range")
        first, last = 0, len(content) - 1
        if asked:
            parts = asked.removeprefix("bytes=").split("-")
            first, last = int(parts[0]), min(int(parts[1] or last), last)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder with `bucket/in.tif`, and where it is served."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pixels = np.random.default_rng(4).integers(1, 256, (3, 300, 260)).astype(np.uint8)
    (tmp_path / "bucket").mkdir()
    write_raster(tmp_path / "bucket" / "in.tif", pixels, tiled=True, blockxsize=128, blockysize=128)
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield tmp_path, f"127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.communicate()


def test_a_served_mosaic_gives_the_same_map(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, place = served
    monkeypatch.setenv("AWS_S3_ENDPOINT", place)
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    model = write_onnx(folder / "m.onnx", card(tile_size=64))
    address = f"http://{place}/bucket/in.tif"
    sources = (folder / "bucket" / "in.tif", f"/vsicurl/{address}", address, "s3://bucket/in.tif")
    maps = []
    for source in sources:
        predict(source, folder / "map.tif", model=model, overwrite=True)
        maps.append((folder / "map.tif").read_bytes())
    assert maps[0] == maps[1] == maps[2] == maps[3]

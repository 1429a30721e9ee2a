"""Windows of a GeoTIFF on a disk, and from a loopback server that answers each request after 50 ms.

    uv run python -m benchmarks.remote

The server is S3-like and a web server at once. "GDAL's settings" are those of rasterio without any option. Each figure
comes from a process of its own, because GDAL remembers what it has read; windows are random, of image alone.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.shutil import copy
from rasterio.windows import Window

from inference.common import raster
from tests.conftest import write_raster
from tests.object_store import Store, serve

SIDE, WINDOW, BLOCK = 8192, 1024, 512
"""Sides of the mosaic, of the windows and of the blocks, pixels."""
FILES = {"cog": "COG", "bands": "tiled GeoTIFF, one band after the other"}


def make_mosaics(folder: Path) -> None:
    """Write a mosaic of textured pixels as a COG, and as a tiled GeoTIFF with one band after the other."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 200, (3, SIDE // 8, SIDE // 8)).repeat(8, axis=1).repeat(8, axis=2)
    pixels = (texture + rng.integers(0, 40, (3, SIDE, SIDE))).astype(np.uint8)
    bucket = folder / "bucket" / "mosaics"
    bucket.mkdir(parents=True)
    tiled: dict[str, Any] = {"tiled": True, "compress": "deflate", "blockxsize": BLOCK, "blockysize": BLOCK}
    plain = write_raster(folder / "plain.tif", pixels, **tiled)
    copy(str(plain), str(bucket / "cog.tif"), driver="COG", compress="deflate", blocksize=BLOCK)
    write_raster(bucket / "bands.tif", pixels, interleave="band", **tiled)


def measure(source: str, ours: bool, windows: int, seed: int, place: str) -> dict[str, float]:
    """Read the header of a file, then random windows; return seconds and requests of each."""
    store = Store(place)
    if not ours:
        raster.environment = lambda cache=raster.STREAM_CACHE, *_, **__: rasterio.Env(GDAL_CACHEMAX=cache)
        setattr(raster, "decoding_threads", lambda source, threads: threads)  # noqa: B010 - it is imported there
    store.clear()
    began = time.perf_counter()
    header = raster.read_header(source)
    opened = time.perf_counter() - began
    requests = len(store.requests())
    store.clear()
    chosen = random.Random(seed)
    settings: Any = raster.environment(raster.WINDOW_CACHE, header)
    with settings:
        src = raster.open_image(header, 4)
        store.clear()
        began = time.perf_counter()
        for _ in range(windows):
            row, col = chosen.randrange(SIDE - WINDOW), chosen.randrange(SIDE - WINDOW)
            src.read(window=Window(col, row, WINDOW, WINDOW))
        seconds = time.perf_counter() - began
    return {
        "open": opened,
        "open requests": requests,
        "windows/s": windows / seconds,
        "requests": len(store.requests()) / windows,
    }


def rounds(source: str, ours: bool, options: argparse.Namespace, store: Store) -> dict[str, float]:
    """Return the medians of some processes."""
    found = []
    for seed in range(options.rounds):
        words = [source, str(int(ours)), str(options.windows), str(seed), store.place]
        command = [sys.executable, "-m", "benchmarks.remote", "--one", *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | store.environment)
        found.append(json.loads(answer.stdout))
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request waits")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        source, ours, windows, seed, place = options.one
        print(json.dumps(measure(source, ours == "1", int(windows), int(seed), place)))
        return
    with tempfile.TemporaryDirectory() as name, serve(Path(name), options.latency) as store:
        make_mosaics(Path(name))
        for stem, layout in FILES.items():
            print(f"{layout}: {SIDE} px, blocks of {BLOCK} px, windows of {WINDOW} px")
            print(f"  {'':<28}{'open':>8}{'requests':>10}{'windows/s':>12}{'requests a window':>20}")
            key = f"bucket/mosaics/{stem}.tif"
            for title, source, ours in (
                ("local file", str(Path(name) / key), True),
                ("s3://, these settings", f"s3://{key}", True),
                ("s3://, GDAL's settings", f"s3://{key}", False),
                ("http://, these settings", f"http://{store.place}/{key}", True),
                ("http://, GDAL's settings", f"http://{store.place}/{key}", False),
            ):
                found = rounds(source, ours, options, store)
                print(
                    f"  {title:<28}{found['open']:>6.2f} s{found['open requests']:>10.0f}{found['windows/s']:>12.1f}"
                    f"{found['requests']:>20.1f}"
                )


if __name__ == "__main__":
    main()

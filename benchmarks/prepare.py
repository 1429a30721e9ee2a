"""Time and memory of burning the polygons of a large mosaic, against `gdal_rasterize`, each in a process of its own.

    uv run python -m benchmarks.prepare [--side 60000] [--polygons 100000]

The mosaic is empty and takes no room on disk. Both ways read the same GeoPackage and write a tiled, deflated GeoTIFF of
class indices. `train.prepare` also checks geometries, finds overlaps of classes, and counts pixels.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio import Affine

PIXEL, WEST, NORTH = 0.1, 500_000, 5_700_000
LABELS = """
import sys
from pathlib import Path
from inference.common.raster import read_header
from inference.common.vector import read_layer
from train.preparation.burn import Burner
from train.preparation.label_files import write_labels
from train.preparation.overlap_areas import overlaps
from train.preparation.polygons import classes_of, label_polygons

image, layer, target = sys.argv[1:]
header, read = read_header(image), read_layer(layer, columns=["class"])
placed = label_polygons(read, classes_of(read, "class", {"1": 1, "2": 2}), header)
found = overlaps(placed.geometries, placed.classes, header)
burner = Burner(header.height, header.width, placed.geometries, placed.classes)
write_labels(Path(target), header, burner.rows, ["background", "one", "two"], lambda: None)
"""


def make(image: Path, layer: Path, side: int, polygons: int) -> None:
    """Write an empty mosaic, and a GeoPackage of random polygons of two classes of up to 12 m."""
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "nodata": 0}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True}
    transform = Affine(PIXEL, 0, WEST, 0, -PIXEL, NORTH)
    with rasterio.open(image, "w", crs="EPSG:32609", transform=transform, **profile, **tiles):
        pass
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(polygons):
        corners = rng.integers(8, 64)
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = rng.uniform(3, 60) * rng.uniform(0.7, 1, corners)
        col, row = rng.uniform(0, side, 2)
        at = [WEST + PIXEL * (col + reach * np.cos(angle)), NORTH - PIXEL * (row + reach * np.sin(angle))]
        drawn.append(shapely.Polygon(np.column_stack(at)))
    pyogrio.raw.write(
        layer,
        geometry=shapely.to_wkb(drawn),
        field_data=[rng.integers(1, 3, polygons)],
        fields=["class"],
        geometry_type="Polygon",
        crs="EPSG:32609",
        dataset_options={"VERSION": "1.2"},
    )


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, its CPU seconds and its peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def differing(first: Path, second: Path) -> int:
    """Return the number of pixels in which two label files differ, those without a label in the first left out."""
    count = 0
    with rasterio.open(first) as one, rasterio.open(second) as two:
        for _, window in one.block_windows(1):
            ours = one.read(1, window=window)
            count += int(np.count_nonzero((ours != two.read(1, window=window)) & (ours != 255)))
    return count


def main() -> None:
    """Measure both ways, and print the figures."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--side", type=int, default=60_000, help="side of the mosaic, pixels")
    options.add_argument("--polygons", type=int, default=100_000)
    given = options.parse_args()
    if shutil.which("gdal_rasterize") is None:
        sys.exit("gdal_rasterize isn't installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, layer = folder / "image.tif", folder / "polygons.gpkg"
        # In a process of its own: the peak of a new process counts from the memory of the one that starts it.
        maker = multiprocessing.get_context("spawn").Process(
            target=make, args=(image, layer, given.side, given.polygons)
        )
        maker.start()
        maker.join()
        reach = given.side * PIXEL
        extent = ["-te", str(WEST), str(NORTH - reach), str(WEST + reach), str(NORTH), "-ts", *[str(given.side)] * 2]
        tiles = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "COMPRESS=DEFLATE", "ZLEVEL=1"]
        options_of_file = [part for tile in tiles for part in ("-co", tile)]
        command = ["gdal_rasterize", "-q", "-a", "class", "-ot", "Byte", *extent, *options_of_file, str(layer)]
        ours, theirs = folder / "ours.tif", folder / "gdal.tif"
        results = {
            "train.preparation": measure([sys.executable, "-c", LABELS, str(image), str(layer), str(ours)]),
            "gdal_rasterize": measure([*command, str(theirs)]),
        }
        print(f"{given.polygons:,} polygons on {given.side:,} x {given.side:,} pixels")
        for way, (seconds, cpu, memory) in results.items():
            ratio = seconds / results["gdal_rasterize"][0]
            print(f"  {way:18} {seconds:6.1f} s  {cpu:6.1f} s of CPU  {memory:6.0f} MiB  {ratio:5.2f}x")
        print(f"  pixels that differ: {differing(ours, theirs)}")


if __name__ == "__main__":
    main()
